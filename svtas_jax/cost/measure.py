"""Measures a model's cost: parameters, arithmetic, bytes, time. Needs no data."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from data_pipeline.chunks import blank_chunk
from data_pipeline.known import class_names_of
from svtas_jax.config import stream_spec
from svtas_jax.cost.macs import count_macs, count_normalisations, parameters_by_module
from svtas_jax.folding import folded
from svtas_jax.models import build_model
from svtas_jax.streaming import (
    compile_inference,
    look_ahead,
    segment_chunk,
    with_weights,
)
from svtas_jax.structs import Chunk, Model, Params, StreamState

_WORTH = 1.05  # the search for the best batch ends if a larger one gains less than this
WHOLE_VIDEO = 1024  # frames in a chunk that is a whole video, about as long as GTEA's
FEATURE_WIDTH = 2048  # assumed, because no file of features is read


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one model.

    Attributes:
        params: number of parameters, including those that only training uses.
        params_by_module: the same, by top-level module.
        macs_per_chunk: products and normalisations (`svtas_jax.cost.macs`), batch 1.
        products_per_chunk: matrix products and convolutions only.
        macs_per_frame: `macs_per_chunk` per decoded frame.
        bytes_per_chunk: memory traffic of the compiled program, as XLA counts it.
        flops_per_byte: arithmetic intensity of the products.
        latency_ms: p50 and p95 of a chunk at batch 1.
        latency_ahead_ms: the same if the text branch has run before the chunk's last
            frame; empty without a text branch.
        frames_per_s: decoded frames per second at batch 1.
        best_batch: batch size with the most frames per second, and these.
        branch_ms: p50 of the image branch, the text branch and the rest.
    """

    params: int
    params_by_module: dict[str, int]
    macs_per_chunk: int
    products_per_chunk: int
    macs_per_frame: float
    bytes_per_chunk: float
    flops_per_byte: float
    latency_ms: dict[str, float]
    latency_ahead_ms: dict[str, float]
    frames_per_s: float
    best_batch: dict[str, float]
    branch_ms: dict[str, float]


def profile(
    config: ml_collections.ConfigDict,
    *,
    batches: Sequence[int],
    trace: str | None = None,
) -> Cost:
    """Measures the model of a config.

    Args:
        config: see `build_model`.
        batches: sizes to try, rising; stops when a larger one gains nothing.
        trace: folder for XLA's trace of one chunk.
    """
    model = build_model(config, class_names_of(config.data))
    state, chunk = model.initial_state(1), noise(config, 1)
    variables = random_variables(model, state, chunk)
    segment = functools.partial(segment_chunk, model=model)
    values, rest = folded(segment, variables, state, chunk)
    compiled = compile_inference(rest).lower(values, state, chunk).compile()
    products = count_macs(segment, variables, state, chunk)
    macs = products + count_normalisations(model, variables, state, chunk)
    moved = _bytes_accessed(compiled)
    latency = percentiles(measure(lambda: compiled(values, state, chunk)))
    if trace:
        with jax.profiler.trace(trace):
            jax.block_until_ready(compiled(values, state, chunk))
        logging.info("trace: tensorboard --logdir=%s", trace)
    modules = parameters_by_module(variables["params"])
    pace = stream_spec(config).clip_steps / latency["p50"] * 1e3
    return Cost(
        params=sum(modules.values()),
        params_by_module=modules,
        macs_per_chunk=macs,
        products_per_chunk=products,
        macs_per_frame=macs / stream_spec(config).clip_steps,
        bytes_per_chunk=moved,
        flops_per_byte=2 * products / moved if moved else 0.0,
        latency_ms=latency,
        latency_ahead_ms=time_ahead(model, variables, state, chunk),
        frames_per_s=pace,
        best_batch=_best_batch(model, variables, config, batches, pace),
        branch_ms=_branches(model, variables, state, chunk, latency["p50"]),
    )


def measure(
    call: Callable[[], Any], *, least: int = 10, limit_s: float = 5.0
) -> list[float]:
    """Times a call, in ms, after one call to warm up.

    It times `least` calls; fewer, but at least three, if they exceed `limit_s`.
    """
    jax.block_until_ready(call())
    times, start = [], time.perf_counter()
    while len(times) < least:
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - begin))
        if len(times) >= 3 and time.perf_counter() - start > limit_s:
            break
    return times


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Returns p50 and p95."""
    return {f"p{rank}": float(np.percentile(times, rank)) for rank in (50, 95)}


def noise(config: ml_collections.ConfigDict, batch_size: int) -> Chunk:
    """Returns a chunk of random images or features, leaves (B, ...)."""
    spec = stream_spec(config)
    width = FEATURE_WIDTH if config.model.backbone == "features" else 0
    chunk = blank_chunk(batch_size, spec, config.data.crop, feature_width=width)
    rng = np.random.default_rng(0)
    shape = chunk.frames.shape
    if width:
        frames = jnp.asarray(rng.normal(size=shape), jnp.float32)
    else:
        frames = jnp.asarray(rng.integers(0, 256, shape, np.uint8))
    return dataclasses.replace(chunk, frames=frames)


def random_variables(model: Model, state: StreamState, chunk: Chunk) -> Params:
    """Returns random variables without compiling the model's initialisers."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), state, chunk)
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32) + 0.01)

    variables = jax.tree.map(draw, shapes)
    stats = jax.tree.map(lambda leaf: jnp.abs(leaf) + 1, variables.get("batch_stats"))
    return {**variables, "batch_stats": stats} if stats else variables


def _best_batch(model, variables, config, batches, pace) -> dict[str, float]:
    run = with_weights(functools.partial(segment_chunk, model=model), variables)
    best = {"batch": 1, "frames_per_s": pace}
    for size in batches:
        if size == 1:
            continue
        state, chunk = model.initial_state(size), noise(config, size)
        times = measure(lambda s=state, c=chunk: run(s, c), least=5)
        found = size * stream_spec(config).clip_steps / np.median(times) * 1e3
        if found < best["frames_per_s"] * _WORTH:
            break
        best = {"batch": size, "frames_per_s": found}
    return best


def time_ahead(
    model: Model, variables: Params, state: StreamState, chunk: Chunk
) -> dict[str, float]:
    """Returns p50 and p95 of `segment_chunk` after `look_ahead` has run; empty if the
    model computes nothing ahead."""
    ahead = compile_inference(functools.partial(look_ahead, model=model))(
        variables, state
    )
    if ahead is None:
        return {}
    segment = functools.partial(segment_chunk, model=model)
    run = with_weights(segment, variables)
    return percentiles(measure(lambda: run(state, chunk, ahead)))


def describe_ahead(latency: dict[str, float]) -> list[str]:
    """Returns a line with the result of `time_ahead`, none if that is empty."""
    if not latency:
        return []
    return [
        f"ahead       p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms after a "
        "chunk's last frame, if the text branch has already run"
    ]


def _branches(model, variables, state, chunk, total_ms) -> dict[str, float]:
    """Times the image and the text branch alone; the rest is the difference."""
    apply = functools.partial(model.apply, variables)
    image = compile_inference(functools.partial(apply, method="image_features"))
    times = {"image": float(np.median(measure(lambda: image(state, chunk), least=5)))}
    if hasattr(model, "text_features"):
        text = compile_inference(functools.partial(apply, method="text_features"))
        labels = jnp.zeros_like(state.labels)
        parts = dict(scores=state.scores, history=state.history)
        times["text"] = float(
            np.median(measure(lambda: text(labels, **parts), least=5))
        )
    return {**times, "rest": max(0.0, total_ms - sum(times.values()))}


def _bytes_accessed(compiled) -> float:
    analysis = compiled.cost_analysis() or {}
    if isinstance(analysis, list | tuple):
        analysis = analysis[0]
    return float(analysis.get("bytes accessed", 0.0))
