import math

import pytest

from svtas_jax.progress import WINDOW_S, Progress, format_duration


def test_line_says_how_far_how_fast_and_how_long():
    progress = Progress(total=500).start(0, now=100.0)
    progress = progress.advance(60, num_frames=2550, now=130.0)
    progress = progress.advance(120, num_frames=2550, now=160.0)
    assert progress.line(loss=0.5123) == (
        "step 120/500 (24%) loss 0.512 | 85 frames/s | ETA 3m10s"
    )


def test_line_before_the_first_step_promises_nothing():
    progress = Progress(total=10, unit="video").start(0, now=0.0)
    assert progress.line() == "video 0/10 (0%) | 0 frames/s | ETA ?"
    assert progress.eta_s == math.inf


def test_rate_forgets_a_slow_start():
    progress = Progress(total=1000).start(0, now=0.0)
    progress = progress.advance(1, num_frames=100, now=300.0)  # compilation
    for step in range(2, 102):
        progress = progress.advance(step, num_frames=100, now=300.0 + step - 1)
    assert progress.frames_per_s == pytest.approx(100)
    assert progress.eta_s == pytest.approx(1000 - 101)
    assert len(progress.marks) <= WINDOW_S + 2  # a long run does not grow


def test_rate_of_steps_slower_than_the_window_is_that_of_the_last_one():
    progress = Progress(total=10).start(0, now=0.0)
    progress = progress.advance(1, num_frames=1000, now=500.0)
    progress = progress.advance(2, num_frames=1000, now=600.0)
    assert progress.frames_per_s == pytest.approx(10)


def test_resumed_work_does_not_count_what_was_done_before():
    progress = Progress(total=200).start(100, now=0.0)
    progress = progress.advance(110, num_frames=500, now=10.0)
    assert progress.line() == "step 110/200 (55%) | 50 frames/s | ETA 1m30s"


def test_finished_work_needs_no_more_time():
    progress = Progress(total=5).start(0, now=0.0).advance(5, num_frames=1, now=1.0)
    assert progress.eta_s == 0


def test_advance_needs_a_start():
    with pytest.raises(ValueError, match="start comes before"):
        Progress(total=5).advance(1, num_frames=1, now=0.0)


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
