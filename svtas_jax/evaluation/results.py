"""What a model finds in a stream or video: labels, scores, segments and their times."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, overload

import cv2
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.evaluation import timeline
from svtas_jax.structs import labels_to_segments


class TimedSegment(NamedTuple):
    """A run of one label in a stream.

    Attributes:
        label: name of the class.
        start_frame, end_frame: first raw frame, and one past the last.
        start_s, end_s: the same in seconds since the stream's first frame.
        confidence: mean probability of the label, 0..1.
    """

    label: str
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Returns the fields of a segment in JSON."""
        return {
            "label": self.label,
            "frames": [self.start_frame, self.end_frame],
            "time_s": _rounded(self.start_s, self.end_s),
            "confidence": round(self.confidence, 4),
        }


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VideoResult:
    """A model's predictions for consecutive frames of a stream.

    Attributes:
        class_names: names in the order of the class indices.
        labels: (num_frames,) int32, the class of every frame.
        scores: (num_frames, K) float32, the probability of every class.
        times_s: (steps + 1,) times of the sampled frames and of the end, in seconds.
        step_frames: (steps + 1,) numbers of the sampled frames in the stream, and of
            the frame after the last one here.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    times_s: np.ndarray
    step_frames: np.ndarray

    def __repr__(self) -> str:
        """Returns a line instead of the arrays."""
        return (
            f"{type(self).__name__}({self.num_frames} frames from "
            f"{self.times_s[0]:.1f} s to {self.times_s[-1]:.1f} s, "
            f"{len(self.segments)} segments)"
        )

    @property
    def start_frame(self) -> int:
        """The number of raw frames of the stream before the first one here."""
        return int(self.step_frames[0])

    @property
    def label_names(self) -> list[str]:
        """The name of the class of every frame."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def num_frames(self) -> int:
        """The number of raw frames."""
        return len(self.scores)

    @property
    def segments(self) -> tuple[TimedSegment, ...]:
        """The maximal runs of equal labels, in temporal order."""
        found = []
        for run in labels_to_segments(self.labels):
            confidence = self.scores[run.start : run.end, run.label].mean()
            found.append(
                TimedSegment(
                    self.class_names[run.label],
                    self.start_frame + run.start,
                    self.start_frame + run.end,
                    float(self.time_of(run.start)),
                    float(self.time_of(run.end)),
                    float(confidence),
                )
            )
        return tuple(found)

    @overload
    def time_of(self, frames: int) -> float: ...

    @overload
    def time_of(self, frames: np.ndarray) -> np.ndarray: ...

    def time_of(self, frames: np.ndarray | int) -> np.ndarray | float:
        """Returns the times in seconds at which frames, counted from the first one
        here, begin.

        The times of sampled frames (labels change only there) and of the end are exact;
        those between them are interpolated.
        """
        return np.interp(frames, self.step_frames - self.start_frame, self.times_s)

    def draw(self, title: str = "") -> np.ndarray:
        """Draws the labels over time; returns (H, W, 3) uint8 RGB."""
        duration_s = float(self.times_s[-1] - self.times_s[0])
        starts_s = self.time_of(np.arange(self.num_frames))
        shown = timeline.frames_at_even_times(starts_s, self.times_s[-1])
        return timeline.draw_timeline(
            None,
            self.labels[shown],
            self.class_names,
            fps=self.num_frames / duration_s if duration_s else 0.0,
            title=title,
            confidence=self.scores.max(axis=1)[shown],
        )

    def _repr_png_(self) -> bytes:
        """Returns the picture that a notebook shows for this result."""
        _, encoded = cv2.imencode(".png", cv2.cvtColor(self.draw(), cv2.COLOR_RGB2BGR))
        return encoded.tobytes()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ChunkResult(VideoResult):
    """A model's predictions for one chunk of a stream.

    Attributes:
        index: number of the chunk, from 0.
        decode_s: seconds spent on decoding and resizing its frames.
        compute_s: seconds spent on segmenting it.
    """

    index: int = 0
    decode_s: float = 0.0
    compute_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns the fields of a JSON line.

        Latencies are in milliseconds: `wait` is the time in which the chunk's frames
        are recorded; `decode` and `compute` follow.
        """
        end_frame = self.start_frame + self.num_frames
        wait_s = float(self.times_s[-1] - self.times_s[0])
        latency_s = {"wait": wait_s, "decode": self.decode_s, "compute": self.compute_s}
        return {
            "chunk": self.index,
            "frames": [self.start_frame, end_frame],
            "time_s": _rounded(self.times_s[0], self.times_s[-1]),
            "segments": [segment.to_json() for segment in self.segments],
            "latency_ms": {name: round(1e3 * s, 1) for name, s in latency_s.items()},
        }


def join(chunks: Iterable[ChunkResult]) -> VideoResult:
    """Joins the results of all chunks of a stream.

    Raises:
        InputError: if there is no chunk.
    """
    parts = list(chunks)
    if not parts:
        raise InputError("the source has no frames, so there is no result.")
    times = [part.times_s[:-1] for part in parts]
    frames = [part.step_frames[:-1] for part in parts]
    return VideoResult(
        class_names=parts[0].class_names,
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        times_s=np.concatenate([*times, parts[-1].times_s[-1:]]),
        step_frames=np.concatenate([*frames, parts[-1].step_frames[-1:]]),
    )


def _rounded(start_s: float, end_s: float) -> list[float]:
    return [round(float(start_s), 3), round(float(end_s), 3)]
