"""True labels without videos."""

import numpy as np
import pytest

from data_pipeline import annotations, truth
from data_pipeline.prepared.index import Index, IndexEntry, write_index
from svtas_jax.config import default_config
from svtas_jax.errors import InputError, MissingInputError


@pytest.fixture
def config(tmp_path):
    """Labels of two videos that are not there, in one of two splits."""
    for name in ("groundTruth", "splits"):
        (tmp_path / name).mkdir()
    (tmp_path / "mapping.txt").write_text("0 take\n1 put\n")
    (tmp_path / "groundTruth" / "a.txt").write_text("take\nput\nput\n")
    (tmp_path / "groundTruth" / "b.txt").write_text("put\n")
    (tmp_path / "splits" / "test.split1.bundle").write_text("b.txt\na.txt\n")
    data = default_config().data
    data.root = str(tmp_path)
    return data


def test_labels_are_read_in_the_split_s_order(config, tmp_path):
    found = truth.read_truth(config, "test")
    assert [t.name for t in found] == ["b", "a"]
    np.testing.assert_array_equal(found[1].labels, [0, 1, 1])
    assert found[1].fps == 0
    assert found[1].path == str(tmp_path / "groundTruth" / "a.txt")


def test_a_split_may_name_videos_that_are_not_there(config, tmp_path):
    (tmp_path / "splits" / "test.split1.bundle").write_text("a.mp4\nb.avi\n")
    assert [t.name for t in truth.read_truth(config, "test")] == ["a", "b"]
    with pytest.raises(MissingInputError):
        annotations.split_names(config, "test")


def test_a_video_listed_twice_is_refused(config, tmp_path):
    (tmp_path / "splits" / "test.split1.bundle").write_text("a.mp4\na.txt\n")
    with pytest.raises(InputError, match="are the same video"):
        truth.read_truth(config, "test")


def test_missing_labels_are_named(config, tmp_path):
    (tmp_path / "groundTruth" / "a.txt").unlink()
    with pytest.raises(MissingInputError, match="a.txt does not exist"):
        truth.read_truth(config, "test")


def test_prepared_data_have_labels_and_rates(tmp_path, config):
    splits = {1: {"train": ("a",), "test": ("b",)}}
    entries = {
        name: IndexEntry(name, 25.0, runs, 0, 1)
        for name, runs in (("a", ((0, 2),)), ("b", ((1, 2), (0, 1))))
    }
    index = Index("video", 0, (0, 0), 0, ("take", "put"), splits, entries)
    write_index(tmp_path / "prepared", index)
    config.root = str(tmp_path / "prepared")
    (found,) = truth.read_truth(config, "test")
    assert (found.name, found.fps) == ("b", 25.0)
    np.testing.assert_array_equal(found.labels, [1, 1, 0])
