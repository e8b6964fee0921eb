"""Smoothing: what it may change, what it must not, and the delay that it reports."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.errors import InputError
from svtas_jax.live.results import StepResult
from svtas_jax.live.smoothing import NUM_DELAYS, Delays, Smoother, Smoothing

NAMES = ("take", "pour", "stir")
CLOSE_S = 1e-6


def make_step(number, time_s, scores, *, starts=False):
    label = int(np.argmax(scores))
    return StepResult(
        source=0,
        frame=number,
        time_s=time_s,
        label=NAMES[label],
        class_index=label,
        scores=np.asarray(scores, np.float32),
        chunk=0,
        starts=starts,
    )


def sure(label, confidence=0.8):
    """Returns scores in which a label has this confidence, and the others the rest."""
    scores = np.full(len(NAMES), (1 - confidence) / (len(NAMES) - 1))
    scores[label] = confidence
    return scores


def stream(labels, step_s=0.1):
    """Returns steps of sure labels, one every `step_s` seconds."""
    return [make_step(n, n * step_s, sure(k)) for n, k in enumerate(labels)]


def run(smoothing, steps):
    smoother = Smoother(smoothing, NAMES)
    return [smoother.update(step) for step in steps], smoother


def shown(smoothing, steps):
    return [step.class_index for step in run(smoothing, steps)[0]]


@st.composite
def streams(draw):
    """Streams of any scores and step times, with new beginnings."""
    weights = st.lists(st.floats(0.01, 1), min_size=len(NAMES), max_size=len(NAMES))
    steps, time_s = [], 0.0
    for number in range(draw(st.integers(1, 40))):
        scores = np.array(draw(weights))
        starts = number == 0 or draw(st.integers(0, 9)) == 0
        steps.append(make_step(number, time_s, scores / scores.sum(), starts=starts))
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
    answers, smoother = run(Smoothing(), steps)
    assert all(answer is step for answer, step in zip(answers, steps, strict=True))
    assert smoother.summary.max_s == 0


def test_off_changes_nothing_where_scores_are_not_numbers():
    steps = [make_step(0, 0.0, sure(0)), make_step(1, 0.1, [math.nan] * 3)]
    steps.append(make_step(2, 0.2, sure(2)))
    assert shown(Smoothing(), steps) == [step.class_index for step in steps]


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
    answers, _ = run(smoothing, steps)
    begin_s = answers[0].time_s
    for before, after in zip(answers, answers[1:], strict=False):
        if after.starts:
            begin_s = after.time_s
        elif after.class_index != before.class_index:
            assert after.time_s - begin_s >= smoothing.min_duration_s - CLOSE_S
            begin_s = after.time_s


@given(rules, streams())
def test_a_new_label_satisfies_every_rule_at_the_step_that_shows_it(smoothing, steps):
    answers, _ = run(smoothing, steps)
    pairs = list(zip(answers, steps, strict=True))
    for (before, _), (after, step) in zip(pairs, pairs[1:], strict=False):
        if after.starts or after.class_index == before.class_index:
            continue
        assert after.class_index == step.class_index  # and so the model's label
        gain = step.confidence - float(step.scores[before.class_index])
        assert step.confidence >= smoothing.min_confidence
        assert gain > smoothing.hysteresis or not smoothing.hysteresis


@given(rules, streams())
def test_a_label_that_satisfies_every_rule_is_not_held_back(smoothing, steps):
    answers, _ = run(smoothing, steps)
    since_s = 0.0
    for number, (answer, step) in enumerate(zip(answers, steps, strict=True)):
        if step.starts or step.class_index != steps[number - 1].class_index:
            since_s = step.time_s
        if answer.class_index != step.class_index:
            gain = step.confidence - float(step.scores[answer.class_index])
            assert (
                step.time_s - since_s < smoothing.min_duration_s
                or step.confidence < smoothing.min_confidence
                or gain <= smoothing.hysteresis
            )


@given(rules, streams())
def test_labels_names_and_confidence_belong_together(smoothing, steps):
    for answer, step in zip(run(smoothing, steps)[0], steps, strict=True):
        assert answer.label == NAMES[answer.class_index]
        assert answer.confidence == float(step.scores[answer.class_index])
        assert (answer.frame, answer.time_s) == (step.frame, step.time_s)


@given(rules, streams())
def test_a_beginning_forgets_what_was_before(smoothing, steps):
    answers = shown(smoothing, steps)
    for number, step in enumerate(steps):
        if step.starts:
            assert answers[number] == step.class_index
            assert answers[number:] == shown(smoothing, steps[number:])


@given(rules, streams())
def test_delays_are_those_of_the_shown_changes(smoothing, steps):
    answers, smoother = run(smoothing, steps)
    expected, since_s = [], 0.0
    for number, (answer, step) in enumerate(zip(answers, steps, strict=True)):
        if step.starts or step.class_index != steps[number - 1].class_index:
            since_s = step.time_s
        has_changed = number and answer.class_index != answers[number - 1].class_index
        if has_changed and not step.starts:
            expected.append(step.time_s - since_s)
    assert list(smoother.delays_s) == pytest.approx(expected)
    assert smoother.summary.number == len(expected)
    assert smoother.summary.max_s == pytest.approx(max(expected, default=0))
    mean_s = sum(expected) / max(1, len(expected))
    assert smoother.summary.mean_s == pytest.approx(mean_s)


def test_minimum_duration_shows_a_label_late_and_leaves_out_a_short_one():
    steps = stream([0, 0, 1, 0, 0, 2, 2, 2, 2, 2])
    answers, smoother = run(Smoothing(min_duration_s=0.3), steps)
    assert [step.class_index for step in answers] == [0, 0, 0, 0, 0, 0, 0, 0, 2, 2]
    assert answers[6].label == "take"
    assert answers[6].confidence == pytest.approx(0.1)
    assert smoother.summary.number == 1
    assert smoother.summary.max_s == pytest.approx(0.3)


def test_confidence_gate_waits_for_a_sure_label():
    sureness = [(0, 0.9), (1, 0.5), (1, 0.6), (1, 0.4), (2, 0.5)]
    steps = [make_step(n, n / 10, sure(*one)) for n, one in enumerate(sureness)]
    assert shown(Smoothing(min_confidence=0.6 - 1e-6), steps) == [0, 0, 1, 1, 1]


def test_the_first_label_is_shown_at_once_however_unsure():
    smoothing = Smoothing(min_duration_s=9, min_confidence=0.9, hysteresis=0.9)
    assert shown(smoothing, stream([2])) == [2]


def test_hysteresis_waits_for_a_clear_lead():
    scores = [(0.9, 0.1, 0), (0.45, 0.55, 0), (0.3, 0.7, 0), (0.55, 0.45, 0)]
    steps = [make_step(n, n / 10, s) for n, s in enumerate(scores)]
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
