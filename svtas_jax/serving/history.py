"""What one stream has said so far, in bounded memory."""

import collections
import dataclasses
import threading
from typing import NamedTuple

from svtas_jax.evaluation.results import TimedSegment
from svtas_jax.live.results import StepResult
from svtas_jax.live.segments import SegmentGatherer

MOST_SEGMENTS, MOST_STEPS = 20_000, 9_000  # 30 minutes of 5 steps a second


class PastStep(NamedTuple):
    """What is kept of a step.

    Attributes:
        frame, time_s: as in `StepResult`.
        label: name of the class.
        confidence: 0..1.
    """

    frame: int
    time_s: float
    label: str
    confidence: float


@dataclasses.dataclass(frozen=True)
class Past:
    """A copy of a history.

    Attributes:
        segments: the runs of equal labels, oldest first; the last one may go on.
        steps: the last steps, oldest first.
        num_steps: all steps so far.
        num_forgotten: older segments, which are not kept.
        has_ended: whether nothing more comes.
    """

    segments: tuple[TimedSegment, ...]
    steps: tuple[PastStep, ...]
    num_steps: int
    num_forgotten: int
    has_ended: bool


class History:
    """Keeps steps, and segments of them, as they come; one writes and any number read.

    Args:
        step_s: seconds of a step.
        most_segments, most_steps: that are kept.
    """

    def __init__(
        self,
        step_s: float,
        *,
        most_segments: int = MOST_SEGMENTS,
        most_steps: int = MOST_STEPS,
    ) -> None:
        self._segments, self._lock = SegmentGatherer(step_s), threading.Lock()
        self._done: collections.deque[TimedSegment] = collections.deque(
            maxlen=most_segments
        )
        self._steps: collections.deque[PastStep] = collections.deque(maxlen=most_steps)
        self._num_done = self._num_steps = 0
        self._has_ended = False

    @property
    def num_steps(self) -> int:
        """All steps so far."""
        return self._num_steps

    def add(self, step: StepResult) -> TimedSegment | None:
        """Adds the next step; returns the segment that it ends, if any."""
        past = PastStep(step.frame, step.time_s, step.label, step.confidence)
        with self._lock:
            self._steps.append(past)
            self._num_steps += 1
            return self._keep(self._segments.add(step))

    def end(self, num_frames: int, end_s: float) -> TimedSegment | None:
        """Ends the stream; returns the last segment, if there is one."""
        with self._lock:
            self._has_ended = True
            return self._keep(self._segments.end(num_frames, end_s))

    def past(self) -> Past:
        """Returns all that is kept."""
        with self._lock:
            running = self._segments.running
            return Past(
                segments=(*self._done, *(() if running is None else (running,))),
                steps=tuple(self._steps),
                num_steps=self._num_steps,
                num_forgotten=self._num_done - len(self._done),
                has_ended=self._has_ended,
            )

    def _keep(self, done: TimedSegment | None) -> TimedSegment | None:
        if done is not None:
            self._done.append(done)
            self._num_done += 1
        return done
