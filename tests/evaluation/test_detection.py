"""Average precision of detections: by hand, and against a plain loop."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.evaluation.detection import OVERLAPS, DetectionCounts

NUM_CLASSES, BACKGROUND = 4, (3,)
TOLERANCE = 1e-9  # absolute, in percent

examples = settings(max_examples=40, deadline=None)


def counts_of(items):
    counts = DetectionCounts.zero(NUM_CLASSES, BACKGROUND)
    for prediction, truth, scores in items:
        counts = counts.add(np.array(prediction), np.array(truth), scores)
    return counts


def sure(labels, values):
    """Returns scores that are `values` for the predicted classes, else 0."""
    return np.eye(NUM_CLASSES)[labels] * np.array(values, np.float64)[:, None]


def test_the_better_detection_counts_first():
    truth = [0] * 4 + [3] * 4
    prediction = [0] * 4 + [3] * 2 + [0] * 2
    right_first = sure(prediction, [0.9] * 4 + [1] * 2 + [0.2] * 2)
    wrong_first = sure(prediction, [0.2] * 4 + [1] * 2 + [0.9] * 2)
    assert counts_of([(prediction, truth, right_first)]).compute()["map_50"] == 100
    assert counts_of([(prediction, truth, wrong_first)]).compute()["map_50"] == 50


def test_without_scores_it_is_precision_times_recall():
    truth = [0] * 4 + [3] * 4 + [0] * 4
    prediction = [0] * 4 + [3] * 1 + [0] * 1 + [3] * 1 + [0] * 1 + [3] * 4
    found = counts_of([(prediction, truth, None)]).compute()
    assert found["map_50"] == pytest.approx(100 * (1 / 3) * (1 / 2))


def test_a_segment_takes_the_best_true_one_that_is_free():
    # Two true segments; the surer prediction overlaps both, at IoU 0.4 and 0.5.
    truth = [0] * 4 + [3] + [0] * 5
    prediction = [0] * 10
    found = counts_of([(prediction, truth, None)]).compute()
    assert found["map_40"] == found["map_50"] == 50
    assert found["map_60"] == 0


def test_classes_without_a_true_segment_do_not_count():
    # Class 1 is only predicted, class 2 not at all, class 3 is background.
    prediction, truth = [0, 0, 1, 1], [0, 0, 3, 3]
    assert counts_of([(prediction, truth, None)]).compute()["map_avg"] == 100


def test_without_true_segments_there_is_no_score():
    found = counts_of([([0, 3], [3, 3], None)]).compute()
    assert all(map(math.isnan, found.values()))


@st.composite
def videos(draw):
    """1 to 4 videos with scores that differ."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items = []
    for size in draw(st.lists(st.integers(2, 40), min_size=1, max_size=4)):
        runs = rng.integers(1, 9, size)
        truth = np.repeat(rng.integers(0, NUM_CLASSES, size), runs)[:size]
        truth[0] = 0
        wrong = rng.random(size) < draw(st.sampled_from((0.0, 0.1, 0.4)))
        prediction = np.where(wrong, rng.integers(0, 4, size), np.roll(truth, 1))
        items.append((prediction, truth, rng.random((size, NUM_CLASSES))))
    return items


def runs_of(labels, k):
    edges = np.flatnonzero(np.diff(np.concatenate(([0], labels == k, [0]))))
    return [tuple(pair) for pair in edges.reshape(-1, 2).tolist()]


def plain_precision(items, k, least):
    """Ranks all segments of a class, and lets each take a free true one."""
    found = []
    for video, (prediction, _, scores) in enumerate(items):
        for a, b in runs_of(prediction, k):
            found.append((scores[a:b, k].mean(), video, a, b))
    taken, hits = set(), []
    for _, video, start, end in sorted(found, reverse=True):
        best, choice = least, None
        for a, b in runs_of(items[video][1], k):
            shared = max(0, min(end, b) - max(start, a))
            overlap = shared / (end - start + b - a - shared)
            if overlap >= best and (video, a) not in taken:
                best, choice = overlap, (video, a)
        taken.add(choice)
        hits.append(choice is not None)
    num_true = sum(len(runs_of(truth, k)) for _, truth, _ in items)
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / num_true


@examples
@given(videos())
def test_average_precision_equals_a_plain_loop(items):
    found = counts_of(items).class_precision()
    for k in range(NUM_CLASSES - 1):
        if any((truth == k).any() for _, truth, _ in items):
            expected = [plain_precision(items, k, o / 100) for o in OVERLAPS]
            np.testing.assert_allclose(found[k], expected, rtol=0, atol=TOLERANCE)


@examples
@given(videos(), st.randoms(use_true_random=False), st.booleans())
def test_order_of_videos_changes_nothing(items, random, tied):
    if tied:
        items = [(p, t, None) for p, t, _ in items]
    shuffled = random.sample(items, len(items))
    expected = pytest.approx(counts_of(items).compute(), abs=TOLERANCE)
    assert counts_of(shuffled).compute() == expected
