"""Live streams: they take frames as they come, return labels and keep the state.

They run the same `segment_chunk` as evaluation, so both give the same labels.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from absl import logging

from data_pipeline.chunks import blank_chunk
from data_pipeline.live import ChunkFiller, LiveChunk
from svtas_jax.errors import InputError
from svtas_jax.evaluation.results import ChunkResult
from svtas_jax.stitching import logits_to_labels, logits_to_scores, stitch_steps
from svtas_jax.streaming import (
    compile_inference,
    look_ahead,
    segment_chunk,
    start_streams,
)
from svtas_jax.structs import Model, Params, StreamSpec


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
