import dataclasses

import numpy as np
import pytest

from data_pipeline import annotations, checks
from svtas_jax.errors import InputError
from svtas_jax.structs import VideoRecord


@pytest.fixture
def records(folder):
    folder.add("a", 30)
    folder.add("b", 20)
    return annotations.read_split(folder.config, "train")


CLASSES = ("take", "open jar", "gießen", "background")


def test_good_records_pass(records):
    checks.check_records(records, CLASSES)


def test_a_cut_video_is_found_before_training(folder, records):
    path = folder.root / "Videos" / "b.avi"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="b.avi is damaged.*of 20 expected"):
        checks.check_records(records, CLASSES)


def test_labels_outside_the_classes_are_named(records):
    with pytest.raises(InputError, match="'a' range from 0 to 3, but there are 2"):
        checks.check_records(records, CLASSES[:2])


def test_a_video_without_labels_is_named(records):
    empty = dataclasses.replace(records[0], labels=np.zeros(0, np.int32))
    with pytest.raises(InputError, match="'a' has no labelled frames"):
        checks.check_records([empty], CLASSES)


def test_a_repeated_video_is_named(records):
    with pytest.raises(InputError, match="'b' is listed 2 times"):
        checks.check_records([*records, records[1]], CLASSES)


def test_a_video_in_train_and_test_is_named(records):
    checks.check_disjoint(records[:1], records[1:], split=1)
    with pytest.raises(InputError, match="Split 2 has 1 videos in both.*'b'"):
        checks.check_disjoint(records, records[1:], split=2)


def test_the_description_counts_frames_and_segments():
    labels = np.array([0, 0, 2, 2, 2, 0], np.int32)
    records = [VideoRecord("a", "", labels, 15.0), VideoRecord("b", "", labels, 30.0)]
    first, _, most, *_, least = checks.describe(records, ("cut", "eat", "x")).split(
        "\n"
    )
    assert first == "2 videos, 12 frames at 15 30 fps, 6 segments"
    assert most.split() == ["cut", "6", "50.0%", "4"]
    assert least.split() == ["eat", "0", "0.0%", "0"]


@pytest.mark.parametrize(
    ("rates", "shown"),
    [
        ((15, 15, 30), "at 15 30 fps"),
        ((0,), "at unknown fps"),
        ((29.871, 30.036, 30.12, 30.2, 29.9), "at 29.87 to 30.2 fps"),
    ],
)
def test_rates_are_shown(rates, shown):
    records = [VideoRecord("a", "a.mp4", np.zeros(3, np.int32), r) for r in rates]
    assert shown in checks.describe(records, ("take",))
