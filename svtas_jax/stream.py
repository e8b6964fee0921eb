"""Segments a video file, camera or URL as it comes: one JSON line per chunk.

    python -m svtas_jax.stream --workdir=runs/x --source=video.mp4|0|rtsp://...
        [--checkpoint=best|latest|STEP]

Frames go through the same `segment_chunk` as in evaluation, so both give the same
labels. Seconds are the frames' own, see `data_pipeline.sources`. Latencies are
milliseconds: `wait` until the chunk's frames have been shot, `decode` to decode and
resize them, `compute` to segment them.
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
from data_pipeline.sources import Source, open_source
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

SOURCE = flags.DEFINE_string(
    "source", None, "Video file, camera number, URL, pipe, or - for standard input."
)


@dataclasses.dataclass(frozen=True)
class LiveChunk:
    """The sampled frames of one chunk as they came from the source."""

    frames: np.ndarray  # (T, crop, crop, 3) uint8
    start_frame: int
    num_frames: int  # raw frames, at most T * stride
    times_s: np.ndarray  # (T + 1,) float64, of the sampled frames and of the end
    decode_s: float


@dataclasses.dataclass(frozen=True)
class ChunkResult:
    """What the stream says about one chunk."""

    start_frame: int
    labels: np.ndarray  # (num_frames,) int32
    confidence: np.ndarray  # (num_frames,) float32, of the label, 0..1
    times_s: np.ndarray  # (T + 1,) float64, of the sampled frames and of the end
    stride: int  # raw frames from one of these to the next
    decode_s: float
    compute_s: float


def main() -> None:
    """Runs the command."""
    run(cli.WORKDIR.value, flags.FLAGS.checkpoint, SOURCE.value, sys.stdout)


def run(workdir: str, which: str, source: str, out: TextIO) -> None:
    """Segments `source` with a checkpoint of a run; writes JSON lines to `out`."""
    meta = store.read_meta(workdir, which)
    config = load_config(None, meta.config)
    if config.data.features:
        raise InputError(
            f"--workdir={workdir} was trained on features and cannot read videos; "
            "stream with a run that was trained on videos, or evaluate this one with "
            "--clip_frames=FRAMES to see how it does on a stream."
        )
    model, variables = evaluate.restore(config, meta, workdir, which)
    with open_source(source) as frames:  # last: a live one does not wait
        spec = live_spec(stream_spec(config), frames.fps, meta.fps)
        chunks = read_chunks(frames, spec, config.data)
        results = segment_stream(chunks, model, variables, spec, crop=config.data.crop)
        for index, result in enumerate(results):
            line = {"chunk": index, **describe(result, meta.class_names)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            out.flush()


def live_spec(spec: StreamSpec, fps: float, trained_fps: float) -> StreamSpec:
    """Fits the stride to the source, so that steps are as far apart in time as in
    training."""
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
            "the source has %g fps, the model was trained at %g: every %d-th frame is "
            "used instead of every %d-th",
            fps,
            trained_fps,
            stride,
            spec.frame_stride,
        )
    return StreamSpec(spec.clip_steps * stride, stride)


def read_chunks(
    source: Source, spec: StreamSpec, data_config: ml_collections.ConfigDict
) -> Iterator[LiveChunk]:
    """Fills one chunk at a time from a source; the last one may be short.

    A chunk is complete when the first frame after it arrives: only then is it known
    that the source did not end within the chunk's last stride.

    Raises:
        InputError: if the source breaks off, after the last chunk.
    """
    resize, crop = tuple(data_config.resize), data_config.crop
    place = transforms.centre_crop(resize, crop)
    shots = source.shots(spec.frame_stride)
    frames, times, start_frame, decode_s, failure = [], [], 0, 0.0, None
    while True:
        begin = time.perf_counter()
        try:
            shot = next(shots)
        except StopIteration:
            break
        except InputError as error:
            failure = error
            break
        frame = shot.frame[None]
        square = transforms.transform_frames(frame, resize=resize, crop=place)[0]
        spent_s = time.perf_counter() - begin
        if len(frames) == spec.clip_steps:
            times_s = np.asarray([*times, shot.time_s])
            yield LiveChunk(
                np.stack(frames), start_frame, spec.clip_frames, times_s, decode_s
            )
            frames, times, start_frame, decode_s = [], [], shot.index, 0.0
        frames.append(square)
        times.append(shot.time_s)
        decode_s += spent_s
    if frames:
        count, times_s = source.num_frames - start_frame, [*times, source.end_s]
        yield LiveChunk(
            np.stack(frames), start_frame, count, np.asarray(times_s), decode_s
        )
    if failure is not None:
        raise failure


def segment_stream(
    chunks: Iterator[LiveChunk],
    model: nn.Module,
    variables: Params,
    spec: StreamSpec,
    *,
    crop: int,
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
            times_s=live.times_s,
            stride=spec.frame_stride,
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


def describe(result: ChunkResult, class_names: tuple[str, ...]) -> dict[str, object]:
    """Returns the fields of one JSON line."""
    segments = []
    for segment in labels_to_segments(result.labels):
        confidence = result.confidence[segment.start : segment.end].mean()
        segments.append(
            {
                "label": class_names[segment.label],
                **_span(result, segment.start, segment.end),
                "confidence": round(float(confidence), 4),
            }
        )
    return {
        **_span(result, 0, len(result.labels)),
        "segments": segments,
        "latency_ms": {
            "wait": round(1000 * (result.times_s[-1] - result.times_s[0]), 1),
            "decode": round(1000 * result.decode_s, 1),
            "compute": round(1000 * result.compute_s, 1),
        },
    }


def _span(result: ChunkResult, start: int, end: int) -> dict[str, object]:
    """Frames and seconds from `start` up to, not including, `end` of a chunk.

    Labels change at sampled frames only, whose times are known.
    """
    num_frames = len(result.labels)
    steps = [-1 if at == num_frames else at // result.stride for at in (start, end)]
    return {
        "frames": [result.start_frame + start, result.start_frame + end],
        "time_s": [round(float(result.times_s[step]), 3) for step in steps],
    }


if __name__ == "__main__":
    cli.define_checkpoint()
    cli.run(main, required=("workdir", "source"))
