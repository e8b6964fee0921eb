import os

import numpy as np
import pytest

from data_pipeline import video
from svtas_jax.errors import InputError, MissingInputError


@pytest.fixture(scope="module", params=["clip one.mp4", "фильм.avi", "clip.mkv"])
def clip(request, tmp_path_factory, numbered):
    path = tmp_path_factory.mktemp("vidéos") / request.param
    numbered.write(path, 90)
    return path


@pytest.mark.parametrize(
    "indices",
    [
        range(0, 90, 4),
        [89],
        [1, 3, 5, 77, 89],
        [50, 49, 3, 88, 0],
        [7, 7, 7],
        [60, -1, 2, -1],
        [-1],
        [],
    ],
)
def test_read_frames_gives_exactly_the_frames_asked_for(clip, indices, numbered):
    frames = video.read_frames(clip, indices)
    assert frames.shape == (len(indices), numbered.height, numbered.width, 3)
    assert frames.dtype == np.uint8
    for frame, index in zip(frames, indices, strict=True):
        if index == -1:
            assert not frame.any()
        else:
            assert numbered.number(frame) == index


def test_a_reader_goes_forward_and_back(clip, numbered):
    reader = video.FrameReader(str(clip))
    order = [0, 5, 6, 80, 3, 3, 4, 89, 0]
    assert [numbered.number(frame) for frame in reader.frames(order)] == order
    reader.close()
    assert numbered.number(reader.frame(12)) == 12
    reader.close()


def test_probe_and_count_agree(clip, numbered):
    promised = 0 if clip.suffix == ".mkv" else 90  # Matroska's header has no number
    assert video.probe_video(clip) == video.VideoInfo(
        promised, 15.0, numbered.width, numbered.height
    )
    assert video.count_frames(clip) == 90
    assert video.tail_is_readable(clip)


def test_colours_are_rgb(tmp_path):
    import cv2

    path = tmp_path / "red.avi"
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), codec, 10, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))  # OpenCV writes BGR
    writer.release()
    red, green, blue = video.read_frames(path, [0])[0, 16, 16].astype(int)
    assert red > 200 and green < 50 and blue < 50


def test_missing_video_is_named(tmp_path):
    path = tmp_path / "nowhere.mp4"
    for read in (video.probe_video, video.count_frames):
        with pytest.raises(MissingInputError, match="nowhere.mp4 does not exist"):
            read(path)
    with pytest.raises(InputError, match="is a folder; name a file"):
        video.probe_video(tmp_path)


def test_empty_video_is_named(tmp_path):
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(InputError, match=r"empty.mp4 is empty \(0 bytes\)"):
        video.probe_video(path)


def test_a_file_that_is_no_video_is_named(tmp_path, capfd):
    path = tmp_path / "notes.mp4"
    path.write_text("this is not a video\n" * 100)
    for read in (video.probe_video, video.count_frames):
        with pytest.raises(InputError, match="notes.mp4 is damaged.*re-encode"):
            read(path)
    assert not capfd.readouterr().err


def _cut(path, target, share):
    data = path.read_bytes()
    target.write_bytes(data[: int(share * len(data))])
    return target


def test_a_video_cut_in_the_middle_tells_how_much_was_read(tmp_path, numbered):
    path = tmp_path / "whole.avi"
    numbered.write(path, 60)
    assert video.tail_is_readable(path)
    cut = _cut(path, tmp_path / "cut.avi", 0.5)
    num_left = video.count_frames(cut)
    assert 10 < num_left < 50
    assert not video.tail_is_readable(cut)
    reader = video.FrameReader(str(cut), expected_frames=60)
    assert numbered.number(reader.frame(num_left - 2)) == num_left - 2
    with pytest.raises(InputError, match=f"{num_left} frames of 60 expected"):
        reader.frame(59)
    with pytest.raises(InputError, match=f"cut.avi.*{num_left} frames"):
        video.read_frames(cut, [0, 59])


def test_an_mp4_cut_before_its_index_cannot_be_opened(tmp_path, numbered):
    path = tmp_path / "whole.mp4"
    numbered.write(path, 60)
    cut = _cut(path, tmp_path / "cut.mp4", 0.7)
    with pytest.raises(InputError, match="cut.mp4 is damaged, cut off"):
        video.probe_video(cut)


def test_frames_before_the_first_do_not_exist(clip):
    with pytest.raises(InputError, match="Frame -1"):
        video.FrameReader(str(clip)).frame(-1)


def test_counts_are_remembered_until_the_file_changes(tmp_path, monkeypatch, numbered):
    path = tmp_path / "clip.avi"
    numbered.write(path, 20)
    counted = []
    read = video._read_times
    monkeypatch.setattr(
        video, "_read_times", lambda path: counted.append(path) or read(path)
    )
    assert [video.remembered_count(path) for _ in range(3)] == [20, 20, 20]
    assert len(counted) == 1
    np.testing.assert_allclose(video.frame_times(path), np.arange(20) / 15)
    assert len(counted) == 1
    numbered.write(path, 23)
    os.utime(path, ns=(1, 1))
    assert video.remembered_count(path) == 23
    for entry in (tmp_path / "cache").rglob("*"):
        if entry.is_file():
            entry.write_text("spoilt")
    assert video.remembered_count(path) == 23


def test_a_count_is_given_without_a_writable_cache(tmp_path, monkeypatch, numbered):
    path = tmp_path / "clip.avi"
    numbered.write(path, 20)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert video.remembered_count(path) == 20
