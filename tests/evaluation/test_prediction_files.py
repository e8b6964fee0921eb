"""Files of predictions as programs write them, and as they should not be."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import prediction_files, report

CLASSES = ("take", "pour", "background")
SPACED = ("take", "open jar", "gießen", "background")
LABELS = np.array([2, 2, 0, 0, 1, 2], np.int32)
SCORES = np.eye(3, dtype=np.float32)[LABELS] * 0.5


def names_of(labels, classes=CLASSES):
    return [classes[label] for label in labels]


def write(path, kind, labels=LABELS):
    names = names_of(labels)
    if kind == "lines":
        path.write_text("\n".join(names), encoding="utf-8")
    elif kind == "results":
        text = "### Frame level recognition: ###\n" + " ".join(names)
        path.write_text(text, encoding="utf-8")
    else:
        arrays = {
            "indices": labels.astype(np.int64),
            "scores": np.eye(3, dtype=np.float64)[labels],
            "scores of SVTAS": np.eye(3, dtype=np.float32)[labels].T,
        }
        np.save(path, arrays[kind])
    return path


@pytest.mark.parametrize(
    "name, kind",
    [
        ("a.txt", "lines"),
        ("a", "lines"),
        ("a-pred.txt", "lines"),
        ("a", "results"),
        ("a.txt", "results"),
        ("a.npy", "indices"),
        ("a.npy", "scores"),
        ("a.npy", "scores of SVTAS"),
    ],
)
def test_every_kind_is_found_and_read(tmp_path, name, kind):
    path = write(tmp_path / name, kind)
    (tmp_path / "a_stage0.png").touch()
    (tmp_path / "a-gt.txt").touch()
    assert prediction_files.videos_in(tmp_path) == {"a"}
    assert prediction_files.find(tmp_path, ["a"], advice=str) == {"a": path}
    found = prediction_files.read(path, CLASSES)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.labels.dtype == np.int32
    assert (found.scores is not None) == kind.startswith("scores")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_our_own_files_come_back(tmp_path, labels):
    path = report.write_predictions(tmp_path, "a", np.array(labels), SPACED)
    found = prediction_files.read(path, SPACED)
    np.testing.assert_array_equal(found.labels, labels)


def test_names_with_dots_are_whole(tmp_path):
    for name in ("P03.v1", "P03.v2"):
        write(tmp_path / f"{name}.txt", "lines")
    found = prediction_files.find(tmp_path, ["P03.v2"], advice=str)
    assert found == {"P03.v2": tmp_path / "P03.v2.txt"}


def test_the_last_frame_may_have_no_line_feed_and_files_a_bom(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbftake\r\npour")
    assert prediction_files.read(path, CLASSES).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "content, message",
    [
        ("take\nput\n", "a.txt, line 2: class 'put' is not in mapping.txt"),
        ("take\n\ntake\n", "line 2 is blank"),
        ("", "holds no labels"),
        ("0\n2\n", "line 1: '0' is a number.*NAME.npy"),
        ("take take pour\n", "line 1 names 3 classes. Write one a line"),
        ("### x ###\n", "has 1 lines; after '### x ###' there must be one"),
        ("### x ###\ntake pour\nmore\n", "has 3 lines"),
        ("### x ###\ntake put\n", "line 2: word 2, 'put', is not in mapping.txt"),
        (b"\xff\xfe\x00take", "is not UTF-8 text"),
        (b"### x ###\n\xff", "is not UTF-8 text"),
    ],
)
def test_a_bad_text_is_explained(tmp_path, content, message):
    path = tmp_path / "a.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        prediction_files.read(path, CLASSES)


def test_names_with_blanks_do_not_fit_on_one_line(tmp_path):
    path = tmp_path / "a"
    path.write_text("### x ###\ntake open jar\n")
    with pytest.raises(InputError, match="cannot hold names with blanks, such as 'ope"):
        prediction_files.read(path, SPACED)


BAD_SCORES = np.where(np.arange(6)[:, None] == 4, np.nan, SCORES)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.array([0, 3]), "class indices 0 to 3; mapping.txt has the classes 0 to 2"),
        (np.array([0, -100]), "class indices -100 to 0"),
        (np.zeros((6, 4)), r"shape \(6, 4\) and numbers of kind float64"),
        (np.zeros(6), r"shape \(6,\) and numbers of kind float64"),
        (np.zeros((6, 3), int), r"shape \(6, 3\) and numbers of kind int64"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.zeros((1, 6, 3)), r"shape \(1, 6, 3\)"),
        (BAD_SCORES, "frame 4: a score is NaN or infinite, as in 1 of 6 frames"),
    ],
)
def test_a_bad_array_is_explained(tmp_path, array, message):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(InputError, match=message):
        prediction_files.read(path, CLASSES)


def test_a_damaged_array_is_explained_and_runs_no_code(tmp_path):
    path = tmp_path / "a.npy"
    for content in (b"", b"\x93NUMPY", b"take\npour\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="a.npy is damaged or not a NumPy array"):
            prediction_files.read(path, CLASSES)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match="a.npy is damaged or not a NumPy array"):
        prediction_files.read(path, CLASSES)


def test_missing_files_are_listed(tmp_path):
    names = [f"v{n}" for n in range(8)]
    write(tmp_path / "v0", "lines")
    with pytest.raises(MissingInputError) as error:
        prediction_files.find(tmp_path, names, advice=lambda: "Look elsewhere.")
    assert str(error.value) == (
        f"{tmp_path} has no predictions for 7 of the 8 test videos: v1, v2, v3, v4, v5 "
        "and 2 more. Each needs one file: v1.txt or v1 or v1-pred.txt or v1.npy. "
        "Look elsewhere."
    )


def test_a_folder_above_or_none_is_said(tmp_path):
    for folders in (("split_1", "split_2"), ("predictions",)):
        for name in folders:
            (tmp_path / name).mkdir()
        message = f"Did you mean one of its folders: {', '.join(folders)}?"
        with pytest.raises(MissingInputError, match=re.escape(message)):
            prediction_files.find(tmp_path, ["a"], advice=str)
    with pytest.raises(MissingInputError, match="--predictions=.*x is not a folder"):
        prediction_files.find(tmp_path / "x", ["a"], advice=str)


def test_two_files_of_a_video_are_refused(tmp_path):
    write(tmp_path / "a.txt", "lines")
    write(tmp_path / "a.npy", "scores")
    with pytest.raises(InputError, match="a.txt and a.npy for the same video"):
        prediction_files.find(tmp_path, ["a"], advice=str)
