"""What a live session says: a result for every step, and how a source ended."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.step_queue import Counters
from svtas_jax.evaluation.results import ChunkResult
from svtas_jax.smoothing import Delays


@dataclasses.dataclass(frozen=True)
class Latency:
    """The seconds from a frame's arrival to its label, by where they went.

    Attributes:
        decode_s: decoding, resizing and cropping.
        wait_s: for other frames of its chunk, if the model needs them, and for the
            model's other work.
        compute_s: the model.
    """

    decode_s: float = 0.0
    wait_s: float = 0.0
    compute_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From arrival to label."""
        return self.decode_s + self.wait_s + self.compute_s

    def to_json(self) -> dict[str, float]:
        """Returns the parts and their sum in milliseconds."""
        parts = {
            "decode": self.decode_s,
            "wait": self.wait_s,
            "compute": self.compute_s,
            "total": self.total_s,
        }
        return {name: round(1e3 * s, 1) for name, s in parts.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class StepResult:
    """A model's answer for one step, the frame that it saw of a source.

    Attributes:
        source: number of the source in its session.
        frame: number of the frame in the source, from 0.
        time_s: seconds since the source's first frame.
        label: name of the class that is shown, see `svtas_jax.smoothing`.
        class_index: its index.
        scores: (K,) float32, the probability of every class.
        chunk: number of the source's chunk of `clip_steps` steps in which it lies.
        call: number of the model's call that gave the answer.
        starts: whether a stream begins here: at the first frame, and after a gap.
        dropped: steps before it that were skipped because the model was busy.
        latency: from the frame's arrival to this answer.
        answered_s: when the answer was there, in seconds of the monotonic clock.
        picture: (H, W, 3) uint8 RGB, the frame itself, if the session keeps pictures.
    """

    source: int
    frame: int
    time_s: float
    label: str
    class_index: int
    scores: np.ndarray
    chunk: int
    call: int = 0
    starts: bool = False
    dropped: int = 0
    latency: Latency = Latency()
    answered_s: float = 0.0
    picture: np.ndarray | None = None

    @property
    def confidence(self) -> float:
        """The probability of the label, 0..1."""
        return float(self.scores[self.class_index])

    def to_json(self) -> dict[str, Any]:
        """Returns the fields of a JSON line."""
        return {
            "frame": self.frame,
            "time_s": round(self.time_s, 3),
            "label": self.label,
            "confidence": round(self.confidence, 4),
            **({"dropped": self.dropped} if self.dropped else {}),
            "latency_ms": self.latency.to_json(),
        }


@dataclasses.dataclass(frozen=True)
class SourceEnd:
    """The end of a source.

    Attributes:
        source: number of the source in its session.
        num_frames: frames that it had.
        end_s: when the last one of them ends, in seconds since the first one.
        counters: what happened to its frames.
        error: why it broke off; None at the end of a file, and of what was closed.
        delays: by how much smoothing showed its labels late.
    """

    source: int
    num_frames: int
    end_s: float
    counters: Counters = Counters()
    error: Exception | None = None
    delays: Delays = Delays()


class ChunkGatherer:
    """Makes a `ChunkResult` of the steps of each chunk of one source.

    A chunk is given out with the first step after it: only then it is known how many
    frames its last step stands for.

    Args:
        class_names: in the order of the class indices.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._class_names = class_names
        self._steps: list[StepResult] = []

    def add(self, step: StepResult) -> ChunkResult | None:
        """Adds the next step; returns the chunk that it ends, if any."""
        is_next = bool(self._steps) and step.chunk != self._steps[-1].chunk
        done = self._take(step.frame, step.time_s) if is_next else None
        self._steps.append(step)
        return done

    def end(self, num_frames: int, end_s: float) -> ChunkResult | None:
        """Returns the last chunk, if one has begun; arguments as in `SourceEnd`."""
        return self._take(num_frames, end_s) if self._steps else None

    def _take(self, end_frame: int, end_s: float) -> ChunkResult:
        steps, self._steps = self._steps, []
        frames = np.array([*(step.frame for step in steps), end_frame])
        return ChunkResult(
            class_names=self._class_names,
            labels=_spread([step.class_index for step in steps], frames, np.int32),
            scores=_spread([step.scores for step in steps], frames, np.float32),
            times_s=np.array([*(step.time_s for step in steps), end_s]),
            step_frames=frames,
            index=steps[0].chunk,
            decode_s=sum(step.latency.decode_s for step in steps),
            # Steps of one call were computed together.
            compute_s=sum({s.call: s.latency.compute_s for s in steps}.values()),
        )


def _spread(values: Sequence, frames: np.ndarray, dtype: type) -> np.ndarray:
    """Repeats every step's value for the raw frames up to the next one."""
    return np.repeat(np.asarray(values, dtype), np.diff(frames), axis=0)
