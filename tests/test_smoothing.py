"""Smoothing: what it may change, what it must not, and the delay that it reports."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.errors import InputError
from svtas_jax.runtime import cli
from svtas_jax.smoothing import NUM_DELAYS, Delays, Smoother, Smoothing, smooth_labels

NUM_CLASSES = 3
CLOSE_S = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    label: int
    scores: np.ndarray
    time_s: float
    starts: bool = False

    @property
    def confidence(self):
        return float(self.scores[self.label])


def make_step(time_s, scores, *, starts=False):
    return Step(int(np.argmax(scores)), np.asarray(scores, np.float32), time_s, starts)


def sure(label, confidence=0.8):
    """Returns scores in which a label has this confidence, and the others the rest."""
    scores = np.full(NUM_CLASSES, (1 - confidence) / (NUM_CLASSES - 1))
    scores[label] = confidence
    return scores


def stream(labels, step_s=0.1):
    """Returns steps of sure labels, one every `step_s` seconds."""
    return [make_step(n * step_s, sure(k)) for n, k in enumerate(labels)]


def run(smoothing, steps):
    """Returns the labels shown, and the smoother."""
    smoother = Smoother(smoothing)
    shown = [
        smoother.update(step.label, step.scores, step.time_s, starts=step.starts)
        for step in steps
    ]
    return shown, smoother


def shown(smoothing, steps):
    return run(smoothing, steps)[0]


@st.composite
def streams(draw, restarts=True):
    """Streams of any scores and step times, with new beginnings."""
    weights = st.lists(st.floats(0.01, 1), min_size=NUM_CLASSES, max_size=NUM_CLASSES)
    steps, time_s = [], 0.0
    for number in range(draw(st.integers(1, 40))):
        scores = np.array(draw(weights))
        starts = number == 0 or restarts and draw(st.integers(0, 9)) == 0
        steps.append(make_step(time_s, scores / scores.sum(), starts=starts))
        time_s += draw(st.sampled_from((1 / 30, 0.1, 0.25, 1.0)))
    return steps


rules = st.builds(
    Smoothing,
    st.sampled_from((0.0, 0.1, 0.3, 1.0)),
    st.sampled_from((0.0, 0.4, 0.6)),
    st.sampled_from((0.0, 0.1, 0.3)),
)


@given(streams())
def test_off_changes_nothing(steps):
    assert Smoothing().is_off
    labels, smoother = run(Smoothing(), steps)
    assert labels == [step.label for step in steps]
    assert smoother.summary.max_s == 0


def test_off_changes_nothing_where_scores_are_not_numbers():
    steps = [make_step(0.0, sure(0)), make_step(0.1, [math.nan] * 3)]
    steps.append(make_step(0.2, sure(2)))
    assert shown(Smoothing(), steps) == [step.label for step in steps]


def test_the_rules_that_are_on_have_the_names_of_their_flags():
    assert Smoothing(hysteresis=0.2).rules == {"hysteresis": 0.2}
    assert list(Smoothing(1.0, 0.5, 0.2).rules) == list(cli.SMOOTHING)


@given(rules, streams(restarts=False))
def test_a_video_is_smoothed_as_its_stream_is(smoothing, steps):
    labels = np.array([step.label for step in steps])
    scores = np.stack([step.scores for step in steps])
    times_s = np.array([step.time_s for step in steps])
    whole = smooth_labels(labels, scores, times_s, smoothing)
    assert whole.dtype == np.int32
    assert whole.tolist() == shown(smoothing, steps)


@settings(max_examples=40)
@given(rules, streams(), streams())
def test_later_steps_never_change_an_answer(smoothing, steps, others):
    for count in range(1, len(steps)):
        mixed = steps[:count] + others[count:]
        assert (
            shown(smoothing, mixed)[:count] == shown(smoothing, steps[:count])[:count]
        )


@given(rules, streams())
def test_shown_segments_last_at_least_the_minimum_duration(smoothing, steps):
    labels, begin_s = shown(smoothing, steps), steps[0].time_s
    for number in range(1, len(steps)):
        step = steps[number]
        if step.starts:
            begin_s = step.time_s
        elif labels[number] != labels[number - 1]:
            assert step.time_s - begin_s >= smoothing.min_duration_s - CLOSE_S
            begin_s = step.time_s


@given(rules, streams())
def test_a_new_label_satisfies_every_rule_at_the_step_that_shows_it(smoothing, steps):
    labels = shown(smoothing, steps)
    for number in range(1, len(steps)):
        step, before = steps[number], labels[number - 1]
        if step.starts or labels[number] == before:
            continue
        assert labels[number] == step.label
        gain = step.confidence - float(step.scores[before])
        assert step.confidence >= smoothing.min_confidence
        assert gain > smoothing.hysteresis or not smoothing.hysteresis


@given(rules, streams())
def test_a_label_that_satisfies_every_rule_is_not_held_back(smoothing, steps):
    labels, since_s = shown(smoothing, steps), 0.0
    for number, (label, step) in enumerate(zip(labels, steps, strict=True)):
        if step.starts or step.label != steps[number - 1].label:
            since_s = step.time_s
        if label != step.label:
            gain = step.confidence - float(step.scores[label])
            assert (
                step.time_s - since_s < smoothing.min_duration_s
                or step.confidence < smoothing.min_confidence
                or gain <= smoothing.hysteresis
            )


@given(rules, streams())
def test_a_beginning_forgets_what_was_before(smoothing, steps):
    labels = shown(smoothing, steps)
    for number, step in enumerate(steps):
        if step.starts:
            assert labels[number] == step.label
            assert labels[number:] == shown(smoothing, steps[number:])


@given(rules, streams())
def test_delays_are_those_of_the_shown_changes(smoothing, steps):
    labels, smoother = run(smoothing, steps)
    expected, since_s = [], 0.0
    for number, (label, step) in enumerate(zip(labels, steps, strict=True)):
        if step.starts or step.label != steps[number - 1].label:
            since_s = step.time_s
        if number and label != labels[number - 1] and not step.starts:
            expected.append(step.time_s - since_s)
    assert list(smoother.delays_s) == pytest.approx(expected)
    assert smoother.summary.number == len(expected)
    assert smoother.summary.max_s == pytest.approx(max(expected, default=0))
    mean_s = sum(expected) / max(1, len(expected))
    assert smoother.summary.mean_s == pytest.approx(mean_s)


def test_minimum_duration_shows_a_label_late_and_leaves_out_a_short_one():
    steps = stream([0, 0, 1, 0, 0, 2, 2, 2, 2, 2])
    labels, smoother = run(Smoothing(min_duration_s=0.3), steps)
    assert labels == [0, 0, 0, 0, 0, 0, 0, 0, 2, 2]
    assert smoother.summary.number == 1
    assert smoother.summary.max_s == pytest.approx(0.3)


def test_confidence_gate_waits_for_a_sure_label():
    sureness = [(0, 0.9), (1, 0.5), (1, 0.6), (1, 0.4), (2, 0.5)]
    steps = [make_step(n / 10, sure(*one)) for n, one in enumerate(sureness)]
    assert shown(Smoothing(min_confidence=0.6 - 1e-6), steps) == [0, 0, 1, 1, 1]


def test_the_first_label_is_shown_at_once_however_unsure():
    smoothing = Smoothing(min_duration_s=9, min_confidence=0.9, hysteresis=0.9)
    assert shown(smoothing, stream([2])) == [2]


def test_hysteresis_waits_for_a_clear_lead():
    scores = [(0.9, 0.1, 0), (0.45, 0.55, 0), (0.3, 0.7, 0), (0.55, 0.45, 0)]
    steps = [make_step(n / 10, s) for n, s in enumerate(scores)]
    assert shown(Smoothing(hysteresis=0.3), steps) == [0, 0, 1, 1]


@settings(max_examples=5)
@given(st.integers(1, 3))
def test_memory_is_bounded_while_the_summary_counts_everything(every):
    count = (NUM_DELAYS + 100) * every
    steps = stream([n // every % 2 for n in range(count)])
    _, smoother = run(Smoothing(), steps)
    assert len(smoother.delays_s) == NUM_DELAYS
    assert smoother.summary.number == count // every - 1


def test_no_change_means_no_delay():
    assert run(Smoothing(min_duration_s=1), stream([0, 0]))[1].summary == Delays()


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ((-0.1, 0, 0), "--min_duration"),
        ((math.inf, 0, 0), "--min_duration"),
        ((math.nan, 0, 0), "--min_duration"),
        ((0, 1.5, 0), "--min_confidence"),
        ((0, math.nan, 0), "--min_confidence"),
        ((0, 0, -1), "--hysteresis"),
        ((0, 0, 2), "--hysteresis"),
    ],
)
def test_values_out_of_range_are_refused_by_flag(values, flag):
    with pytest.raises(InputError, match=rf"^{flag}="):
        Smoothing(*values)
