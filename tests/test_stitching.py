"""Stitching is copying: everything here is exact."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax import stitching
from svtas_jax.structs import Segment, StreamSpec, labels_to_segments

GOLDEN = pathlib.Path(__file__).parent / "golden" / "stream_score_post_processing.npz"


def golden_videos():
    """Yields the windows (N, F, K), the hop, and the stitched scores and labels."""
    with np.load(GOLDEN) as data:
        for index, case in enumerate(json.loads(str(data["meta_json"]))["cases"]):
            chunks = [
                data[f"{index}/{i}/scores"][-1] for i in range(case["sliding_num"])
            ]
            windows = np.moveaxis(np.stack(chunks), 2, 3)  # (N, B, F, K), last stage
            for video in range(len(case["lengths"])):
                out = f"{index}/out/{video}"
                hop = case["sliding_window"]
                yield windows[:, video], hop, data[f"{out}/score"], data[f"{out}/pred"]


@pytest.mark.parametrize("windows, hop, score, labels", list(golden_videos()))
def test_stitch_frames_equals_golden(windows, hop, score, labels):
    stitched = stitching.stitch_frames(windows, num_frames=len(labels), hop=hop)
    np.testing.assert_array_equal(stitched.T, score)
    np.testing.assert_array_equal(stitching.logits_to_labels(stitched), labels)


def test_stitch_steps_repeats_steps_and_cuts_at_true_length():
    scores = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)
    stitched = stitching.stitch_steps(
        scores, num_frames=9, spec=StreamSpec(clip_frames=6, frame_stride=2)
    )
    assert stitched.dtype == np.float32
    steps = [0, 0, 1, 1, 2, 2, 3, 3, 4]
    np.testing.assert_array_equal(stitched, scores.reshape(6, 2)[steps])


def test_stitch_steps_prefers_the_later_window_where_they_overlap():
    scores = np.array([[[0.0], [1.0]], [[2.0], [3.0]]])
    spec = StreamSpec(clip_frames=4, frame_stride=2, hop_frames=2)
    stitched = stitching.stitch_steps(scores, num_frames=6, spec=spec)
    np.testing.assert_array_equal(stitched[:, 0], [0, 0, 2, 2, 3, 3])


@pytest.mark.parametrize(
    "shape, num_frames, hop", [((2, 4, 3), 9, 4), ((0, 4, 3), 1, 4), ((3, 4, 3), 9, 5)]
)
def test_stitch_frames_rejects_windows_that_leave_a_gap(shape, num_frames, hop):
    with pytest.raises(ValueError, match="do not cover"):
        stitching.stitch_frames(np.zeros(shape), num_frames=num_frames, hop=hop)


def test_logits_to_labels_gives_ties_to_the_first_class():
    labels = stitching.logits_to_labels(np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]))
    np.testing.assert_array_equal(labels, [0, 1])


def test_logits_to_confidence_is_the_softmax_of_the_best_class():
    logits = np.array([[0.0, np.log(3.0)], [0.0, 0.0], [500.0, -500.0]])
    confidence = stitching.logits_to_confidence(logits)
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, [0.75, 0.5, 1.0], rtol=1e-6)


def test_labels_to_segments_of_a_hand_made_case():
    assert labels_to_segments(np.array([4, 4, 0, 4])) == [
        Segment(4, 0, 2),
        Segment(0, 2, 3),
        Segment(4, 3, 4),
    ]
    assert labels_to_segments(np.array([], int)) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_labels_to_segments_tiles_the_video_with_maximal_runs(labels):
    segments = labels_to_segments(np.array(labels))
    rebuilt = [s.label for s in segments for _ in range(s.start, s.end)]
    assert rebuilt == labels
    assert all(
        a.end == b.start and a.label != b.label
        for a, b in zip(segments, segments[1:], strict=False)
    )
