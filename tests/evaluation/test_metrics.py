"""Metrics against golden values, by hand, and by what must always hold."""

import functools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.errors import InputError
from svtas_jax.evaluation import metrics, ranking
from svtas_jax.evaluation.metrics import SegmentCounts
from svtas_jax.structs import IGNORE_LABEL

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
GOLDEN_NAMES = {
    "acc": "Acc",
    "edit": "Edit",
    "f1_10": "F1@0.10",
    "f1_25": "F1@0.25",
    "f1_50": "F1@0.50",
    "auc": "Auc",
    "ar_1": "AR@AN1",
    "ar_5": "AR@AN5",
    "ar_15": "AR@AN15",
    "map_50": "mAP@0.5",
    "map_avg": "avg_mAP",
}
LABEL_METRICS = ("acc", "edit", "f1_10", "f1_25", "f1_50")
NUM_CLASSES = 4
BACKGROUND = (3,)
PERCENT_TOLERANCE = 1e-7  # absolute, in percent; the golden files ask for 1e-6
EXACT_TOLERANCE = 1e-9  # absolute, in percent: sums in another order

# No deadline: a busy machine is no error.
examples = settings(max_examples=80, deadline=None)


def golden_cases():
    index = json.loads((GOLDEN / "metrics.json").read_text())
    return [pytest.param(index, case, id=case["name"]) for case in index["cases"]]


def golden_video(arrays, case, video):
    prefix = f"{case['index']}/{video}"
    prediction, truth = arrays[f"{prefix}/pred"], arrays[f"{prefix}/gt"]
    return prediction, truth, arrays[f"{prefix}/scores"].T.astype(np.float64)


@pytest.mark.parametrize("index, case", golden_cases())
def test_compute_equals_golden(index, case):
    classes = index["classes"]
    background = metrics.background_classes(classes, index["background_names"])
    counts = SegmentCounts.zero(len(classes), background)
    with np.load(GOLDEN / "metrics.npz") as arrays:
        for video in range(case["videos"]):
            before = counts.ranked.recall_sum
            counts = counts.add(*golden_video(arrays, case, video))
            np.testing.assert_allclose(
                100 * (counts.ranked.recall_sum - before),
                arrays[f"{case['index']}/AR_at_AN"][:, video],
                rtol=0,
                atol=PERCENT_TOLERANCE,
            )
    computed = counts.compute()
    expected = {ours: case["metrics"][name] for ours, name in GOLDEN_NAMES.items()}
    assert computed == pytest.approx(expected, rel=0, abs=PERCENT_TOLERANCE)


def one_video(prediction, truth, scores=None, background=BACKGROUND):
    counts = SegmentCounts.zero(NUM_CLASSES, background)
    return counts.add(np.array(prediction), np.array(truth), scores)


def one_hot(labels):
    return np.eye(NUM_CLASSES)[labels]


def test_compute_of_a_case_done_by_hand():
    # True actions: 0 in [0, 4), 1 in [4, 8); then background.
    # Predicted: 0 in [0, 3), 1 in [3, 8), 2 in [8, 10): 2 hits, 1 false alarm.
    truth = [0] * 4 + [1] * 4 + [3] * 2
    prediction = [0] * 3 + [1] * 5 + [2] * 2
    computed = one_video(prediction, truth).compute()
    expected = {"acc": 70.0, "edit": 200 / 3, "f1_10": 80, "f1_25": 80, "f1_50": 80}
    # The edit distance is normalised by 3 + 1e-6 segments.
    assert computed == pytest.approx(expected, abs=2e-5)


def test_f1_gives_a_true_segment_to_one_prediction_only():
    # One true action of 10 frames, found in two halves: IoU 0.5 and 0.4.
    truth, prediction = [0] * 10, [0] * 5 + [3] + [0] * 4
    computed = one_video(prediction, truth).compute()
    assert computed["f1_10"] == pytest.approx(200 / 3)  # 1 hit, 1 false alarm
    assert computed["f1_50"] == pytest.approx(200 / 3)  # 0.5 reaches 0.50


def test_average_recall_by_hand():
    # Two true actions; the one with the higher score is right, the other misses.
    truth = np.array([0] * 4 + [3] * 2 + [1] * 4)
    prediction = np.array([0] * 4 + [2] * 2 + [3] * 4)
    scores = np.zeros((10, NUM_CLASSES))
    scores[:, 0], scores[:, 2] = 0.9, 0.4
    computed = one_video(prediction, truth, scores).compute()
    assert computed["ar_1"] == pytest.approx(50)
    assert computed["ar_5"] == pytest.approx(50)
    assert computed["auc"] == pytest.approx(50 * 99 / 100)  # 2 of 2 segments count 0


def test_average_precision_ranks_by_score():
    # Class 0 twice: a right segment (IoU 1) and a wrong one of lower score. Class 1
    # occurs and is missed, class 2 does not occur: both count 0 in the mean over 3.
    truth = np.array([0] * 4 + [1] * 4 + [3] * 4)
    prediction = np.array([0] * 4 + [3] * 4 + [0] * 4)
    scores = np.full((12, NUM_CLASSES), 0.5)
    scores[8:, 0] = 0.1
    right_first = one_video(prediction, truth, scores).compute()
    assert right_first["map_50"] == pytest.approx(100 / 3)
    scores[8:, 0] = 0.9
    wrong_first = one_video(prediction, truth, scores).compute()
    assert wrong_first["map_50"] == pytest.approx(100 / 3 / 2)
    assert wrong_first["map_avg"] == pytest.approx(100 / 3 / 2)


def test_add_leaves_out_frames_without_label():
    truth = np.array([0, 0, IGNORE_LABEL, 1, 1, IGNORE_LABEL])
    prediction = np.array([0, 0, 2, 1, 0, 2])
    kept = truth != IGNORE_LABEL
    scores = np.random.default_rng(0).normal(size=(6, NUM_CLASSES))
    whole = one_video(prediction, truth, scores).compute()
    assert whole == one_video(prediction[kept], truth[kept], scores[kept]).compute()
    assert whole["acc"] == 75.0


def test_add_of_a_video_without_any_label_changes_nothing():
    counts = one_video([0, 1], [0, 1])
    same = counts.add(np.zeros(3, int), np.full(3, IGNORE_LABEL))
    assert same.compute() == counts.compute()
    with pytest.raises(InputError, match="no labelled frame"):
        one_video([0], [IGNORE_LABEL]).compute()


def test_add_does_not_change_the_counts_it_starts_from():
    empty = SegmentCounts.zero(NUM_CLASSES, BACKGROUND)
    empty.add(np.array([0, 1]), np.array([0, 0]), np.zeros((2, NUM_CLASSES)))
    assert (
        empty.confusion.sum() == empty.ranked.recall_sum.sum() == empty.num_videos == 0
    )
    assert not empty.true_positives.any() and not empty.ranked.class_segments.any()


@pytest.mark.parametrize(
    "prediction, truth, scores, message",
    [
        ([0, 1], [0], None, r"must both be \(num_frames,\)"),
        ([0, 4], [0, 1], None, "prediction has labels 0 ... 4"),
        ([0, 1], [0, -1], None, "truth has labels -1 ... 0"),
        ([0, 1], [0, 1], np.zeros((2, 3)), r"scores \(2, 3\) must be \(2, 4\)"),
    ],
)
def test_add_rejects_what_does_not_fit(prediction, truth, scores, message):
    with pytest.raises(ValueError, match=message):
        one_video(prediction, truth, scores)


def test_zero_rejects_a_background_that_is_no_class():
    with pytest.raises(ValueError, match="background classes"):
        SegmentCounts.zero(3, (3,))


def test_compute_needs_scores_for_all_videos_or_none():
    labels = np.array([0, 1])
    counts = one_video(labels, labels, one_hot(labels)).add(labels, labels)
    with pytest.raises(ValueError, match="1 of 2 videos came with scores"):
        counts.compute()


def test_compute_has_exactly_the_named_keys():
    labels = np.array([0, 1])
    assert tuple(one_video(labels, labels).compute()) == LABEL_METRICS
    with_scores = one_video(labels, labels, one_hot(labels)).compute()
    assert tuple(with_scores) == tuple(GOLDEN_NAMES)


def test_frame_metrics_of_a_case_done_by_hand():
    # Recall of 0 is 3/4, of 1 is 0/1; classes 2 and 3 do not occur.
    counts = one_video([0, 1, 0, 0, 0], [0, 0, 0, 0, 1])
    assert metrics.frame_metrics(counts) == {
        "acc_balanced": pytest.approx(37.5),
        "segment_ratio": pytest.approx(3 / 2),
    }
    recall, precision = metrics.class_recall_precision(counts.confusion)
    np.testing.assert_allclose(recall, [0.75, 0, np.nan, np.nan])
    np.testing.assert_allclose(precision, [0.75, 0, np.nan, np.nan])


def test_background_classes_are_found_by_name():
    names = ["take", "None", "put", "background"]
    assert metrics.background_classes(names, ("background", "None")) == (1, 3)
    assert metrics.background_classes(names, ()) == ()


@st.composite
def videos(draw):
    """1 to 4 videos of up to 40 frames: prediction, truth, distinct scores.

    The truth is a sequence of runs; the prediction follows it, from wholly to hardly.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = draw(st.sampled_from((0.0, 0.1, 0.3, 1.0)))
    items = []
    for size in draw(st.lists(st.integers(1, 40), min_size=1, max_size=4)):
        runs = rng.integers(1, 12, size)
        truth = np.repeat(rng.integers(0, NUM_CLASSES, size), runs)[:size]
        prediction = np.roll(truth, rng.integers(-3, 4))
        wrong = rng.random(size) < noise
        prediction = np.where(wrong, rng.integers(0, NUM_CLASSES, size), prediction)
        items.append((prediction, truth, rng.random((size, NUM_CLASSES))))
    return items


def computed(items, background=BACKGROUND):
    counts = SegmentCounts.zero(NUM_CLASSES, background)
    for item in items:
        counts = counts.add(*item)
    return counts.compute() | metrics.frame_metrics(counts)


@examples
@given(videos())
def test_metrics_lie_between_0_and_100(items):
    values = computed(items)
    assert values.pop("segment_ratio") > 0
    assert all(0 <= v <= 100 + EXACT_TOLERANCE for v in values.values()), values
    assert values["f1_10"] >= values["f1_25"] >= values["f1_50"]
    assert values["map_50"] >= values["map_avg"] - EXACT_TOLERANCE


@examples
@given(videos())
def test_perfect_prediction_is_100(items):
    values = computed([(truth, truth, scores) for _, truth, scores in items])
    for name in (*LABEL_METRICS, "acc_balanced"):
        assert values[name] == pytest.approx(100, abs=EXACT_TOLERANCE)
    assert values["segment_ratio"] == 1


@examples
@given(videos(), st.permutations(range(NUM_CLASSES)))
def test_relabelling_the_classes_changes_nothing(items, new_of_old):
    new_of_old = np.array(new_of_old)
    old_of_new = np.argsort(new_of_old)
    renamed = [(new_of_old[p], new_of_old[t], s[:, old_of_new]) for p, t, s in items]
    background = tuple(new_of_old[list(BACKGROUND)].tolist())
    expected = computed(items)
    assert computed(renamed, background) == pytest.approx(expected, abs=EXACT_TOLERANCE)


@examples
@given(videos(), st.integers(0, 100))
def test_counts_of_parts_are_those_of_the_whole(items, split):
    parts = items[: split % len(items)], items[split % len(items) :]
    zero = SegmentCounts.zero(NUM_CLASSES, BACKGROUND)

    def counts(part):
        return functools.reduce(lambda sums, item: sums.add(*item), part, zero)

    merged, whole = counts(parts[0]).merge(counts(parts[1])), counts(items)
    np.testing.assert_array_equal(merged.confusion, whole.confusion)
    assert merged.num_videos == whole.num_videos
    expected = pytest.approx(whole.compute(), abs=EXACT_TOLERANCE)
    assert merged.compute() == expected


def test_counts_of_other_classes_are_not_merged():
    with pytest.raises(ValueError, match="other classes"):
        SegmentCounts.zero(3).merge(SegmentCounts.zero(4))


@examples
@given(videos(), st.randoms(use_true_random=False), st.booleans())
def test_order_of_videos_changes_nothing(items, random, tied):
    if tied:
        items = [(p, t, np.ones_like(s)) for p, t, s in items]
    shuffled = random.sample(items, len(items))
    expected = computed(items)
    assert computed(shuffled) == pytest.approx(expected, abs=EXACT_TOLERANCE)


def plain_levenshtein(a, b):
    rows = np.add.outer(np.arange(len(a) + 1), np.arange(len(b) + 1))
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            around = (
                rows[i - 1, j] + 1,
                rows[i, j - 1] + 1,
                rows[i - 1, j - 1] + (x != y),
            )
            rows[i, j] = min(around)
    return rows[-1, -1]


@examples
@given(*[st.lists(st.integers(0, 3), max_size=9)] * 2)
def test_edit_is_the_textbook_edit_distance(a, b):
    """A background frame after every action keeps equal neighbours apart."""
    length = 2 * max(1, len(a), len(b))

    def frames(actions):
        labels = [label for action in actions for label in (action, 4)]
        return np.array(labels + [4] * (length - len(labels)))

    counts = SegmentCounts.zero(5, (4,)).add(frames(a), frames(b))
    distance = plain_levenshtein(a, b) / max(1, len(a), len(b))
    # The public code's epsilon weighs 1e-4 percent at most.
    assert counts.compute()["edit"] == pytest.approx(100 * (1 - distance), abs=2e-4)


def brute_force_map(items):
    """Average precision with true segments that are taken at most once, in a loop."""
    total = np.zeros(len(ranking.PRECISION_OVERLAPS))
    for k in range(NUM_CLASSES - 1):
        found, num_true = [], 0
        for video, (prediction, truth, scores) in enumerate(items):
            found += [(score, video, s) for s, score in runs(prediction, k, scores)]
            num_true += len(runs(truth, k, scores))
        found.sort(key=lambda item: -item[0])
        for t, least in enumerate(ranking.PRECISION_OVERLAPS):
            taken, hits = set(), []
            for _, video, (start, end) in found:
                true = [s for s, _ in runs(items[video][1], k, items[video][2])]
                hit = None
                for a, b in true:
                    shared = min(end, b) - max(start, a)
                    iou = shared / (max(end, b) - min(start, a))
                    if iou >= least and (video, a) not in taken:
                        hit = (video, a)
                taken.add(hit)
                hits.append(hit is not None)
            total[t] += area(hits, num_true)
    return 100 * total / (NUM_CLASSES - 1)


def runs(labels, k, scores):
    edges = np.flatnonzero(np.diff(np.concatenate(([0], labels == k, [0]))))
    pairs = edges.reshape(-1, 2).tolist()
    return [((a, b), scores[a : b + 1, k].mean()) for a, b in pairs]


def area(hits, num_true):
    if not num_true:
        return 0.0
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / num_true


@examples
@given(videos())
def test_average_precision_equals_a_plain_loop(items):
    expected = brute_force_map(items)
    values = computed(items)
    assert values["map_50"] == pytest.approx(expected[0], abs=EXACT_TOLERANCE)
    assert values["map_avg"] == pytest.approx(expected.mean(), abs=EXACT_TOLERANCE)
