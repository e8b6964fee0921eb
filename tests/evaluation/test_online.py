"""Online metrics by hand, and by what must always hold."""

import functools
import itertools
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.evaluation import online
from svtas_jax.evaluation.metrics import SegmentCounts
from svtas_jax.evaluation.online import OnlineCounts
from svtas_jax.structs import IGNORE_LABEL, labels_to_segments

NUM_CLASSES = 4
BACKGROUND = (3,)
FPS = 10.0
ROUNDING = 1e-9  # seconds or percent: sums in another order

# No deadline: a busy machine is no error.
examples = settings(max_examples=80, deadline=None)


def runs_of(*pairs):
    """Returns labels from pairs of a label and a number of frames."""
    return np.repeat(*np.array(pairs).T)


def one_hot(labels):
    return np.eye(NUM_CLASSES)[labels]


def measure(emitted, truth, *, delays_s=None, scores=None, fps=FPS):
    emitted = np.asarray(emitted)
    delays_s = np.zeros(len(emitted)) if delays_s is None else delays_s
    scores = one_hot(emitted) if scores is None else scores
    counts = OnlineCounts.zero(NUM_CLASSES, BACKGROUND)
    return counts.add(emitted, truth, scores, delays_s=delays_s, fps=fps).compute()


@st.composite
def labels(draw, *, shortest=1):
    """Segments of at least `shortest` frames, each of another class than the last."""
    steps = draw(st.lists(st.integers(1, NUM_CLASSES - 1), min_size=1, max_size=8))
    lengths = draw(
        st.lists(
            st.integers(shortest, shortest + 30),
            min_size=len(steps),
            max_size=len(steps),
        )
    )
    return np.repeat(np.cumsum(steps) % NUM_CLASSES, lengths)


@st.composite
def videos(draw):
    """Emitted labels, truth with ignored frames, scores with ties, delays and rate."""
    truth = draw(labels()).copy()
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    emitted = np.where(rng.random(len(truth)) < 0.7, truth, 0)
    start = rng.integers(len(truth))
    truth[start : start + draw(st.integers(0, 5))] = IGNORE_LABEL
    scores = rng.integers(0, 4, (len(truth), NUM_CLASSES)) / 4
    fps = draw(st.sampled_from([5.0, 12.5, 29.97]))
    delays_s = online.emission_delays(len(truth), draw(st.integers(0, 20)), fps)
    return emitted, truth, scores, delays_s, fps


def added(counts, video):
    emitted, truth, scores, delays_s, fps = video
    return counts.add(emitted, truth, scores, delays_s=delays_s, fps=fps)


@examples
@given(labels(), st.sampled_from([1.0, 15.0, 25.0, 29.97]))
def test_perfect_answers_without_delay_are_perfect(truth, fps):
    found = measure(truth, truth, fps=fps)
    for name in ("emission_delay_s", "flicker_per_min"):
        assert found[name] == 0
    actions = [s for s in labels_to_segments(truth) if s.label not in BACKGROUND]
    if actions:
        assert found["start_delay_median_s"] == found["start_delay_p95_s"] == 0
        assert found["start_missed"] == 0
        for name in ("frame_map", "instant_1s", "instant_2s", "instant_4s"):
            assert found[name] == 100
    if any(s.end < len(truth) for s in actions):
        assert found["end_delay_median_s"] == found["end_delay_p95_s"] == 0
        assert found["end_missed"] == 0
    for name in ("acc", "edit", "f1_10", "f1_25", "f1_50"):
        assert found[name] == pytest.approx(100)


@examples
@given(labels(shortest=12), st.integers(0, 11), st.sampled_from([10.0, 29.97]))
def test_labels_that_lag_by_d_frames_have_delay_d(truth, shift, fps):
    truth = np.concatenate([np.full(12, 3), truth])
    emitted = np.concatenate([np.full(shift, 3), truth])[: len(truth)]
    found = measure(emitted, truth, fps=fps)
    actions = [s for s in labels_to_segments(truth) if s.label not in BACKGROUND]
    if actions:
        for name in ("start_delay_median_s", "start_delay_p95_s"):
            assert found[name] == pytest.approx(shift / fps, abs=ROUNDING)
        assert found["start_missed"] == 0
    if any(s.end < len(truth) for s in actions):
        for name in ("end_delay_median_s", "end_delay_p95_s"):
            assert found[name] == pytest.approx(shift / fps, abs=ROUNDING)
        assert found["end_missed"] == 0


@examples
@given(labels(), st.integers(0, 40))
def test_right_labels_that_come_late_have_their_emission_delay(truth, frames):
    delays_s = np.full(len(truth), frames / FPS)
    found = measure(truth, truth, delays_s=delays_s)
    assert found["emission_delay_s"] == pytest.approx(frames / FPS, abs=ROUNDING)
    assert found["flicker_per_min"] == 0
    actions = [s for s in labels_to_segments(truth) if s.label not in BACKGROUND]
    if not actions:
        return
    assert found["start_delay_p95_s"] == pytest.approx(frames / FPS, abs=ROUNDING)
    assert found["start_missed"] == 0
    in_window = [min(20, s.end - s.start) for s in actions]
    in_time = [min(n, max(0, 21 - frames)) for n in in_window]
    expected = 100 * sum(in_time) / sum(in_window)
    assert found["instant_2s"] == pytest.approx(expected)


@examples
@given(st.lists(videos(), min_size=3, max_size=5), st.randoms(use_true_random=False))
def test_counts_can_be_merged_in_any_grouping(given_videos, random):
    none = OnlineCounts.zero(NUM_CLASSES, BACKGROUND)
    if all((video[1] == IGNORE_LABEL).all() for video in given_videos):
        return
    together = functools.reduce(added, given_videos, none).compute()
    parts = [added(none, video) for video in given_videos]
    random.shuffle(parts)
    while len(parts) > 1:
        index = random.randrange(len(parts) - 1)
        parts[index : index + 2] = [parts[index].merge(parts[index + 1])]
    merged = none.merge(parts[0]).compute()
    assert merged == pytest.approx(together, abs=ROUNDING, nan_ok=True)


@examples
@given(videos())
def test_waiting_longer_never_looks_better(video):
    emitted, truth, scores, delays_s, fps = video
    if (truth == IGNORE_LABEL).all():
        return
    soon, late = (
        measure(emitted, truth, scores=scores, delays_s=d, fps=fps)
        for d in (delays_s, delays_s + 0.5)
    )
    for name in soon:
        if name.endswith("_s") and not math.isnan(soon[name]):
            assert late[name] == pytest.approx(soon[name] + 0.5)
        elif name.startswith("instant"):
            assert math.isnan(soon[name]) or late[name] <= soon[name]
        else:
            assert late[name] == pytest.approx(soon[name], nan_ok=True)


@examples
@given(videos())
def test_metrics_of_labels_are_those_of_segment_counts(video):
    emitted, truth, *_ = video
    if (truth == IGNORE_LABEL).all():
        return
    found = added(OnlineCounts.zero(NUM_CLASSES, BACKGROUND), video).compute()
    labels_only = SegmentCounts.zero(NUM_CLASSES, BACKGROUND).add(emitted, truth)
    assert labels_only.compute().items() <= found.items()


def test_delays_by_hand():
    truth = runs_of((3, 10), (0, 20), (1, 20), (3, 10), (2, 10))
    #        0 from 14 on, left at 33; 1 never; 2 three frames early, up to the end
    emitted = runs_of((3, 14), (0, 19), (3, 24), (2, 13))
    found = measure(emitted, truth, delays_s=np.full(70, 0.2))
    assert found["start_delay_median_s"] == pytest.approx((0.6 + 0.2) / 2)
    assert found["start_delay_p95_s"] == pytest.approx(0.2 + 0.95 * 0.4)
    assert found["start_missed"] == pytest.approx(100 / 3)
    assert found["end_delay_median_s"] == pytest.approx(0.5)  # 0's; 2 has none
    assert found["end_missed"] == 0
    assert found["flicker_per_min"] == pytest.approx((3 - 4) / 7 * 60)
    # Of the first second: 6 of 0's frames are right, the last of them 0.1 s too late;
    # of 2's, the last is too late.
    assert found["instant_1s"] == pytest.approx(100 * (5 + 0 + 9) / 30)
    assert found["instant_2s"] == pytest.approx(100 * (15 + 0 + 10) / 50)


def test_a_label_that_stays_until_its_action_comes_again_misses_the_end():
    truth = runs_of((0, 10), (1, 5), (0, 10), (3, 5))
    found = measure(runs_of((0, 28), (3, 2)), truth)
    assert found["start_missed"] == pytest.approx(100 / 3)
    assert found["end_missed"] == pytest.approx(50)  # 1 was not found
    assert found["end_delay_median_s"] == pytest.approx(0.3)
    stays = measure(np.zeros(30, int), truth)
    assert stays["end_missed"] == 100 and math.isnan(stays["end_delay_median_s"])


def test_borders_beside_ignored_frames_are_not_measured():
    truth = runs_of((0, 10), (IGNORE_LABEL, 10), (1, 20), (3, 10))
    emitted = runs_of((0, 12), (3, 15), (1, 18), (3, 5))
    found = measure(emitted, truth)
    assert found["start_delay_p95_s"] == 0  # of 0 alone
    assert found["end_delay_median_s"] == pytest.approx(0.5)  # of 1 alone
    assert found["instant_2s"] == 100
    assert found["start_missed"] == 0
    assert found["flicker_per_min"] == pytest.approx(60 / 4)  # 1 more in 40 frames
    unknown = OnlineCounts.zero(NUM_CLASSES).add(
        *([0], [IGNORE_LABEL], np.ones((1, NUM_CLASSES))), delays_s=[0.0], fps=FPS
    )
    with pytest.raises(InputError, match="no labelled frame"):
        unknown.compute()


def test_without_actions_there_is_nothing_to_measure():
    found = measure([3, 0, 3], [3, 3, 3])
    for name in ("frame_map", "start_delay_p95_s", "end_missed", "instant_1s"):
        assert math.isnan(found[name])
    assert found["flicker_per_min"] == pytest.approx(2 / 0.3 * 60)


def test_average_precision_by_hand():
    hits = np.array([True, False, True, False])
    found = online.average_precision(np.array([0.9, 0.8, 0.7, 0.1]), hits)
    assert found == pytest.approx((1 + 2 / 3) / 2)
    # The second and third are one step: two of three are right there.
    found = online.average_precision(np.array([0.9, 0.7, 0.7, 0.1]), hits)
    assert found == pytest.approx((1 + 2 / 3) / 2)
    assert online.average_precision(np.zeros(4), hits) == pytest.approx(0.5)


@examples
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_average_precision_does_not_depend_on_the_order(items, random):
    items.append((3, True))
    scores, hits = (np.array(part) for part in zip(*items, strict=True))
    random.shuffle(items)
    again, hits_again = (np.array(part) for part in zip(*items, strict=True))
    found = online.average_precision(scores, hits)
    assert found == online.average_precision(again, hits_again)
    assert 0 < found <= 1 + ROUNDING


def test_frame_map_leaves_background_and_absent_classes_out():
    truth = np.array([0, 0, 1, 3])
    scores = np.array(
        [[0.9, 0.1, 1, 0], [0.2, 0.3, 1, 0], [0.5, 0.4, 1, 0], [0.1, 0.2, 1, 0]]
    )
    found = measure(truth, truth, scores=scores)
    assert found["frame_map"] == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1) / 2)


@pytest.mark.parametrize(
    "frames_at_once, expected",
    [(1, [0] * 7), (3, [2, 1, 0, 2, 1, 0, 0]), (0, range(6, -1, -1)), (50, None)],
)
def test_emission_delays_by_hand(frames_at_once, expected):
    found = online.emission_delays(7, frames_at_once, 10.0)
    expected = range(6, -1, -1) if expected is None else expected
    np.testing.assert_allclose(found, np.array(expected) / 10.0)


@examples
@given(st.integers(1, 99), st.integers(0, 40), st.sampled_from([5.0, 29.97]))
def test_all_frames_of_a_chunk_are_answered_together(num_frames, at_once, fps):
    delays_s = online.emission_delays(num_frames, at_once, fps)
    moments = np.arange(num_frames) + delays_s * fps
    size = at_once or num_frames
    for first, chunk in itertools.groupby(range(num_frames), lambda i: i // size):
        last = list(chunk)[-1]
        np.testing.assert_allclose(moments[first * size : last + 1], last)


def test_frames_per_answer_follows_the_config():
    config = default_config()
    assert online.frames_per_answer(config) == config.data.clip_frames
    config.data.clip_frames = 0
    assert online.frames_per_answer(config) == 0
    config.model.causal = True
    assert online.frames_per_answer(config) == 1
    said = [online.describe_answers(n) for n in (0, 1, 4)]
    assert said == ["at the video's end", "every frame", "every 4 frames"]


def test_unknown_frame_rate_is_refused():
    known = types.SimpleNamespace(video_path="a.npy", fps=15.0)
    unknown = types.SimpleNamespace(video_path="b.npy", fps=0.0)
    online.check_rates([known])
    with pytest.raises(InputError, match=r"frame rate of b\.npy is unknown"):
        online.check_rates([known, unknown])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"scores": np.ones((2, 4))}, "scores"),
        ({"scores": np.full((3, 4), np.nan)}, "NaN"),
        ({"delays_s": np.zeros(2)}, "delays_s"),
        ({"delays_s": np.array([0, -0.1, 0])}, "at least 0"),
        ({"delays_s": np.array([0, np.inf, 0])}, "finite"),
        ({"delays_s": np.array([0, np.nan, 0])}, "finite"),
        ({"fps": 0.0}, "fps"),
        ({"fps": math.inf}, "fps"),
    ],
)
def test_wrong_input_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        measure([0, 1, 2], [0, 1, 2], **changes)


def test_counts_of_other_classes_cannot_be_merged():
    with pytest.raises(ValueError, match="other classes"):
        OnlineCounts.zero(3).merge(OnlineCounts.zero(4))
