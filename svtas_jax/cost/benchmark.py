"""Measures a model's speed here: inference, training, input pipeline, file to labels.

Inference and training count the frames that the model reads; the others count all
decoded frames. Compilation is timed without its cache, and separately.
"""

import dataclasses
import functools
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import logging

from data_pipeline.dataset import make_dataset
from data_pipeline.known import class_names_of
from data_pipeline.video import count_frames
from svtas_jax.config import stream_spec, with_clip_frames
from svtas_jax.config_rules import validate_config
from svtas_jax.cost.measure import (
    WHOLE_VIDEO,
    describe_ahead,
    measure,
    noise,
    percentiles,
    random_variables,
    time_ahead,
)
from svtas_jax.errors import InputError
from svtas_jax.evaluation import report
from svtas_jax.evaluation.scoring import make_scorer
from svtas_jax.folding import folded
from svtas_jax.models import build_model
from svtas_jax.runtime import provenance
from svtas_jax.streaming import compile_inference, segment_chunk
from svtas_jax.structs import Model, Params, VideoRecord
from svtas_jax.training.functions import functions_of
from svtas_jax.training.step import begin_with, init_carry

# The rendered video.
SIZE = (404, 720)  # height and width
FPS = 15.0
NUM_CHUNKS = 6


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """The measured figures. Times are milliseconds, unless the name ends in _s.

    Attributes:
        compile_s: seconds to compile "inference" and "training", for one chunk.
        inference: by batch size, p50 and p95 of a chunk, and frames/s.
        ahead_ms: p50 and p95 of a chunk whose text branch has already run; empty
            without a text branch.
        training: p50 and p95 of a chunk's forward and backward pass, the number of its
            videos, and frames/s.
        pipeline: frames/s of decoding and resizing: "all" frames, those "kept" by the
            stride, and all from `config.data.frame_cache` ("cached").
        from_file_frames_per_s: all frames of a video, from file to logits.
        peak_bytes: memory of the device, or of the process if it runs on CPU.
    """

    compile_s: dict[str, float]
    inference: dict[int, dict[str, float]]
    ahead_ms: dict[str, float]
    training: dict[str, float]
    pipeline: dict[str, float]
    from_file_frames_per_s: float
    peak_bytes: int


def run(
    config: ml_collections.ConfigDict,
    batches: Sequence[int],
    *,
    video: str | None = None,
    path: str | None = None,
) -> None:
    """Measures and logs the figures, and writes them to `path`.

    Raises:
        InputError: if the config reads features, or a batch size is 0.
    """
    validate_config(config)
    if not batches or 0 in batches:
        raise InputError("--batches needs sizes from 1, such as --batches=1,8.")
    if config.data.features:
        raise InputError(
            "the benchmark needs a model of videos, but --config reads features; "
            "svtas_jax.profile measures a model of features."
        )
    config = with_clip_frames(config, [WHOLE_VIDEO])
    # Programs must be compiled here, not taken from an earlier run.
    jax.config.update("jax_enable_compilation_cache", False)
    with tempfile.TemporaryDirectory() as folder:
        video = video or render(pathlib.Path(folder) / "video.mp4", config)
        found = benchmark(config, video, batches)
    for line in describe(found, config):
        logging.info("%s", line)
    facts = {
        **dataclasses.asdict(found),
        "device": provenance.hardware(),
        "config": config.to_dict(),
    }
    report.write_figures(facts, path)


def benchmark(
    config: ml_collections.ConfigDict, video: str, batches: Sequence[int]
) -> Benchmark:
    """Measures everything, one after the other."""
    model = build_model(config, class_names_of(config.data))
    variables = random_variables(model, model.initial_state(1), noise(config, 1))
    record = VideoRecord(
        name=pathlib.Path(video).stem,
        video_path=video,
        labels=np.zeros(count_frames(video), np.int32),
        fps=FPS,
    )
    logging.info("inference")
    inference, compile_s, ahead_ms = time_inference(model, variables, config, batches)
    logging.info("training")
    training, train_compile_s = time_training(model, variables, config)
    logging.info("pipeline, and from file to logits")
    return Benchmark(
        compile_s={"inference": compile_s, "training": train_compile_s},
        inference=inference,
        ahead_ms=ahead_ms,
        training=training,
        pipeline=time_pipeline(record, config),
        from_file_frames_per_s=time_from_file(model, variables, record, config),
        peak_bytes=peak_bytes(),
    )


def time_inference(
    model: Model,
    variables: Params,
    config: ml_collections.ConfigDict,
    batches: Sequence[int],
) -> tuple[dict[int, dict[str, float]], float, dict[str, float]]:
    """Returns `Benchmark.inference`, and for the first batch size the seconds to
    compile and `Benchmark.ahead_ms`."""
    segment = functools.partial(segment_chunk, model=model)
    steps, found, compile_s, ahead_ms = stream_spec(config).clip_steps, {}, 0.0, {}
    for size in batches:
        state, chunk = model.initial_state(size), noise(config, size)
        values, run = folded(segment, variables, state, chunk)
        lowered = compile_inference(run).lower(values, state, chunk)
        compiled, seconds = _timed(lowered.compile)
        times = measure(lambda v=values, s=state, c=chunk, f=compiled: f(v, s, c))
        latency = percentiles(times)
        pace = size * steps / latency["p50"] * 1e3
        found[size] = {**latency, "frames_per_s": pace}
        if size == batches[0]:
            compile_s = seconds
            ahead_ms = time_ahead(model, variables, state, chunk)
    return found, compile_s, ahead_ms


def time_training(
    model: Model, variables: Params, config: ml_collections.ConfigDict
) -> tuple[dict[str, float], float]:
    """Returns `Benchmark.training` and the seconds to compile.

    It leaves out the optimizer, which runs only once per step and costs little.
    """
    batch_size, tx = config.train.batch_size, optax.identity()
    copies = jax.tree.map(jnp.copy, variables)  # the step donates its state
    state = begin_with(copies, tx)
    carry = init_carry(state, model, batch_size)
    count = config.train.gradient_chunks
    chunk = noise(config, batch_size)
    chunks = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), chunk)
    names = class_names_of(config.data)
    accumulate, _ = functions_of(config, model, tx, class_counts=[1] * len(names))
    key = jax.random.key(0)
    lowered = accumulate.lower(state, carry, chunks, key)
    compiled, seconds = _timed(lowered.compile)

    def step():
        nonlocal state, carry
        state, carry = compiled(state, carry, chunks, key)
        return carry.chunk_index

    times = measure(step, limit_s=20)
    latency = percentiles([time / count for time in times])
    pace = batch_size * stream_spec(config).clip_steps / latency["p50"] * 1e3
    return {**latency, "videos": batch_size, "frames_per_s": pace}, seconds


def time_pipeline(
    record: VideoRecord, config: ml_collections.ConfigDict
) -> dict[str, float]:
    """Returns `Benchmark.pipeline`, from reading a whole video."""
    pace = _read(record, config.data)
    with tempfile.TemporaryDirectory() as folder:
        cached = ml_collections.ConfigDict(config.data)
        cached.frame_cache = folder
        _read(record, cached)
        cached_pace = _read(record, cached)
    kept = pace / config.data.frame_stride
    return {"all": pace, "kept": kept, "cached": cached_pace}


def _read(record: VideoRecord, data_config: ml_collections.ConfigDict) -> float:
    data = make_dataset(
        [record], data_config, batch_size=1, chunks_per_call=1, train=False
    )
    return record.num_frames / _timed(lambda: [None for _ in data])[1]


def time_from_file(
    model: Model,
    variables: Params,
    record: VideoRecord,
    config: ml_collections.ConfigDict,
) -> float:
    """Returns frames/s from a video file to logits, as in `evaluate`."""
    score = make_scorer(model, config)

    def run():
        return list(score(variables, [record]))

    run()  # compiles
    return record.num_frames / _timed(run)[1]


def render(path: pathlib.Path, config: ml_collections.ConfigDict) -> str:
    """Writes a video of moving shapes and returns its path."""
    num_frames = NUM_CHUNKS * config.data.clip_frames
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE[::-1]
    )
    if not writer.isOpened():
        raise InputError(f"no video can be written to {path}; give one with --video.")
    for index in range(num_frames):
        writer.write(moving_shapes(index))
    writer.release()
    return str(path)


def moving_shapes(index: int) -> np.ndarray:
    """Draws frame `index` of the rendered video, `SIZE` and 3 uint8."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [
        128 + 100 * np.sin((rows * a + columns * b) / 40 + index / c)
        for a, b, c in ((1, 2, 5), (2, -1, 7), (-1, 1, 3))
    ]
    return np.stack(waves, axis=-1).astype(np.uint8)


def peak_bytes() -> int:
    """Returns the peak memory of the device if it reports that, else of the process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return int(stats["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe(found: Benchmark, config: ml_collections.ConfigDict) -> list[str]:
    """Returns the figures as lines of text."""
    crop, steps = config.data.crop, stream_spec(config).clip_steps
    train, pipeline = found.training, found.pipeline
    lines = [
        f"device      {provenance.hardware()}, {config.model.dtype}",
        f"chunk       {steps} x {crop} x {crop}",
    ]
    lines += [
        f"batch {size:<5} p50 {row['p50']:.1f} ms, p95 {row['p95']:.1f} ms, "
        f"{row['frames_per_s']:.1f} frames/s"
        for size, row in found.inference.items()
    ]
    return [
        *lines,
        *describe_ahead(found.ahead_ms),
        f"training    p50 {train['p50']:.1f} ms, p95 {train['p95']:.1f} ms a chunk of "
        f"{train['videos']} videos, {train['frames_per_s']:.1f} frames/s",
        f"pipeline    {pipeline['all']:.0f} frames/s decoded, {pipeline['kept']:.0f} "
        f"kept and resized, {pipeline['cached']:.0f} from the frame cache",
        f"from file   {found.from_file_frames_per_s:.0f} frames/s to logits",
        f"memory      {found.peak_bytes / 1e6:.0f} MB at most",
        f"compiling   {found.compile_s['inference']:.1f} s inference, "
        f"{found.compile_s['training']:.1f} s training",
    ]


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin
