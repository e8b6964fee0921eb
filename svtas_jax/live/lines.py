"""The JSON lines of a live stream: one for every step, change of label, or chunk."""

from collections.abc import Callable
from typing import Any, Protocol

from svtas_jax.live.results import ChunkGatherer, SourceEnd, StepResult

Line = dict[str, Any]


class Lines(Protocol):
    """Makes the lines of one source."""

    def add(self, step: StepResult) -> list[Line]:
        """Returns the lines that the next step completes."""
        ...

    def end(self, end: SourceEnd) -> list[Line]:
        """Returns the lines that the end of the source completes."""
        ...


class StepLines:
    """A line for every step."""

    def add(self, step: StepResult) -> list[Line]:
        """Returns the step's line."""
        return [step.to_json()]

    def end(self, end: SourceEnd) -> list[Line]:
        """Returns nothing: all steps have their lines."""
        del end
        return []


class SegmentLines:
    """A line whenever the label changes, with the segment that ends there.

    Args:
        step_s: seconds of a step: where a gap follows, the last one lasts so long.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._first: StepResult | None = None
        self._last: StepResult | None = None
        self._sum, self._count = 0.0, 0  # of the segment's confidences

    def add(self, step: StepResult) -> list[Line]:
        """Returns the line of a change, if this step is one."""
        last, lines = self._last, []
        is_new = last is None or step.starts or step.class_index != last.class_index
        if is_new:
            end_s = step.time_s
            if last is not None and step.starts:
                end_s = min(end_s, last.time_s + self._step_s)
            lines = [{**step.to_json(), **self._ended(step.frame, end_s)}]
            self._first, self._sum, self._count = step, 0.0, 0
        self._last = step
        self._sum, self._count = self._sum + step.confidence, self._count + 1
        return lines

    def end(self, end: SourceEnd) -> list[Line]:
        """Returns the line of the last segment's end, if there is one."""
        ended = self._ended(end.num_frames, end.end_s)
        now = {"frame": end.num_frames, "time_s": round(end.end_s, 3), "label": None}
        return [{**now, **ended}] if ended else []

    def _ended(self, frame: int, time_s: float) -> Line:
        if self._first is None:
            return {}
        first = self._first
        segment = {
            "label": first.label,
            "frames": [first.frame, frame],
            "time_s": [round(first.time_s, 3), round(time_s, 3)],
            "confidence": round(self._sum / self._count, 4),
        }
        return {"ended": segment}


class ChunkLines:
    """A line for every chunk of `clip_steps` steps.

    Args:
        class_names: in the order of the class indices.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._gatherer = ChunkGatherer(class_names)

    def add(self, step: StepResult) -> list[Line]:
        """Returns the line of the chunk before, if this step begins another."""
        chunk = self._gatherer.add(step)
        return [chunk.to_json()] if chunk else []

    def end(self, end: SourceEnd) -> list[Line]:
        """Returns the line of the last chunk."""
        chunk = self._gatherer.end(end.num_frames, end.end_s)
        return [chunk.to_json()] if chunk else []


EVERY = ("step", "segment", "chunk")


def lines_of(
    every: str, *, class_names: tuple[str, ...], step_s: float
) -> Callable[[], Lines]:
    """Returns what makes the lines of a source.

    Args:
        every: of `EVERY`.
        class_names, step_s: see `SegmentLines` and `ChunkLines`.
    """
    makers: dict[str, Callable[[], Lines]] = {
        "step": StepLines,
        "segment": lambda: SegmentLines(step_s),
        "chunk": lambda: ChunkLines(class_names),
    }
    return makers[every]
