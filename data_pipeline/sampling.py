"""Chooses the frames of a stream by time, as the training chose them by number."""

import collections
import dataclasses
import math
import statistics

from svtas_jax.errors import InputError

# An even number, whose median is the mean of two: stamps that alternate have no bias.
_INTERVALS = 16
_GUESSES = 4
WAITED_S = 2e-3  # frames closer than that waited somewhere and came together
_HOLE = 2.0  # source intervals: a longer one is a hole, not a slow source


@dataclasses.dataclass(frozen=True)
class Due:
    """What a frame is to its stream.

    Attributes:
        is_step: whether the model gets it.
        missed: steps that were due before it and had no frame. The last step's frame
            stands in for them.
        resets: whether a stream begins with it: the first one, and that after a gap.
        gap_s: seconds without a frame before it, 0.0 where none was missing.
    """

    is_step: bool
    missed: int = 0
    resets: bool = False
    gap_s: float = 0.0


class StepClock:
    """Chooses the frames nearest to every `step_s` after the first one.

    A frame is chosen without a look at the next one: it is the first frame that comes
    later than half a frame interval of the source before its due time. At the rate of
    the training, this is every `frame_stride`-th frame.

    Args:
        step_s: seconds of a step, `frame_stride / fps` of the training.
        gap_reset_s: after a longer gap a new stream begins, whose steps count from the
            frame after it.
        fps: of the source as it says itself, 0.0 if unknown. Time stamps are believed
            once there are a few.

    Raises:
        InputError: if a time is not positive and finite (`gap_reset_s` may be 0).
    """

    def __init__(self, step_s: float, gap_reset_s: float, *, fps: float = 0.0) -> None:
        if not 0 < step_s < math.inf:
            raise InputError(f"step_s={step_s} must be a positive number of seconds.")
        if not 0 <= gap_reset_s < math.inf:
            raise InputError(f"gap_reset_s={gap_reset_s} must be 0 or more seconds.")
        self.step_s, self.gap_reset_s = step_s, gap_reset_s
        self._intervals: collections.deque[float] = collections.deque(maxlen=_INTERVALS)
        self._first_s = self._last_s = 0.0
        self._step: int | None = None  # the last one, None before the first frame
        self.guess_rate(fps)

    def guess_rate(self, fps: float) -> None:
        """Says the source's own frame rate, 0.0 if unknown, before its first frame."""
        if fps > 0:
            self._intervals.extend([1 / fps] * _GUESSES)

    def at(self, time_s: float) -> Due:
        """Returns whether the next frame is a step, in constant time.

        A frame that is not later than all before it is none.

        Args:
            time_s: seconds of the stream.

        Raises:
            InputError: if the time is not finite.
        """
        if not math.isfinite(time_s):
            raise InputError(f"A frame's time of {time_s} s is not a finite number.")
        if self._step is None:
            return self._begin(time_s, 0.0)
        since_s = time_s - self._last_s
        if since_s <= 0:
            return Due(is_step=False)
        self._last_s = time_s
        if since_s > WAITED_S:
            self._intervals.append(since_s)
        interval_s = statistics.median(self._intervals or (0.0,))
        return self._judge(time_s, since_s, interval_s)

    def _judge(self, time_s: float, since_s: float, interval_s: float) -> Due:
        assert self._step is not None
        early_s = min(interval_s, self.step_s) / 2
        step = math.floor((time_s - self._first_s + early_s) / self.step_s)
        missed = step - self._step - 1
        gap_s = since_s if missed > 0 and since_s > _HOLE * interval_s else 0.0
        if missed > 0 and since_s > self.gap_reset_s:
            return self._begin(time_s, since_s)
        if missed < 0:
            return Due(is_step=False)
        self._step = step
        return Due(is_step=True, missed=missed, gap_s=gap_s)

    def _begin(self, time_s: float, gap_s: float) -> Due:
        self._first_s = self._last_s = time_s
        self._step = 0
        return Due(is_step=True, resets=True, gap_s=gap_s)
