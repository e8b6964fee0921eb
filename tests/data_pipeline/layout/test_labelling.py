"""Frame labels by time stamps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.annotators.segments import Annotation, Segment
from data_pipeline.layout.labelling import UNLABELLED, Rules, frame_at, label_frames

INDEX = {"take": 0, "put": 1, "background": 2}
EVEN = np.arange(100) / 25


def annotation(*segments, unit="seconds"):
    found = tuple(
        Segment(*segment, where=f"a.csv, line {number}")
        for number, segment in enumerate(segments, 2)
    )
    return Annotation("a", unit, found, "a.csv")


def label(*segments, unit="seconds", times=EVEN, **rules):
    made = annotation(*segments, unit=unit)
    return label_frames(made, times, INDEX, Rules(**rules))


def kinds(findings):
    return [(finding.severity, finding.kind) for finding in findings]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.lists(st.floats(0.01, 0.2), min_size=120, max_size=120),
    st.floats(0, 0.45),
)
def test_rounded_times_of_any_rate_give_the_frames_back(lengths, steps, error):
    """Borders are off by less than half a frame, as a tool's rounding makes them."""
    times = np.concatenate([[0.0], np.cumsum(steps)])[: sum(lengths)]
    edges = np.concatenate([[0], np.cumsum(lengths)])
    ends = np.append(times, times[-1] + 1)
    names = ["take", "put"]
    segments = []
    for index, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        gap_s = min(np.diff(times, append=times[-1] + 0.04).min(), 0.2)
        shift = error * gap_s * (-1) ** index
        start_s = max(0.0, ends[start] + (shift if start else 0))
        end_s = ends[end] - (shift if end < len(times) else 0)
        segments.append((names[index % 2], start_s, end_s))
    labels, _ = label(*segments, times=times, overlap="last", beyond="cut")
    expected = np.repeat([INDEX[names[i % 2]] for i in range(len(lengths))], lengths)
    np.testing.assert_array_equal(labels, expected)


def test_a_variable_rate_is_labelled_by_time_not_by_number():
    times = np.concatenate([np.arange(30) / 30, 1 + np.arange(10) / 5])
    labels, found = label(("take", 0, 1.0), ("put", 1.0, 3.0), times=times)
    assert list(labels) == [0] * 30 + [1] * 10
    assert not found


def test_frame_numbers_are_taken_as_they_are():
    labels, found = label(("take", 0, 40), ("put", 40, 100), unit="frames")
    assert list(labels) == [0] * 40 + [1] * 60
    assert not found


def test_a_gap_is_an_error_with_its_place():
    labels, found = label(("take", 0, 1), ("put", 2, 4))
    assert kinds(found) == [("error", "gap")]
    assert "1.00 to 2.00 s (25 frames)" in found[0].text
    assert "--fill=background" in found[0].remedy
    assert set(labels[25:50]) == {UNLABELLED}


def test_gaps_at_both_ends_count():
    _, found = label(("take", 1, 3))
    assert [f.text for f in found] == [
        "no segment covers 0.00 to 1.00 s (25 frames)",
        "no segment covers 3.00 to 4.00 s (25 frames)",
    ]


def test_a_gap_is_filled_and_said():
    labels, found = label(("take", 0, 1), ("put", 2, 4), fill="background")
    assert list(labels) == [0] * 25 + [2] * 25 + [1] * 50
    assert kinds(found) == [("note", "filled gaps")]
    assert "1 gap, 1.00 s together" in found[0].text


def test_small_gaps_join_the_segment_before():
    labels, found = label(
        ("take", 0, 0.96), ("put", 1, 3), fill="background", close_gaps_s=0.1
    )
    assert list(labels) == [0] * 25 + [1] * 50 + [2] * 25
    assert kinds(found) == [("note", "closed gaps"), ("note", "filled gaps")]


def test_an_overlap_is_an_error_that_names_both():
    _, found = label(("take", 0, 2), ("put", 1, 4))
    assert kinds(found) == [("error", "overlap")]
    assert found[0].where == "a.csv, line 3"
    assert "a.csv, line 2" in found[0].text
    assert "25 frames" in found[0].text


def test_the_later_segment_counts_if_asked():
    labels, found = label(("put", 1, 2), ("take", 0, 4), overlap="last")
    assert list(labels) == [0] * 25 + [1] * 25 + [0] * 50
    assert kinds(found) == [("warning", "overlap")]


def test_every_overlap_with_a_long_segment_is_said():
    _, found = label(("take", 0, 4), ("put", 1, 2), ("put", 3, 3.5))
    assert kinds(found) == [("error", "overlap")] * 2


@pytest.mark.parametrize("unit, end", [("seconds", 9.0), ("frames", 130)])
def test_what_lies_beyond_the_end_is_an_error(unit, end):
    _, found = label(("take", 0, end), unit=unit)
    assert kinds(found) == [("error", "beyond the end")]
    labels, found = label(("take", 0, end), unit=unit, beyond="cut")
    assert kinds(found) == [("warning", "beyond the end")]
    assert set(labels) == {0}


def test_a_whole_segment_beyond_the_end_is_not_called_short():
    _, found = label(("take", 0, 4), ("put", 5, 6))
    assert kinds(found) == [("error", "beyond the end")]


def test_an_end_that_a_player_shows_is_the_end():
    """Sound often ends a little later than the film."""
    labels, found = label(("take", 0, 4.2))
    assert not found
    assert set(labels) == {0}


def test_a_segment_without_a_frame_is_said():
    labels, found = label(("take", 0, 2), ("put", 2, 2.004), ("take", 2, 4))
    assert kinds(found) == [("warning", "too short")]
    assert set(labels) == {0}


def test_a_moment_belongs_to_the_nearest_frame():
    times = np.array([0.0, 0.1, 0.5])
    assert list(frame_at([0, 0.04, 0.06, 0.1, 0.29, 0.31, 0.9], times)) == [
        *(0, 0, 1, 1, 1, 2, 3)
    ]


def test_a_video_of_one_frame_is_labelled():
    labels, found = label(("take", 0, 0.04), times=np.array([0.0]))
    assert list(labels) == [0]
    assert not found
