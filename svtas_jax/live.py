"""Streams in progress: frames go in, labels come out, the state stays in hand.

Frames go through the same `segment_chunk` as in evaluation, so both give the same
labels.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

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
        start_frame, end_frame: raw frames from the first up to, not including, the end.
        start_s, end_s: the same as seconds since the stream's first frame.
        confidence: mean probability of the label, 0..1.
    """

    label: str
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    confidence: float


@dataclasses.dataclass(frozen=True, eq=False)
class VideoResult:
    """What a model makes of consecutive frames of a stream.

    Attributes:
        class_names: names in the order of the class indices.
        labels: (num_frames,) int32, the class of every frame.
        scores: (num_frames, K) float32, probability of every class.
        times_s: (steps + 1,) seconds of the sampled frames and of the end.
        stride: raw frames from one sampled frame to the next.
        start_frame: raw frames of the stream before the first one.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    times_s: np.ndarray
    stride: int
    start_frame: int = 0

    @property
    def label_names(self) -> list[str]:
        """The name of the class of every frame."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def num_frames(self) -> int:
        """Raw frames."""
        return len(self.scores)

    @property
    def segments(self) -> tuple[TimedSegment, ...]:
        """The maximal runs of equal labels, in their order of time."""
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

    def time_of(self, frames: np.ndarray | int) -> np.ndarray:
        """Returns the seconds at which frames, counted from the first one here, begin.

        Exact at sampled frames, where alone labels change, and at the end; between
        them it is interpolated.
        """
        steps = np.arange(len(self.times_s)) * self.stride
        steps[-1] = self.num_frames
        return np.interp(frames, steps, self.times_s)

    def draw(self, title: str = "") -> np.ndarray:
        """Draws the labels over time; returns (H, W, 3) uint8 RGB."""
        duration_s = float(self.times_s[-1] - self.times_s[0])
        shown = self._frames_at_even_times()
        return timeline.draw_timeline(
            None,
            self.labels[shown],
            self.class_names,
            fps=self.num_frames / duration_s if duration_s else 0.0,
            title=title,
            confidence=self.scores.max(axis=1)[shown],
        )

    def _frames_at_even_times(self) -> np.ndarray:
        """Returns the frame that is seen at each of `num_frames` even moments: at a
        variable rate, a picture has more of those that are shown for longer."""
        starts = self.time_of(np.arange(self.num_frames))
        moments = np.linspace(*self.times_s[[0, -1]], self.num_frames, endpoint=False)
        return np.searchsorted(starts, moments + 1e-9, side="right") - 1

    def _repr_png_(self) -> bytes:
        """Shows the picture where a notebook shows this result."""
        _, encoded = cv2.imencode(".png", cv2.cvtColor(self.draw(), cv2.COLOR_RGB2BGR))
        return encoded.tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkResult(VideoResult):
    """What a stream makes of one chunk.

    Attributes:
        index: of the chunk.
        decode_s: seconds spent on decoding and resizing its frames.
        compute_s: seconds spent on segmenting it.
    """

    index: int = 0
    decode_s: float = 0.0
    compute_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns the fields of a JSON line; latencies are milliseconds: `wait` until
        the chunk's frames have been shot, `decode` and `compute` after that."""
        end_frame = self.start_frame + self.num_frames
        wait_s = self.times_s[-1] - self.times_s[0]
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
    """Returns the results of all chunks of a stream as one.

    Raises:
        InputError: if there is no chunk.
    """
    parts = list(chunks)
    if not parts:
        raise InputError("a stream without frames has no result.")
    times = [part.times_s[:-1] for part in parts]
    return VideoResult(
        class_names=parts[0].class_names,
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        times_s=np.concatenate([*times, parts[-1].times_s[-1:]]),
        stride=parts[0].stride,
    )


class Programs(NamedTuple):
    """The compiled functions of a stream, see `svtas_jax.streaming`."""

    segment: Callable[..., Any]
    prepare: Callable[..., Any]


def compile_programs(model: Model) -> Programs:
    """Returns `segment_chunk` and `look_ahead` of a model, compiled when called."""
    return Programs(
        compile_inference(
            functools.partial(segment_chunk, model=model), donate_argnums=1
        ),
        compile_inference(functools.partial(look_ahead, model=model)),
    )


class LiveStream:
    """A stream in progress. Push frames as they come, and close it at the end.

    What does not need a chunk's frames is computed after the chunk before it, while the
    next frames are shot or decoded.

    Args:
        model, variables: see `svtas_jax.runs.Run`.
        programs: see `compile_programs`.
        class_names: in the order of the class indices.
        spec: how the stream is cut.
        data_config: `config.data`.
        fps: frames a second, for the times of frames that come without one.
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
        self._num_chunks, self._end_s, self._is_open = 0, 0.0, True
        # Compiles before the first frame is shot.
        state = start_streams(model, variables, 1)
        blank = blank_chunk(1, spec, data_config.crop)
        programs.segment(variables, state, blank, programs.prepare(variables, state))
        self._state = start_streams(model, variables, 1)
        self._ahead = programs.prepare(variables, self._state)

    def push(
        self, frames: np.ndarray, times_s: Sequence[float] | None = None
    ) -> list[ChunkResult]:
        """Takes the next raw frames; returns the chunks that are complete now.

        Args:
            frames: (n, H, W, 3) or (H, W, 3) uint8 RGB, of any size.
            times_s: when they were shown, seconds since the first frame of the stream;
                by default the frame rate tells.

        Raises:
            InputError: if the frames are something else, or the stream is closed.
        """
        frames = self._checked(frames)
        if times_s is None:
            times_s = (self.num_frames + np.arange(len(frames))) / self.fps
        if len(times_s) != len(frames):
            raise InputError(f"{len(frames)} frames have {len(times_s)} times.")
        results = []
        for frame, time_s in zip(frames, times_s, strict=True):
            if self.num_frames % self.spec.frame_stride == 0:
                self.filler.add(frame, float(time_s))
            self.num_frames += 1
            self._end_s = float(time_s) + 1 / self.fps
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
        """Ends the stream; `close` first to have the last chunk."""
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

    def _flush(self) -> list[ChunkResult]:
        live = self.filler.take(self.num_frames, self._end_s)
        return [] if live is None else [self.segment(live)]

    def _checked(self, frames: np.ndarray) -> np.ndarray:
        if not self._is_open:
            raise InputError("the stream is closed; open another one.")
        frames = np.asarray(frames)
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise InputError(
                f"frames have shape {frames.shape} and type {frames.dtype}; a stream "
                "takes (n, height, width, 3) or (height, width, 3) uint8 RGB."
            )
        return frames


def fit_stride(spec: StreamSpec, fps: float, trained_fps: float) -> StreamSpec:
    """Fits the stride to a source, so that steps are as far apart in time as in
    training.

    Args:
        spec: of the training.
        fps: frame rate of the source, 0 if unknown.
        trained_fps: frame rate of the training videos, 0 if unknown.
    """
    if not (fps and trained_fps):
        logging.warning(
            "the frame rate of the %s is unknown; every %d-th frame is used as in "
            "training",
            *("training" if fps else "source", spec.frame_stride),
        )
        return spec
    stride = max(1, round(spec.frame_stride * fps / trained_fps))
    if stride != spec.frame_stride:
        logging.warning(
            "the source has %g frames a second, the training had %g: every %d-th frame "
            "is used instead of every %d-th",
            *(fps, trained_fps, stride, spec.frame_stride),
        )
    return StreamSpec(spec.clip_steps * stride, stride)


def _rounded(start_s: float, end_s: float) -> list[float]:
    return [round(float(start_s), 3), round(float(end_s), 3)]
