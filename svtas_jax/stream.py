"""Segments a video file, camera or URL as it comes: one JSON line per chunk.

    python -m svtas_jax.stream --workdir=runs/x --source=video.mp4|0|rtsp://...
        [--checkpoint=best|latest|STEP]

Frames go through the same `segment_chunk` as in evaluation, so both give the same
labels. Latencies are milliseconds: `wait` until the chunk's frames have been shot,
`decode` to decode and resize them, `compute` to segment them.
"""

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Iterator
from typing import TextIO

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from absl import flags, logging

from data_pipeline import transforms
from data_pipeline.video import iter_frames, source_fps
from svtas_jax import evaluate
from svtas_jax.checkpoints import store
from svtas_jax.config import stream_spec
from svtas_jax.errors import InputError
from svtas_jax.run_config import load_config
from svtas_jax.runtime import cli
from svtas_jax.stitching import (
    labels_to_segments,
    scores_to_confidence,
    scores_to_labels,
)
from svtas_jax.streaming import (
    blank_chunk,
    compile_inference,
    look_ahead,
    segment_chunk,
    start_streams,
)
from svtas_jax.structs import IGNORE_LABEL, Chunk, Params, StreamSpec

FALLBACK_FPS = 25.0  # only turns frame numbers into seconds

SOURCE = flags.DEFINE_string("source", None, "Video file, camera number, or URL.")


@dataclasses.dataclass(frozen=True)
class LiveChunk:
    """The sampled frames of one chunk as they came from the source."""

    frames: np.ndarray  # (T, crop, crop, 3) uint8
    start_frame: int
    num_frames: int  # raw frames, at most T * stride
    decode_s: float


@dataclasses.dataclass(frozen=True)
class ChunkResult:
    """What the stream says about one chunk."""

    start_frame: int
    labels: np.ndarray  # (num_frames,) int32
    confidence: np.ndarray  # (num_frames,) float32, of the label, 0..1
    wait_s: float
    decode_s: float
    compute_s: float


def main() -> None:
    """Runs the command."""
    run(cli.WORKDIR.value, flags.FLAGS.checkpoint, SOURCE.value, sys.stdout)


def run(workdir: str, which: str, source: str, out: TextIO) -> None:
    """Segments `source` with a checkpoint of a run; writes JSON lines to `out`."""
    meta = store.read_meta(workdir, which)
    config = load_config(None, meta.config, meta.origin)
    if config.data.features:
        raise InputError(
            f"--workdir={workdir} was trained on features and cannot read videos; "
            "stream with a run that was trained on videos, or evaluate this one with "
            "--clip_frames=FRAMES to see how it does on a stream."
        )
    spec, fps = live_spec(stream_spec(config), source_fps(source), meta.fps)
    model, variables = evaluate.restore(config, meta, workdir, which)
    chunks = read_chunks(source, spec, config.data)
    results = segment_stream(
        chunks, model, variables, spec, crop=config.data.crop, fps=fps
    )
    for index, result in enumerate(results):
        line = {"chunk": index, **describe(result, meta.class_names, fps)}
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
        out.flush()


def live_spec(
    spec: StreamSpec, fps: float, trained_fps: float
) -> tuple[StreamSpec, float]:
    """Fits the stride to the source, so that steps are as far apart in time as in
    training; returns it with the source's frame rate."""
    if not (fps and trained_fps):
        known = fps or trained_fps or FALLBACK_FPS
        logging.warning("no frame rate of the source or the training; taking %g", known)
        return spec, known
    stride = max(1, round(spec.frame_stride * fps / trained_fps))
    if stride != spec.frame_stride:
        logging.warning(
            "the source has %g fps, the model was trained at %g: every %d-th frame is "
            "used instead of every %d-th",
            fps,
            trained_fps,
            stride,
            spec.frame_stride,
        )
    return StreamSpec(spec.clip_steps * stride, stride), fps


def read_chunks(
    source: str, spec: StreamSpec, data_config: ml_collections.ConfigDict
) -> Iterator[LiveChunk]:
    """Fills one chunk at a time from a source; the last one may be short.

    A chunk is complete when the first frame after it arrives: only then is it known
    that the source did not end within the chunk's last stride.
    """
    resize, crop = tuple(data_config.resize), data_config.crop
    place = transforms.centre_crop(resize, crop)
    source_frames = iter_frames(source, spec.frame_stride)
    frames, start_frame, decode_s = [], 0, 0.0
    while True:
        begin = time.perf_counter()
        try:
            index, _, frame = next(source_frames)
        except StopIteration as end:
            num_seen = end.value
            break
        square = transforms.transform_frames(frame[None], resize=resize, crop=place)[0]
        spent_s = time.perf_counter() - begin
        if len(frames) == spec.clip_steps:
            yield LiveChunk(np.stack(frames), start_frame, spec.clip_frames, decode_s)
            frames, start_frame, decode_s = [], index, 0.0
        frames.append(square)
        decode_s += spent_s
    if frames:
        yield LiveChunk(np.stack(frames), start_frame, num_seen - start_frame, decode_s)


def segment_stream(
    chunks: Iterator[LiveChunk],
    model: nn.Module,
    variables: Params,
    spec: StreamSpec,
    *,
    crop: int,
    fps: float,
) -> Iterator[ChunkResult]:
    """Segments chunks one by one, the state in hand.

    What does not need a chunk's frames is computed after the chunk before it: the
    frames of a file are decoded, those of a camera shot, in the meantime.
    """
    segment = compile_inference(
        functools.partial(segment_chunk, model=model), donate_argnums=1
    )
    prepare = compile_inference(functools.partial(look_ahead, model=model))
    # Compiles before the first frame is shot.
    blank = jax.tree.map(np.asarray, blank_chunk(1, spec, crop))
    state, starts = start_streams(model, variables, 1), True
    segment(variables, state, blank, prepare(variables, state))
    state = start_streams(model, variables, 1)
    ahead = prepare(variables, state)
    for live in chunks:
        begin = time.perf_counter()
        chunk = to_chunk(live, spec, starts=starts)
        state, logits = segment(variables, state, chunk, ahead)
        logits = np.asarray(jax.block_until_ready(logits))[0]
        scores = np.repeat(logits, spec.frame_stride, axis=0)[: live.num_frames]
        compute_s = time.perf_counter() - begin
        ahead = prepare(variables, state)
        yield ChunkResult(
            start_frame=live.start_frame,
            labels=scores_to_labels(scores),
            confidence=scores_to_confidence(scores),
            wait_s=live.num_frames / fps,
            decode_s=live.decode_s,
            compute_s=compute_s,
        )
        starts = False


def to_chunk(live: LiveChunk, spec: StreamSpec, *, starts: bool) -> Chunk:
    """Returns the chunk with leaves (1, ...), padded with black frames."""
    num_steps = len(live.frames)
    frames = np.zeros((spec.clip_steps, *live.frames.shape[1:]), np.uint8)
    frames[:num_steps] = live.frames
    valid = np.arange(spec.clip_frames) < live.num_frames
    return Chunk(
        frames=frames[None],
        labels=np.full((1, spec.clip_frames), IGNORE_LABEL, np.int32),
        valid=valid[None],
        starts=np.array([starts]),
        num_chunks=np.ones(1, np.int32),
    )


def describe(
    result: ChunkResult, class_names: tuple[str, ...], fps: float
) -> dict[str, object]:
    """Returns the fields of one JSON line."""
    segments = []
    for segment in labels_to_segments(result.labels):
        confidence = result.confidence[segment.start : segment.end].mean()
        segments.append(
            {
                "label": class_names[segment.label],
                **_span(result, segment.start, segment.end, fps),
                "confidence": round(float(confidence), 4),
            }
        )
    return {
        **_span(result, 0, len(result.labels), fps),
        "segments": segments,
        "latency_ms": {
            "wait": round(1000 * result.wait_s, 1),
            "decode": round(1000 * result.decode_s, 1),
            "compute": round(1000 * result.compute_s, 1),
        },
    }


def _span(result: ChunkResult, start: int, end: int, fps: float) -> dict[str, object]:
    """Frames and seconds from `start` up to, not including, `end` of a chunk."""
    frames = [result.start_frame + start, result.start_frame + end]
    return {"frames": frames, "time_s": [round(frame / fps, 3) for frame in frames]}


if __name__ == "__main__":
    cli.define_checkpoint()
    cli.run(main, required=("workdir", "source"))
