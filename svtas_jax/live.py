"""Live streams: they take frames as they come, return labels and keep the state.

They run the same `segment_chunk` as evaluation, so both give the same labels.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, overload

import cv2
import jax
import ml_collections
import numpy as np
from absl import logging

from data_pipeline.chunks import blank_chunk
from data_pipeline.live import ChunkFiller, LiveChunk
from svtas_jax.errors import InputError
from svtas_jax.evaluation import timeline
from svtas_jax.stitching import logits_to_labels, logits_to_scores, stitch_steps
from svtas_jax.streaming import (
    compile_inference,
    look_ahead,
    segment_chunk,
    start_streams,
)
from svtas_jax.structs import Model, Params, StreamSpec, labels_to_segments


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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VideoResult:
    """A model's predictions for consecutive frames of a stream.

    Attributes:
        class_names: names in the order of the class indices.
        labels: (num_frames,) int32, the class of every frame.
        scores: (num_frames, K) float32, the probability of every class.
        times_s: (steps + 1,) times of the sampled frames and of the end, in seconds.
        stride: raw frames from one sampled frame to the next.
        start_frame: raw frames of the stream before the first one here.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    times_s: np.ndarray
    stride: int
    start_frame: int = 0

    def __repr__(self) -> str:
        """Returns a line instead of the arrays."""
        return (
            f"{type(self).__name__}({self.num_frames} frames from "
            f"{self.times_s[0]:.1f} s to {self.times_s[-1]:.1f} s, "
            f"{len(self.segments)} segments)"
        )

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
        steps = np.arange(len(self.times_s)) * self.stride
        steps[-1] = self.num_frames
        return np.interp(frames, steps, self.times_s)

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
            "segments": [
                {
                    "label": segment.label,
                    "frames": [segment.start_frame, segment.end_frame],
                    "time_s": _rounded(segment.start_s, segment.end_s),
                    "confidence": round(segment.confidence, 4),
                }
                for segment in self.segments
            ],
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
    return VideoResult(
        class_names=parts[0].class_names,
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        times_s=np.concatenate([*times, parts[-1].times_s[-1:]]),
        stride=parts[0].stride,
    )


class Programs(NamedTuple):
    """The jitted functions of a stream, see `svtas_jax.streaming`."""

    segment: Callable[..., Any]
    prepare: Callable[..., Any]


def compile_programs(model: Model) -> Programs:
    """Returns `segment_chunk` and `look_ahead` for a model, jitted."""
    return Programs(
        compile_inference(
            functools.partial(segment_chunk, model=model), donate_argnums=1
        ),
        compile_inference(functools.partial(look_ahead, model=model)),
    )


class LiveStream:
    """A live stream: push frames as they come, and close it at the end.

    The computation that needs no frames (`look_ahead`) runs while the next chunk's
    frames are recorded or decoded.

    Args:
        model, variables: see `svtas_jax.runs.Run`.
        programs: see `compile_programs`.
        class_names: in the order of the class indices.
        spec: how the stream is cut into chunks.
        data_config: `config.data`.
        fps: frame rate, for frames that come without a time.
    """

    def __init__(
        self,
        model: Model,
        variables: Params,
        programs: Programs,
        *,
        class_names: tuple[str, ...],
        spec: StreamSpec,
        data_config: ml_collections.ConfigDict,
        fps: float,
    ) -> None:
        self.class_names, self.spec, self.fps = class_names, spec, fps
        self.filler = ChunkFiller(spec, data_config)
        self.num_frames = 0
        self._programs, self._variables = programs, variables
        self._num_chunks, self._is_open = 0, True
        self._last_s, self._end_s = -np.inf, 0.0
        # Compile before the first frame arrives.
        state = start_streams(model, variables, 1)
        blank = blank_chunk(1, spec, data_config.crop)
        programs.segment(variables, state, blank, programs.prepare(variables, state))
        self._state = start_streams(model, variables, 1)
        self._ahead = programs.prepare(variables, self._state)

    def push(
        self, frames: np.ndarray, times_s: Sequence[float] | np.ndarray | None = None
    ) -> list[ChunkResult]:
        """Takes the next raw frames; returns the chunks that are complete now.

        Args:
            frames: (n, H, W, 3) or (H, W, 3) uint8 RGB, of any size.
            times_s: their times in seconds since the first frame of the stream; by
                default computed from the frame rate.

        Raises:
            InputError: if the frames have another shape or type, if the number of times
                differs, if they run back, or if the stream is closed.
        """
        frames = self._checked(frames)
        results = []
        for frame, time_s in zip(
            frames, self._times_of(len(frames), times_s), strict=True
        ):
            if self.num_frames % self.spec.frame_stride == 0:
                self.filler.add(frame, time_s)
            self.num_frames += 1
            self._last_s, self._end_s = time_s, time_s + 1 / self.fps
            if self.num_frames % self.spec.clip_frames == 0:
                results += self._flush()
        return results

    def close(self) -> list[ChunkResult]:
        """Ends the stream; returns its last chunk, if one has begun."""
        self._is_open = False
        return self._flush()

    def __enter__(self) -> "LiveStream":
        """Returns the stream."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the stream without its last chunk; call `close` first to get that."""
        self._is_open = False

    def segment(self, live: LiveChunk) -> ChunkResult:
        """Segments the next chunk of the stream."""
        begin = time.perf_counter()
        self._state, logits = self._programs.segment(
            self._variables, self._state, live.chunk, self._ahead
        )
        logits = np.asarray(jax.block_until_ready(logits))
        stitched = stitch_steps(logits, num_frames=live.num_frames, spec=self.spec)
        compute_s = time.perf_counter() - begin
        self._ahead = self._programs.prepare(self._variables, self._state)
        self._num_chunks += 1
        return ChunkResult(
            class_names=self.class_names,
            labels=logits_to_labels(stitched),
            scores=logits_to_scores(stitched),
            times_s=live.times_s,
            stride=self.spec.frame_stride,
            start_frame=live.start_frame,
            index=self._num_chunks - 1,
            decode_s=live.decode_s,
            compute_s=compute_s,
        )

    def _times_of(
        self, num_frames: int, times_s: Sequence[float] | np.ndarray | None
    ) -> list[float]:
        if times_s is None:
            return ((self.num_frames + np.arange(num_frames)) / self.fps).tolist()
        times = np.asarray(times_s, np.float64)
        if times.shape != (num_frames,):
            raise InputError(
                f"{num_frames} frames came with {times.size} times; give one time "
                "for each frame, or none at all."
            )
        if (
            not np.isfinite(times).all()
            or (np.diff(times, prepend=self._last_s) < 0).any()
        ):
            raise InputError(
                f"the times of frames {self.num_frames} to "
                f"{self.num_frames + num_frames - 1} run back or are not finite; a "
                "stream's time only goes on, and has come to "
                f"{max(self._last_s, 0):g} s."
            )
        return times.tolist()

    def _flush(self) -> list[ChunkResult]:
        live = self.filler.take(self.num_frames, self._end_s)
        return [] if live is None else [self.segment(live)]

    def _checked(self, frames: np.ndarray) -> np.ndarray:
        if not self._is_open:
            raise InputError("the stream is closed; open a new one.")
        frames = np.asarray(frames)
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise InputError(
                f"frames have shape {frames.shape} and type {frames.dtype}; a stream "
                "takes (n, height, width, 3) or (height, width, 3) uint8 RGB."
            )
        return frames


def fit_stride(spec: StreamSpec, fps: float, trained_fps: float) -> StreamSpec:
    """Adapts the stride to a source's frame rate, so that steps are as far apart in
    time as in training.

    Args:
        spec: of the training.
        fps: frame rate of the source, 0 if unknown.
        trained_fps: frame rate of the training videos, 0 if unknown.
    """
    if not (fps and trained_fps):
        logging.warning(
            "the frame rate of the %s is unknown; every %d-th frame is used, as in "
            "training",
            *("training videos" if fps else "source", spec.frame_stride),
        )
        return spec
    stride = max(1, round(spec.frame_stride * fps / trained_fps))
    if stride != spec.frame_stride:
        logging.warning(
            "the source has %g frames per second, the training videos had %g: every "
            "%d-th frame is used instead of every %d-th",
            *(fps, trained_fps, stride, spec.frame_stride),
        )
    return StreamSpec(spec.clip_steps * stride, stride)


def _rounded(start_s: float, end_s: float) -> list[float]:
    return [round(float(start_s), 3), round(float(end_s), 3)]
