import math

import pytest

from svtas_jax.runtime.progress import WINDOW_S, Progress, format_duration


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def run(progress, *, step, now, frames):
    progress.clock.now = now
    progress.add(frames)
    return progress.line(step)


def test_line_says_how_far_how_fast_and_how_long():
    progress = Progress(first=0, last=500, clock=Clock())
    run(progress, step=60, now=25.0, frames=2125)
    progress.clock.now = 50.0
    progress.add(2000)
    progress.add(125)
    line = progress.line(120, "loss 0.51")
    assert line == "step 120/500 (24%) loss 0.51 | 85 frames/s | ETA 2m38s"


def test_line_before_the_first_step_promises_nothing():
    progress = Progress(first=0, last=10, unit="chunks", clock=Clock())
    assert progress.line(0) == "step 0/10 (0%) | 0 chunks/s | ETA ?"
    assert progress.eta_s == math.inf


def test_rate_forgets_a_slow_start():
    progress = Progress(first=0, last=1000, clock=Clock())
    run(progress, step=1, now=300.0, frames=2000)  # compilation
    for step in range(2, 102):
        line = run(progress, step=step, now=299.0 + step, frames=2000)
    assert line == "step 101/1000 (10%) | 2000 frames/s | ETA 14m59s"
    assert len(progress._marks) <= WINDOW_S + 2  # a long run does not grow


def test_rate_of_steps_slower_than_the_window_is_that_of_the_last_one():
    progress = Progress(first=0, last=10, clock=Clock())
    run(progress, step=1, now=500.0, frames=1000)
    line = run(progress, step=2, now=600.0, frames=1000)
    assert line == "step 2/10 (20%) | 10 frames/s | ETA 13m20s"


def test_resumed_work_does_not_count_what_was_done_before():
    progress = Progress(first=100, last=200, clock=Clock())
    line = run(progress, step=110, now=10.0, frames=500)
    assert line == "step 110/200 (55%) | 50 frames/s | ETA 1m30s"


def test_finished_work_needs_no_more_time():
    progress = Progress(first=0, last=5, clock=Clock())
    assert run(progress, step=5, now=1.0, frames=1).endswith("ETA 0s")


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"),
        (44.6, "45s"),
        (59.7, "1m00s"),
        (200, "3m20s"),
        (7500, "2h05m"),
        (3 * 86400 + 4 * 3600 + 59, "3d04h"),
        (math.inf, "?"),
    ],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text
