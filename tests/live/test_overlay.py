"""Pictures with labels: what is drawn, and videos that are whole or not there."""

import dataclasses
import os
import resource

import av
import numpy as np
import pytest

from svtas_jax.errors import InputError
from svtas_jax.live import overlay, overlay_output
from svtas_jax.live.overlay import History, draw_overlay
from svtas_jax.live.overlay_output import OverlayWriter
from svtas_jax.live.results import Latency, StepResult
from svtas_jax.pages.colours import class_colours

NAMES = ("take", "gießen", "切る", "background", "pour the milk into the small bowl")
COLOURS = class_colours(NAMES)
SIZES = [(96, 128), (480, 640), (1080, 1920), (854, 480)]


def make_step(time_s=0.0, label=0, picture=None, **fields):
    return StepResult(
        source=0,
        frame=round(15 * time_s),
        time_s=time_s,
        label=NAMES[label],
        class_index=label,
        scores=np.full(len(NAMES), 0.2, np.float32),
        chunk=0,
        picture=picture,
        **fields,
    )


def history_of(*steps):
    history = History()
    for step in steps:
        history.add(step)
    return history


def draw(picture, *steps):
    return draw_overlay(picture, steps[-1], history_of(*steps), class_colours(NAMES))


def filled(size, level=128):
    return np.full((*size, 3), level, np.uint8)


def share_of(colour, image):
    return (image == colour).all(axis=-1).mean()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("level", [0, 255])
def test_the_upper_part_stays_and_the_panel_has_contrast(size, level):
    drawn = draw(filled(size, level), make_step(label=4))
    assert drawn.shape == (*size, 3) and drawn.dtype == np.uint8
    changed = np.flatnonzero((drawn != level).any(axis=(1, 2)))
    assert changed[0] > 0.6 * size[0]
    panel = drawn[changed[0] :]
    assert np.median(panel) < 60
    assert (panel > 220).all(axis=-1).any()


def test_the_picture_itself_is_not_changed():
    picture = filled((96, 128))
    draw(picture, make_step())
    assert (picture == 128).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_timeline_has_a_share_of_each_label_by_its_time(size):
    steps = [make_step(t / 4, int(t >= 60)) for t in range(80)]
    drawn = draw(filled(size, 0), *steps)
    counts = [(drawn == COLOURS[k]).all(axis=-1).sum(axis=1).max() for k in (0, 1)]
    assert counts[0] / counts[1] == pytest.approx(3, rel=0.2)


def test_the_timeline_grows_and_then_moves():
    def seen(last_s):
        steps = [make_step(t, 0 if t < 10 else 1) for t in range(last_s + 1)]
        return [share_of(COLOURS[k], draw(filled((480, 640)), *steps)) for k in (0, 1)]

    shares = {s: seen(s) for s in (5, 9, 20, 35, 60)}
    assert shares[5][0] < shares[9][0]
    assert shares[35][0] < shares[20][0]  # the first label moves out
    assert shares[60][0] == 0
    assert shares[20][1] < shares[35][1] < shares[60][1]


def test_a_gap_before_a_new_stream_is_left_empty():
    steps = [make_step(0.0), make_step(5.0), make_step(15.0, starts=True)]
    whole = [make_step(0.0), make_step(5.0), make_step(15.0)]
    with_gap, without = (draw(filled((480, 640)), *s) for s in (steps, whole))
    assert share_of(COLOURS[0], with_gap) < 0.6 * share_of(COLOURS[0], without)


def test_history_is_bounded_and_counts_what_was_dropped():
    steps = (make_step(n / 10, n % 2, dropped=1) for n in range(5000))
    history = history_of(*steps)
    assert len(list(history)) <= 302
    assert history.dropped == 5000


@pytest.mark.parametrize("what", ["label", "time", "lag", "dropped", "confidence"])
def test_every_figure_shows(what):
    changes = {
        "label": {"label": "gießen"},
        "time": {"time_s": 61.5},
        "lag": {"latency": Latency(compute_s=0.25)},
        "dropped": {"dropped": 7},
        "confidence": {"scores": np.full(len(NAMES), 0.9, np.float32)},
    }
    plain = make_step()
    other = dataclasses.replace(plain, **changes[what])
    for size in SIZES:
        drawn = [draw(filled(size), step) for step in (plain, other)]
        assert (drawn[0] != drawn[1]).any()


def test_text_never_leaves_its_space():
    for size in SIZES:
        capital = overlay._sizes_for(filled(size)).capital
        for space in (0, 20, 60, 300):
            cut = overlay._cut(NAMES[4], capital, space)
            assert overlay._width(cut, capital) <= space


def test_letters_that_opencv_4_cannot_draw_become_similar_ones(monkeypatch):
    monkeypatch.setattr(overlay, "_DRAWS_UNICODE", False)
    assert overlay._drawable("Käse gießen 切る") == "Kase giessen ??"
    draw(filled((96, 128)), make_step(label=2))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (20, 400), (400, 20)])
def test_odd_sizes_are_drawn_on(size):
    assert draw(filled(size), make_step(label=4)).shape == (*size, 3)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(InputError, match="uint8 RGB"):
        draw(picture, make_step())


def record(path, times_s, sizes=((64, 96),)):
    """Writes a video whose pictures get brighter, of these sizes in turn."""
    with OverlayWriter(path, class_colours(NAMES)) as writer:
        for n, time_s in enumerate(times_s):
            picture = filled(sizes[min(n, len(sizes) - 1)], 30 * n)
            writer.add(make_step(time_s, n % 2, picture))
        return writer.close()


def frames_of(path):
    """Returns the times in seconds, the pictures, and the length in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
        return [frame.time for frame in frames], pictures, container.duration / 1e6


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov", ".MP4"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pictures_come_back_at_their_times(tmp_path, monkeypatch, ending, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    monkeypatch.setattr(overlay_output, "_has", lambda name: name == codec)
    times_s = [0.0, 0.2669, 0.5339, 1.2, 3.0]
    path = record(tmp_path / f"a{ending}", times_s)
    assert os.listdir(tmp_path) == [f"a{ending}"]
    times, pictures, length_s = frames_of(path)
    assert times == pytest.approx(times_s, abs=1.1e-3)
    assert length_s == pytest.approx(4.8, abs=0.05)  # the last lasts as the one before
    levels = [picture[:20].mean() for picture in pictures]
    assert levels == pytest.approx([0, 30, 60, 90, 120], abs=6)


def test_times_that_stand_still_are_kept_in_order(tmp_path):
    times, _, _ = frames_of(record(tmp_path / "a.mp4", [0.5, 0.5, 0.5]))
    assert sorted(set(times)) == times


def test_sizes_are_even_and_that_of_the_first_picture(tmp_path):
    path = record(tmp_path / "a.mp4", [0, 1, 2], [(65, 97), (120, 40), (64, 96)])
    _, pictures, _ = frames_of(path)
    assert {picture.shape for picture in pictures} == {(64, 96, 3)}
    assert [p[:20].mean() for p in pictures] == pytest.approx([0, 30, 60], abs=6)


def test_the_returned_picture_is_the_drawn_one(tmp_path):
    step = make_step(0.0, 1, filled((64, 96)))
    with OverlayWriter(tmp_path / "a.mp4", class_colours(NAMES)) as writer:
        drawn = writer.add(step)
    assert (drawn == draw(filled((64, 96)), step)).all()


def test_without_pictures_there_is_no_video(tmp_path):
    assert record(tmp_path / "a.mp4", []) is None
    assert os.listdir(tmp_path) == []
    with OverlayWriter(tmp_path / "a.mp4", class_colours(NAMES)) as writer:
        with pytest.raises(InputError, match="no picture"):
            writer.add(make_step())


def test_an_older_video_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("older")
    with pytest.raises(RuntimeError, match="stop"):
        with OverlayWriter(path, class_colours(NAMES)) as writer:
            writer.add(make_step(0, 0, filled((64, 96))))
            raise RuntimeError("stop")
    assert os.listdir(tmp_path) == ["a.mp4"] and path.read_text() == "older"
    assert frames_of(record(path, [0, 1]))[0] == [0, 1]


def test_paths_that_cannot_be_are_refused_at_once(tmp_path):
    for name in ("a.avi", "a", "a.mp4.txt"):
        with pytest.raises(InputError, match="does not end in .mp4, .mkv, .mov"):
            OverlayWriter(tmp_path / name, class_colours(NAMES))
    with pytest.raises(InputError, match="none does not exist; create it"):
        OverlayWriter(tmp_path / "none" / "a.mp4", class_colours(NAMES))
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        OverlayWriter(tmp_path / "b.mp4", class_colours(NAMES))


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path, ending):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written.*--overlay"):
            with OverlayWriter(tmp_path / f"a{ending}", class_colours(NAMES)) as writer:
                for n in range(60):
                    writer.add(make_step(n / 10, 0, np.roll(noise, n, axis=0)))
                writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []
