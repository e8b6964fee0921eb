import fractions
import types

import numpy as np
import pytest

from data_pipeline.stamps import Clock, frame_rate, rate_of


def frame(pts=None, dts=None, duration=0):
    return types.SimpleNamespace(pts=pts, dts=dts, duration=duration)


def film(average=None, guessed=None, base=None):
    return types.SimpleNamespace(
        average_rate=average, guessed_rate=guessed, base_rate=base
    )


def times(clock, frames):
    return [round(clock.time_of(f), 6) for f in frames]


def test_seconds_count_from_the_first_time_stamp():
    clock = Clock(1 / 1000, 25, may_jump=False)
    assert times(clock, [frame(5000), frame(5040), frame(5700)]) == [0, 0.04, 0.7]
    assert clock.end_s == pytest.approx(0.74)


def test_a_frame_without_time_stamp_follows_the_last():
    clock = Clock(1 / 100, 10, may_jump=False)
    frames = [frame(), frame(duration=5), frame(dts=700), frame(), frame(pts=730)]
    assert times(clock, frames) == [0, 0.1, 0.15, 0.25, 0.45]


def test_the_last_frame_lasts_as_long_as_it_says():
    clock = Clock(1 / 100, 10, may_jump=False)
    times(clock, [frame(0), frame(10, duration=50)])
    assert clock.end_s == pytest.approx(0.6)
    times(clock, [frame(60, duration=1)])  # a placeholder
    assert clock.end_s == pytest.approx(0.7)


def test_time_never_runs_back():
    clock = Clock(1 / 100, 10, may_jump=False)
    jitter = [frame(0), frame(10), frame(9), frame(20)]
    assert times(clock, jitter) == [0, 0.1, 0.1, 0.2]
    assert times(clock, [frame(-500), frame(-490)]) == [0.3, 0.4]


@pytest.mark.parametrize(("may_jump", "next_s"), [(True, 0.1), (False, 150.0)])
def test_a_long_step_is_a_gap_or_a_new_clock(may_jump, next_s):
    clock = Clock(1 / 100, 10, may_jump=may_jump)
    assert times(clock, [frame(0), frame(15000)]) == [0, next_s]


def test_a_rate_that_a_header_lacks_is_none():
    unset = fractions.Fraction(0)  # so PyAV 19; PyAV 18 says None
    assert frame_rate(film(unset, unset, unset), []) == 0
    assert frame_rate(film(unset, fractions.Fraction(25), None), []) == 25


def test_a_rate_is_that_of_the_time_stamps():
    steady = np.arange(30) / 30
    assert rate_of(steady) == pytest.approx(30)
    assert rate_of(reversed(steady)) == pytest.approx(30)
    assert rate_of([*steady, *(steady + 200)]) == pytest.approx(30)
    assert rate_of([None, 3.0]) == rate_of([]) == rate_of([1.0, 1.0]) == 0
    assert rate_of(np.arange(30) / 90000) == 0  # counts frames, not seconds


@pytest.mark.parametrize(
    ("header", "stamped", "expected"),
    [
        (dict(average=30000 / 1001), 30, 30000 / 1001),
        (dict(average=1000, guessed=1000, base=1000), 30, 30),
        (dict(average=90000), 25, 25),
        (dict(), 12.5, 12.5),
        (dict(average=15 / 26, guessed=15, base=15), 15, 15),
        (dict(average=60), 30, 30),
        (dict(average=480), 480, 480),
        (dict(average=480), 0, 0),
        (dict(average=25, guessed=10), 0, 10),
        (dict(), 0, 0),
    ],
)
def test_a_header_is_believed_where_time_stamps_agree(header, stamped, expected):
    stamps = np.arange(50) / stamped if stamped else []
    assert frame_rate(film(**header), stamps) == pytest.approx(expected)
