"""What one stream has said so far, in bounded memory."""

import collections
import dataclasses
import threading
from typing import NamedTuple

from svtas_jax.evaluation.results import TimedSegment
from svtas_jax.live.results import StepResult

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
    """Makes segments of steps as they come; for one writer and any readers.

    A segment's confidence is the mean over its steps. It ends where the next step
    begins; before a gap it ends a step after its last one.

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
        self._step_s, self._lock = step_s, threading.Lock()
        self._done: collections.deque[TimedSegment] = collections.deque(
            maxlen=most_segments
        )
        self._steps: collections.deque[PastStep] = collections.deque(maxlen=most_steps)
        self._open: TimedSegment | None = None
        self._in_open = self._num_done = self._num_steps = 0
        self._has_ended = False

    @property
    def num_steps(self) -> int:
        """All steps so far."""
        return self._num_steps

    def add(self, step: StepResult) -> TimedSegment | None:
        """Adds the next step; returns the segment that it ends, if any."""
        past = PastStep(step.frame, step.time_s, step.label, step.confidence)
        with self._lock:
            done, last = None, self._open
            if last is not None and (step.starts or step.label != last.label):
                end_s = min(step.time_s, last.end_s) if step.starts else step.time_s
                done = self._finish(step.frame, end_s)
            self._extend(past)
            self._steps.append(past)
            self._num_steps += 1
            return done

    def end(self, num_frames: int, end_s: float) -> TimedSegment | None:
        """Ends the stream; returns the last segment, if there is one."""
        with self._lock:
            self._has_ended = True
            if self._open is None:
                return None
            return self._finish(num_frames, max(end_s, self._open.start_s))

    def past(self) -> Past:
        """Returns all that is kept."""
        with self._lock:
            running = () if self._open is None else (self._open,)
            return Past(
                segments=(*self._done, *running),
                steps=tuple(self._steps),
                num_steps=self._num_steps,
                num_forgotten=self._num_done - len(self._done),
                has_ended=self._has_ended,
            )

    def _extend(self, step: PastStep) -> None:
        end = {"end_frame": step.frame + 1, "end_s": step.time_s + self._step_s}
        if self._open is None:
            self._in_open = 1
            self._open = TimedSegment(
                step.label, step.frame, step.frame + 1, step.time_s, end["end_s"], 0.0
            )
            self._open = self._open._replace(confidence=step.confidence)
            return
        self._in_open += 1
        mean = self._open.confidence
        mean += (step.confidence - mean) / self._in_open
        self._open = self._open._replace(confidence=mean, **end)

    def _finish(self, end_frame: int, end_s: float) -> TimedSegment:
        assert self._open is not None
        done = self._open._replace(end_frame=end_frame, end_s=end_s)
        self._done.append(done)
        self._open, self._num_done = None, self._num_done + 1
        return done
