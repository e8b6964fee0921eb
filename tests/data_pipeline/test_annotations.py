import shutil

import numpy as np
import pytest

from data_pipeline import annotations, checks
from svtas_jax.config import default_config
from svtas_jax.errors import DamagedVideoError, InputError, MissingInputError


def _file(tmp_path, text):
    path = tmp_path / "file.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_mapping_is_ordered_by_id(tmp_path):
    path = _file(tmp_path, "1 open jar\n0 take\n2  gießen\n\n")
    assert annotations.read_mapping(path) == ("take", "open jar", "gießen")


def test_mapping_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "mapping.txt"
    path.write_bytes(b"\xef\xbb\xbf0 take\r\n1 open\r\n")
    assert annotations.read_mapping(path) == ("take", "open")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 a\n2 b\n", "id 1 is missing.*0 to 1"),
        ("1 a\n2 b\n", "id 0 is missing"),
        ("0 a\n0 b\n", "line 2: id 0 is given twice, to 'a' and to 'b'"),
        ("0 a\n1 a\n", "line 2: class 'a' is listed twice"),
        ("0 a\nb\n", "line 2: 'b' is not 'id name'"),
        ("0\n", "line 1: '0' is not 'id name'"),
        ("0 a\n\n1 b\n", "line 2 is blank"),
        ("", "names no class"),
    ],
)
def test_a_wrong_mapping_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=f"file.txt.*{message}"):
        annotations.read_mapping(_file(tmp_path, text))


def test_a_mapping_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "mapping.txt"
    path.write_bytes(b"0 caf\xe9\n")
    with pytest.raises(InputError, match="mapping.txt is not UTF-8 text"):
        annotations.read_mapping(path)


def test_labels_are_class_indices(tmp_path):
    labels = annotations.read_labels(_file(tmp_path, "b\nb\na\n"), ("a", "b"))
    np.testing.assert_array_equal(labels, [1, 1, 0])
    assert labels.dtype == np.int32


def test_an_unknown_class_is_named_with_its_line_and_a_guess(tmp_path):
    path = _file(tmp_path, "take\ntkae\n")
    with pytest.raises(InputError, match=r"line 2: class 'tkae'.*mean 'take'\?"):
        annotations.read_labels(path, ("take", "open"))


def test_an_empty_label_file_is_named(tmp_path):
    with pytest.raises(InputError, match="file.txt holds no labels"):
        annotations.read_labels(_file(tmp_path, "\n"), ("take",))


def test_split_names_lose_their_ending(tmp_path):
    path = _file(tmp_path, "S1_Tea.txt\nP 1.b\n")
    assert annotations.read_split_names(path) == ("S1_Tea", "P 1.b")


@pytest.mark.parametrize(
    ("text", "message"), [("", "lists no video"), ("a.txt\na\n", "'a' is listed twice")]
)
def test_a_wrong_split_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        annotations.read_split_names(_file(tmp_path, text))


def test_a_split_is_read(folder):
    folder.add("ein Film ß", 40)
    folder.add("b", 30, file="b.MP4")
    records = annotations.read_split(folder.config, "test")
    assert [record.name for record in records] == ["ein Film ß", "b"]
    assert [record.num_frames for record in records] == [40, 30]
    assert [record.fps for record in records] == [15.0, 15.0]
    assert records[1].video_path.endswith("b.MP4")
    assert records[0].labels[8] == 1
    assert annotations.class_names(folder.config)[1] == "open jar"


def test_the_other_split_spelling_is_read(folder):
    folder.add("a", 20)
    splits = folder.root / "splits"
    (splits / "train.split1.bundle").rename(splits / "train_split1.txt")
    assert len(annotations.read_split(folder.config, "train")) == 1


@pytest.mark.parametrize(
    ("num_frames", "num_labels", "expected"), [(40, 36, 36), (36, 40, 36), (24, 25, 24)]
)
def test_the_shorter_of_video_and_labels_counts(
    folder, num_frames, num_labels, expected
):
    folder.add("a", num_frames, num_labels=num_labels)
    (record,) = annotations.read_split(folder.config, "train")
    assert record.num_frames == expected
    assert not record.labels.flags.writeable


@pytest.mark.parametrize(("num_frames", "num_labels"), [(40, 23), (23, 40)])
def test_lengths_more_than_a_chunk_apart_are_named(folder, num_frames, num_labels):
    folder.add("a", num_frames, num_labels=num_labels)
    message = (
        f"a.avi has {num_frames} frames, but .*a.txt has {num_labels} lines: .*"
        "more than one chunk .*clip_frames=16"
    )
    with pytest.raises(InputError, match=message):
        annotations.read_split(folder.config, "train")
    folder.config.max_length_gap = 0.5
    (record,) = annotations.read_split(folder.config, "train")
    assert record.num_frames == 23


@pytest.mark.parametrize(
    ("num_frames", "num_labels", "cause"),
    [
        (40, 30, "labels at 11.25 and a video at 15 frames a second"),
        (20, 30, "labels at 22.5 and a video at 15 frames a second"),
        (30, 15, "labels at 7.5 and a video at 15 frames a second"),
        (40, 35, "they differ by 12 %"),
    ],
)
def test_lengths_too_far_apart_for_their_size_are_named(
    folder, num_frames, num_labels, cause
):
    folder.add("a", num_frames, num_labels=num_labels)
    with pytest.raises(InputError, match=f"max_length_gap=0.02.*{cause}|{cause}"):
        annotations.read_split(folder.config, "train")


def test_a_header_that_lies_is_not_believed(folder):
    path = folder.add("a", 60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])  # the header still says 60
    labels = folder.root / "groundTruth" / "a.txt"
    labels.write_text("take\n" * 55)
    (record,) = annotations.read_split(folder.config, "train")
    assert 50 < record.num_frames < 55
    labels.write_text("take\n" * 59)
    with pytest.raises(DamagedVideoError, match=r"a.avi is damaged.*5\d frames of 60"):
        annotations.read_split(folder.config, "train")


def _take_case(folder, case, num_labels):
    """Puts a file from the field into a data set."""
    name = case.stem
    folder.add(name, 1).unlink()
    shutil.copy(case, folder.root / "Videos" / case.name)
    labels = folder.root / "groundTruth" / f"{name}.txt"
    labels.write_text("take\n" * num_labels)


@pytest.mark.parametrize(
    ("file", "num_labels", "message"),
    [
        (
            "half.mp4",
            90,
            "half.mp4 has 45 frames, but .*half.txt has 90 lines.*"
            "labels at 15 and a video at 7.5 frames a second.*ffmpeg .*-r 15 ",
        ),
        ("half.mp4", 15, "labels at 2.5 and a video at 7.5 frames a second"),
        (
            "trim.mp4",
            66,
            "trim.mp4 has 49 frames, but .*66 lines: the file holds 66 frames, and its "
            "edit list hides 17 .*players show 49",
        ),
        ("vfr.mp4", 75, "labels at 7.5 and a video at 9 frames"),
    ],
)
def test_another_rate_and_hidden_frames_are_named(
    folder, cases, file, num_labels, message
):
    folder.config.clip_frames = 128
    _take_case(folder, cases / file, num_labels)
    with pytest.raises(InputError, match=message) as caught:
        annotations.read_split(folder.config, "train")
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "num_frames"),
    [
        ("interl.mp4", 90),
        ("coverfirst.mkv", 90),
        ("gap.mp4", 90),
        ("trim.mp4", 49),
        ("browser1k.webm", 90),
    ],
)
def test_files_from_the_field_have_their_labels(folder, cases, file, num_frames):
    _take_case(folder, cases / file, num_frames)
    (record,) = annotations.read_split(folder.config, "train")
    assert record.num_frames == num_frames
    checks.check_records([record], ("take",))


def test_features_of_another_length_are_named(folder):
    folder.add("a", 400)
    features = folder.root / "features"
    features.mkdir()
    np.save(features / "a.npy", np.zeros((160, 8), np.float32))
    (features / "a.json").write_text('{"stride": 2, "fps": 15}')
    folder.config.features = "features"
    with pytest.raises(InputError, match="160 rows, one per 2 .*400 labels.*18.75"):
        annotations.read_split(folder.config, "train")
    folder.config.max_length_gap = 0.2
    (record,) = annotations.read_split(folder.config, "train")
    assert record.num_frames == 320


def test_a_missing_root_tells_what_to_do():
    config = default_config().data
    config.root = "no/such folder"
    for dataset, source in (("gtea", "GTEA"), ("breakfast", "Breakfast"), ("x", "")):
        config.dataset = dataset
        with pytest.raises(MissingInputError) as caught:
            annotations.read_split(config, "train")
        message = str(caught.value)
        for part in ("no/such folder", "config.data.root", "mapping.txt", "Videos/"):
            assert part in message
        assert "configs/demo_sete.py" in message and source in message


def test_a_missing_split_is_named(folder):
    folder.add("a", 20)
    folder.config.split = 7
    with pytest.raises(
        MissingInputError, match="train.split7.bundle.*there are train.split1.bundle"
    ):
        annotations.read_split(folder.config, "train")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("mapping.txt", "mapping.txt does not exist"),
        ("groundTruth/a.txt", "a.txt does not exist"),
        ("Videos/a.avi", "video of 'a' is missing.*Videos/a.*mp4"),
    ],
)
def test_a_missing_file_is_named(folder, lost, message):
    folder.add("a", 20)
    (folder.root / lost).unlink()
    with pytest.raises(MissingInputError, match=message):
        annotations.read_split(folder.config, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "a.avi is empty"), (b"no video" * 99, "a.avi is damaged")],
)
def test_a_broken_video_is_named(folder, content, message):
    folder.add("a", 20).write_bytes(content)
    with pytest.raises(InputError, match=message):
        annotations.read_split(folder.config, "train")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("P03_cam01_P03_cereals", "P03/cam01/P03_cereals.avi"),
        ("P03_webcam02_P03_friedegg", "P03/webcam02/P03_friedegg.avi"),
        ("P03_stereo01_P03_cereals", "P03/stereo/P03_cereals_ch0.avi"),
        ("P03_stereo_P03_tea", "P03/stereo/P03_tea_ch0.avi"),
    ],
)
def test_breakfast_videos_are_found(folder, name, file):
    folder.config.layout = "breakfast"
    path = folder.add(name, 20, file=file)
    (record,) = annotations.read_split(folder.config, "train")
    assert record.video_path == str(path)


def test_a_name_that_is_not_of_breakfast_is_named(folder):
    folder.add("S1_Tea_C1", 20)
    folder.config.layout = "breakfast"
    with pytest.raises(InputError, match="S1_Tea_C1.*layout=flat"):
        annotations.read_split(folder.config, "train")
