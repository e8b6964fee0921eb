"""Steps of a stream by time: rates, jitter, holes and clocks that misbehave."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.sampling import Due, StepClock
from svtas_jax.errors import InputError

RATES = st.sampled_from([15.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0])
SEEDS = st.integers(0, 2**32 - 1)


def slots_of(clock, times):
    """Returns the frame of every step, None where the last one is repeated."""
    slots = []
    for index, time_s in enumerate(times):
        due = clock.at(time_s)
        if due.is_step:
            slots += [None] * due.missed + [index]
    return slots


@given(RATES, st.integers(1, 8), SEEDS, st.booleans())
def test_the_rate_of_the_training_gives_every_stride_th_frame(
    fps, stride, seed, is_known
):
    jitter = np.random.default_rng(seed).uniform(-1 / 7, 1 / 7, 200)
    clock = StepClock(stride / fps, 5.0, fps=fps if is_known else 0.0)
    slots = slots_of(clock, (np.arange(200) + jitter) / fps)
    assert slots == list(range(0, 200, stride))


def test_stamps_in_milliseconds_give_every_stride_th_frame():
    times = np.round(np.arange(2000) / 30, 3)
    assert slots_of(StepClock(2 / 30, 5.0), times) == list(range(0, 2000, 2))


@given(RATES, RATES, st.integers(1, 8), st.floats(0, 1e5))
def test_other_rates_give_the_nearest_frame(fps, trained_fps, stride, begin_s):
    step_s = stride / trained_fps
    times = np.arange(300) / fps
    slots = slots_of(StepClock(step_s, 5.0, fps=fps), begin_s + times)
    half_s = min(0.5 / fps, step_s / 2)
    for step, index in enumerate(slots):
        if index is not None:
            assert abs(times[index] - step * step_s) <= 0.5 / fps + 1e-6
    low, high = ((times[-1] + half_s + off) / step_s for off in (-1e-6, 1e-6))
    assert math.floor(low) + 1 <= len(slots) <= math.floor(high) + 1


@given(RATES, st.integers(2, 8), SEEDS, st.floats(0, 0.4))
def test_dropped_frames_shift_no_step(fps, stride, seed, share):
    step_s = stride / fps
    kept = np.random.default_rng(seed).random(300) >= share
    kept[0] = True
    times = (np.arange(300) / fps)[kept]
    slots = slots_of(StepClock(step_s, 60.0, fps=fps), times)
    for step, index in enumerate(slots):
        if index is not None:
            assert -0.5 / fps - step_s / 2 <= times[index] - step * step_s < step_s
    assert abs(len(slots) - 1 - times[-1] / step_s) <= 1


@given(st.floats(0.02, 1.0), st.lists(st.floats(1e-3, 2.0), min_size=1, max_size=300))
def test_a_variable_rate_keeps_the_spacing(step_s, intervals):
    times = list(itertools.accumulate([0.0, *intervals]))
    clock, num_steps = StepClock(step_s, 60.0), 0
    for time_s in times:
        due = clock.at(time_s)
        num_steps += due.is_step + due.missed
        assert math.floor(time_s / step_s - 1e-6) + 1 <= num_steps
        assert num_steps <= math.floor(time_s / step_s + 0.5 + 1e-6) + 1


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=100))
def test_time_that_runs_back_gives_no_step(times):
    clock, latest = StepClock(0.1, 5.0), -math.inf
    for time_s in times:
        due = clock.at(time_s)
        assert time_s > latest or due == Due(is_step=False)
        latest = max(latest, time_s)


def test_time_that_stands_still_gives_one_step():
    clock = StepClock(0.1, 5.0)
    assert sum(clock.at(7.0).is_step for _ in range(100)) == 1


def test_a_short_gap_is_filled_and_a_long_one_begins_a_new_stream():
    clock = StepClock(0.1, 1.0, fps=10)
    dues = [clock.at(time_s) for time_s in (0.0, 0.1, 0.6, 2.05, 2.15)]
    assert dues[0] == Due(is_step=True, resets=True)
    assert dues[1] == Due(is_step=True)
    assert dues[2] == Due(is_step=True, missed=4, gap_s=pytest.approx(0.5))
    assert dues[3] == Due(is_step=True, resets=True, gap_s=pytest.approx(1.45))
    assert dues[4] == Due(is_step=True)


def test_a_slow_source_is_repeated_and_has_no_gap():
    clock = StepClock(0.1, 1.0, fps=4)
    dues = [clock.at(index / 4) for index in range(9)]
    assert sum(due.missed + 1 for due in dues) == 21
    assert not any(due.gap_s for due in dues)


@pytest.mark.parametrize("time_s", [1e6, 1e18, 1e300])
def test_a_time_far_off_begins_a_new_stream(time_s):
    clock = StepClock(1e-3, 1e3)
    clock.at(0.0)
    assert clock.at(time_s) == Due(is_step=True, resets=True, gap_s=time_s)
    assert not clock.at(0.5).is_step


@pytest.mark.parametrize("time_s", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_is_named(time_s):
    with pytest.raises(InputError, match="is not a finite number"):
        StepClock(0.1, 1.0).at(time_s)


@pytest.mark.parametrize(
    ("step_s", "gap_s", "name"),
    [(0.0, 1, "step_s=0"), (math.inf, 1, "step_s=inf"), (1, -1.0, "gap_reset_s=-1")],
)
def test_durations_that_are_none_are_named(step_s, gap_s, name):
    with pytest.raises(InputError, match=name):
        StepClock(step_s, gap_s)
