"""F1 of borders: by hand, and against the assignment problem that it solves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from svtas_jax.evaluation.boundaries import BoundaryCounts, num_pairs
from svtas_jax.structs import IGNORE_LABEL

examples = settings(max_examples=100, deadline=None)
frames = st.lists(st.integers(1, 40), max_size=12, unique=True).map(sorted)


def computed(prediction, truth, fps=0.0):
    return (
        BoundaryCounts.zero([fps])
        .add(np.array(prediction), np.array(truth), fps)
        .compute()
    )


@examples
@given(frames, frames, st.sampled_from([0, 1, 2.5, 7, 100]))
def test_pairs_are_as_many_as_possible(predicted, true, limit):
    near = np.abs(np.subtract.outer(predicted, true)) <= limit
    near = near.reshape(len(predicted), len(true)).astype(int)
    rows, columns = linear_sum_assignment(near, maximize=True)
    assert num_pairs(predicted, true, limit) == near[rows, columns].sum()


def test_f1_by_hand():
    # True borders at 10 and 20; predicted at 12, 21 and 22: at 2 frames 2 of 3 hit.
    truth = [0] * 10 + [1] * 10 + [2] * 10
    prediction = [0] * 12 + [1] * 9 + [3] * 1 + [2] * 8
    found = computed(prediction, truth)
    assert found["boundary_f1_2_frames"] == pytest.approx(100 * 4 / 5)
    assert found["boundary_f1_15_frames"] == pytest.approx(100 * 4 / 5)


def test_tolerances_are_in_seconds_if_all_rates_are_known():
    truth, prediction = [0] * 10 + [1] * 20, [0] * 13 + [1] * 17  # 3 frames late
    assert computed(prediction, truth, fps=30.0) == {
        "boundary_f1_0.1s": 100.0,  # to the frame, in spite of rounding
        "boundary_f1_0.5s": 100.0,
        "boundary_f1_1s": 100.0,
    }
    assert computed(prediction, truth, fps=29.0)["boundary_f1_0.1s"] == 0
    assert not BoundaryCounts.zero([30.0, 0.0]).in_seconds


def test_labels_on_the_sides_do_not_count():
    assert set(computed([2, 2, 3, 3], [0, 0, 1, 1]).values()) == {100.0}


def test_a_border_beside_a_frame_without_label_does_not_count():
    truth = [0, 0, IGNORE_LABEL, 1, 1, 2]
    counts = BoundaryCounts.zero([0.0]).add(
        np.array([0, 0, 1, 1, 1, 2]), np.array(truth), 0.0
    )
    assert (counts.num_true, counts.num_predicted) == (1, 1)


def test_without_borders_there_is_no_score():
    assert all(map(math.isnan, computed([0, 0], [1, 1]).values()))
    assert set(computed([0, 1], [1, 1]).values()) == {0.0}
    assert all(map(math.isnan, BoundaryCounts.zero([]).compute().values()))


def test_counts_of_other_tolerances_are_not_merged():
    with pytest.raises(ValueError, match="other tolerances"):
        BoundaryCounts.zero([25.0]).merge(BoundaryCounts.zero([0.0]))
