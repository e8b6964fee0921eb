"""Feature files: which axis is time, how far apart the rows, what is refused."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import annotations, features
from data_pipeline.checks import check_records
from data_pipeline.dataset import feature_width, load_video
from svtas_jax.errors import InputError, MissingInputError


def write(path, array, **told):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    if told:
        path.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
    return path


def numbered(num_rows, width=5):
    """Row t holds t, t + 0.01, ..."""
    return np.arange(num_rows)[:, None] + 0.01 * np.arange(width, dtype=np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 400), st.integers(1, 12), st.booleans())
def test_time_is_the_axis_that_the_labels_fit(tmp_path_factory, rows, stride, turned):
    array = numbered(rows, width=1024)
    path = tmp_path_factory.mktemp("f") / "a.npy"
    write(path, array.T if turned else array)
    if features._frames_a_row(1024, rows * stride):
        with pytest.raises(InputError, match="either axis could be time"):
            features.probe(path, rows * stride)
        return
    file = features.probe(path, rows * stride)
    assert (file.num_rows, file.width, file.stride) == (rows, 1024, stride)
    assert file.time_axis == int(turned)
    reader = features.FeatureReader(str(path), file)
    for frame in (0, stride - 1, stride, rows * stride - 1, rows * stride + 3):
        row = min(frame // stride, rows - 1)
        np.testing.assert_array_equal(reader.frame(frame), array[row].astype("f4"))


def test_an_extraction_says_itself_how_it_lies(tmp_path):
    path = write(tmp_path / "a.npy", numbered(30, width=30), stride=4, fps=15.0)
    file = features.probe(path, 118)
    assert (file.num_rows, file.width, file.time_axis, file.stride) == (30, 30, 0, 4)
    assert file.fps == 15.0


@pytest.mark.parametrize(
    "array, told, labels, said",
    [
        (np.zeros((50, 7)), {}, 1000 * 64, "neither axis"),
        (np.zeros((50, 50)), {}, 100, "either axis"),
        (np.zeros(50), {}, 50, r"features are \(T, D\)"),
        (np.zeros((50, 7), int), {}, 50, "floating-point"),
        (np.zeros((50, 7)), {"stride": 0}, 50, "does not state"),
        (np.zeros((50, 7)), {"stride": 4}, 900, "50 rows, one per 4 frames"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, array, told, labels, said):
    path = write(tmp_path / "a.npy", array, **told)
    with pytest.raises(InputError, match=said) as error:
        features.probe(path, labels)
    assert "a." in str(error.value)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(MissingInputError, match="svtas_jax.extract"):
        features.probe(tmp_path / "none.npy", 9)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(InputError, match="cut.npy is not an .npy file"):
        features.probe(tmp_path / "cut.npy", 9)


@pytest.fixture
def feature_folder(folder):
    """Videos of 40 and 21 frames with features of every fourth frame."""
    for name, num_frames in (("one", 40), ("two", 21)):
        folder.add(name, num_frames)
        rows = numbered(-(-num_frames // 4))
        path = folder.root / "features" / f"{name}.npy"
        write(path, rows.astype(np.float16), stride=4, fps=15.0)
    folder.config.features = "features"
    return folder


def test_windows_hold_the_features_of_their_frames(feature_folder):
    records = annotations.read_split(feature_folder.config, "train")
    assert feature_width(records) == 5
    chunk = load_video(records[1], feature_folder.config)
    # 21 frames, 16 a chunk, every fourth: rows 0 to 3, then 4 and 5 and padding.
    assert chunk.frames.shape == (2, 4, 5) and chunk.frames.dtype == np.float32
    rows = chunk.frames[..., 0].round()
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3], [4, 5, 0, 0]])
    np.testing.assert_array_equal(chunk.valid[1], np.arange(16) < 5)


def test_features_that_are_not_finite_are_found_before_training(feature_folder):
    path = feature_folder.root / "features" / "two.npy"
    rows = np.load(path)
    rows[3, 1] = np.nan
    np.save(path, rows)
    records = annotations.read_split(feature_folder.config, "train")
    with pytest.raises(InputError, match=re.escape("first at (3, 1)")):
        check_records(records, ("take", "open jar", "gießen", "background"))
    with pytest.raises(InputError, match="row 3: the features are not finite"):
        load_video(records[1], feature_folder.config)


def test_features_of_two_widths_are_refused(feature_folder):
    path = feature_folder.root / "features" / "two.npy"
    np.save(path, np.zeros((6, 4), np.float32))
    records = annotations.read_split(feature_folder.config, "train")
    with pytest.raises(InputError, match="differ in width"):
        feature_width(records)
