"""Which videos have a rate, and which only time stamps."""

import pathlib

import numpy as np
import pytest

from data_pipeline import pace, video
from svtas_jax.evaluation import measure
from svtas_jax.structs import VideoRecord

CASES = pathlib.Path(__file__).parent / "cases"


def test_a_variable_rate_is_known_by_its_times():
    times = pace.uneven_times(CASES / "vfr.mp4")
    np.testing.assert_array_equal(times, video.frame_times(CASES / "vfr.mp4"))
    assert times[64] == pytest.approx(5.3)


@pytest.mark.parametrize("name", ["half.mp4", "interl.mp4", "trim.mp4"])
def test_a_constant_rate_needs_no_decoding(name, monkeypatch):
    monkeypatch.delattr(video, "_read_times")
    assert pace.uneven_times(CASES / name) is None


def test_a_header_without_times_is_believed_until_frames_were_counted():
    assert pace.uneven_times(CASES / "browser1k.webm") is None
    video.frame_times(CASES / "browser1k.webm")
    assert pace.uneven_times(CASES / "browser1k.webm") is None  # even enough


def test_pictures_of_an_evaluation_have_a_time_axis():
    labels = np.array([0] * 60 + [1] * 30, np.int32)
    record = VideoRecord("vfr", str(CASES / "vfr.mp4"), labels, 9.0)
    shown, fps = measure._seen_over_time(record, measure._uneven_times(record))
    times = video.frame_times(CASES / "vfr.mp4")
    share = times[60] / times[-1]
    assert np.mean(labels[shown] == 0) == pytest.approx(share, abs=0.03)
    assert len(shown) / fps == pytest.approx(times[-1], abs=0.3)
