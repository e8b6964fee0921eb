"""Makes segments of the steps of one source as they come."""

from svtas_jax.evaluation.results import TimedSegment
from svtas_jax.live.results import StepResult


class SegmentGatherer:
    """Joins steps of one label; before a gap a segment ends a step after its last one.

    Args:
        step_s: seconds of a step.

    Attributes:
        running: the segment that goes on, up to the last step; None before the first.
            Its confidence is the mean over its steps.
    """

    def __init__(self, step_s: float) -> None:
        self.running: TimedSegment | None = None
        self._step_s, self._num_steps = step_s, 0

    def add(self, step: StepResult) -> TimedSegment | None:
        """Adds the next step; returns the segment that it ends, if any."""
        done, last = None, self.running
        if last is not None and (step.starts or step.label != last.label):
            end_s = min(step.time_s, last.end_s) if step.starts else step.time_s
            done = self.end(step.frame, end_s)
        self._extend(step)
        return done

    def end(self, num_frames: int, end_s: float) -> TimedSegment | None:
        """Ends the running segment and returns it, if there is one.

        Args:
            num_frames: frames of the source before its end.
            end_s: that moment.
        """
        if self.running is None:
            return None
        end_s = max(end_s, self.running.start_s)
        done = self.running._replace(end_frame=num_frames, end_s=end_s)
        self.running, self._num_steps = None, 0
        return done

    def _extend(self, step: StepResult) -> None:
        if self.running is None:
            frame, time_s = step.frame, step.time_s
            self.running = TimedSegment(step.label, frame, frame, time_s, time_s, 0.0)
        self._num_steps += 1
        mean = self.running.confidence
        self.running = self.running._replace(
            end_frame=step.frame + 1,
            end_s=step.time_s + self._step_s,
            confidence=mean + (step.confidence - mean) / self._num_steps,
        )
