"""What a model costs per frame: weights, arithmetic, bytes, time. Needs no data.

    python -m svtas_jax.profile --config=configs/gtea_transeger.py [--json=FILE]
        [--trace=FOLDER]
    python -m svtas_jax.profile --table [--json=FILE]

The model has random weights and sees noise; time is that of the model alone, frames are
those that it sees (every `frame_stride`-th of the video). --table runs the systems of
the paper at 224x224, batch 1, 32 steps, beside the paper's own figures.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import flags, logging

from data_pipeline.known import class_names_of
from svtas_jax import cli, provenance, report
from svtas_jax.config import default_config, stream_spec, validate_config
from svtas_jax.errors import MissingInputError
from svtas_jax.files import write_atomic
from svtas_jax.macs import count_macs, count_normalisations, parameters_by_module
from svtas_jax.models import build_model
from svtas_jax.streaming import blank_chunk, segment_chunk
from svtas_jax.structs import Chunk, Params, StreamState

TABLE = flags.DEFINE_bool("table", False, "All systems of the paper.")
JSON = flags.DEFINE_string("json", None, "File to write the figures to.")
TRACE = flags.DEFINE_string(
    "trace", None, "Folder for a trace that TensorBoard and XProf show."
)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
_WORTH = 1.05  # a batch twice as large must bring this much, or the search ends
_FEATURE_WIDTH = 2048  # of features that no file is at hand for


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one model costs.

    Attributes:
        params: all parameters, those of training included.
        params_by_module: the same, by top module.
        macs_per_chunk: products and normalisations (`svtas_jax.macs`), batch 1.
        products_per_chunk: matrix products and convolutions alone.
        macs_per_frame: a chunk's, by decoded frame.
        bytes_per_chunk: memory traffic as XLA counts it for the compiled program.
        flops_per_byte: arithmetic intensity of the products.
        latency_ms: p50 and p95 of a chunk at batch 1.
        frames_per_s: decoded frames at batch 1.
        best_batch: batch size with the most frames a second, and how many.
        branch_ms: p50 of image, text and the rest.
    """

    params: int
    params_by_module: dict[str, int]
    macs_per_chunk: int
    products_per_chunk: int
    macs_per_frame: float
    bytes_per_chunk: float
    flops_per_byte: float
    latency_ms: dict[str, float]
    frames_per_s: float
    best_batch: dict[str, float]
    branch_ms: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the paper's table: a system and what the paper says of it."""

    name: str
    model: dict[str, Any]
    params_m: float | None = None
    macs_per_frame_g: float | None = None
    frames_per_s: float | None = None  # on an RTX 3090, PyTorch
    crop: int = 224


_I3D = dict(backbone="i3d", num_stages=4, num_layers=10, head="ms_tcn")
_TCN = dict(head="ms_tcn", num_layers=4, num_stages=1)
ROWS = (
    Row("SETE (TSM + memory TCN)", {}, 2.372, 0.3191, 3122),
    Row("SETE at 256x256", {}, crop=256),
    Row(
        "METE (fixed prompts; inference)",
        dict(system="mete", prompt="fixed", prompt_len=40),
    ),
    Row("Transeger", dict(system="transeger"), 38.444, 0.7955, 1199),
    Row("Transeger at 256x256", dict(system="transeger"), crop=256),
    Row("I3D + MS-TCN, single stage", _I3D, 28.006, 5.4100, 433),
    Row("TSM + plain TCN", _TCN),
    Row("TSM + 3D TCN", dict(head="tcn_3d")),
    Row("I3D + memory TCN", dict(backbone="i3d")),
    Row("R(2+1)D-34 + memory TCN", dict(backbone="r2plus1d")),
    Row("ViT-B/16 + ASFormer", _I3D | dict(backbone="vit", head="asformer")),
    Row("I3D + m-GRU + GTRM", _I3D | dict(head="gtrm", num_layers=2)),
)


def main() -> None:
    """Runs the command."""
    if not TABLE.value and cli.CONFIG.value is None:
        raise MissingInputError("--config is missing; or --table for all systems.")
    if TABLE.value:
        return write_json({"rows": table()}, JSON.value)
    config = cli.CONFIG.value
    validate_config(config)
    cost = profile(config, batches=BATCHES, trace=TRACE.value)
    for line in describe(cost, config):
        logging.info("%s", line)
    write_json(facts(cost, config), JSON.value)


def table() -> list[dict[str, Any]]:
    """Profiles the paper's systems and prints its table with ours beside."""
    rows = []
    logging.info(
        "GTEA, 32 steps, batch 1, %s; the paper's in brackets", provenance.hardware()
    )
    logging.info("MACs: products + normalisations (products alone)")
    logging.info("%-32s %14s %-26s %s", "system", "params", "GMACs a frame", "frames/s")
    for row in ROWS:
        config = config_of(row)
        cost = profile(config, batches=(1,))
        paper = [row.params_m, row.macs_per_frame_g, row.frames_per_s]
        params, macs, speed = (f"[{x}]" if x is not None else "" for x in paper)
        products = cost.products_per_chunk / stream_spec(config).clip_steps
        arithmetic = f"{cost.macs_per_frame / 1e9:.4f} ({products / 1e9:.4f}) {macs}"
        pace = f"{cost.frames_per_s:.1f} {speed}"
        weights = f"{cost.params:,} {params}"
        logging.info("%-32s %24s %-26s %s", row.name, weights, arithmetic, pace)
        own = {"paper": dict(zip(("params_m", "macs_g", "fps"), paper, strict=True))}
        rows.append({"name": row.name, **facts(cost, config), **own})
    return rows


def config_of(row: Row) -> ml_collections.ConfigDict:
    """Returns the config of a row: GTEA, the paper's values."""
    config = default_config()
    config.data.crop = row.crop
    config.model.update(row.model)
    validate_config(config)
    return config


def profile(
    config: ml_collections.ConfigDict,
    *,
    batches: Sequence[int],
    trace: str | None = None,
) -> Cost:
    """Measures the model of a config.

    Args:
        config: what `build_model` wants.
        batches: sizes to try; ends early where a larger one brings nothing.
        trace: folder for XLA's trace of one chunk.
    """
    names, spec = class_names_of(config.data), stream_spec(config)
    model = build_model(config, names)
    state, chunk = model.initial_state(1), _noise(config, 1)
    variables = _random_variables(model, state, chunk)
    run = jax.jit(functools.partial(segment_chunk, model=model))
    compiled = run.lower(variables, state, chunk).compile()
    products = count_macs(run, variables, state, chunk)
    macs = products + count_normalisations(model, variables, state, chunk)
    moved = _bytes_accessed(compiled)
    times = measure(lambda: compiled(variables, state, chunk))
    if trace:
        with jax.profiler.trace(trace):
            jax.block_until_ready(compiled(variables, state, chunk))
        logging.info("trace: tensorboard --logdir=%s", trace)
    modules = parameters_by_module(variables["params"])
    p50, p95 = np.percentile(times, 50), np.percentile(times, 95)
    pace = spec.clip_steps / p50 * 1e3
    return Cost(
        params=sum(modules.values()),
        params_by_module=modules,
        macs_per_chunk=macs,
        products_per_chunk=products,
        macs_per_frame=macs / spec.clip_steps,
        bytes_per_chunk=moved,
        flops_per_byte=2 * products / moved if moved else 0.0,
        latency_ms={"p50": p50, "p95": p95},
        frames_per_s=pace,
        best_batch=_best_batch(run, model, variables, config, batches, pace),
        branch_ms=_branches(model, variables, state, chunk, p50),
    )


def measure(call: Callable[[], Any], *, least: int = 10, limit_s: float = 5.0):
    """Returns the times of a call in ms, after one to warm up: `least` of them, or as
    many as fit into `limit_s`, but three."""
    jax.block_until_ready(call())
    times, start = [], time.perf_counter()
    while len(times) < least:
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - begin))
        if len(times) >= 3 and time.perf_counter() - start > limit_s:
            break
    return times


def _noise(config, batch_size) -> Chunk:
    spec = stream_spec(config)
    width = _FEATURE_WIDTH if config.model.backbone == "features" else 0
    chunk = blank_chunk(batch_size, spec, config.data.crop, feature_width=width)
    rng = np.random.default_rng(0)
    shape = chunk.frames.shape
    if width:
        return chunk.replace(frames=jnp.asarray(rng.normal(size=shape), jnp.float32))
    return chunk.replace(frames=jnp.asarray(rng.integers(0, 256, shape, np.uint8)))


def _random_variables(model: nn.Module, state: StreamState, chunk: Chunk) -> Params:
    """Values do not matter to the cost: what compiles fast."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), state, chunk)
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32) + 0.01)

    variables = jax.tree.map(draw, shapes)
    stats = jax.tree.map(lambda leaf: jnp.abs(leaf) + 1, variables.get("batch_stats"))
    return {**variables, "batch_stats": stats} if stats else variables


def _best_batch(run, model, variables, config, batches, pace) -> dict[str, float]:
    best = {"batch": 1, "frames_per_s": pace}
    for size in batches:
        if size == 1:
            continue
        state, chunk = model.initial_state(size), _noise(config, size)
        times = measure(lambda s=state, c=chunk: run(variables, s, c), least=5)
        found = size * stream_spec(config).clip_steps / np.median(times) * 1e3
        if found < best["frames_per_s"] * _WORTH:
            break
        best = {"batch": size, "frames_per_s": found}
    return best


def _branches(model, variables, state, chunk, total_ms) -> dict[str, float]:
    """Times image and text branch alone; the rest is what is left."""
    own = functools.partial(model.apply, variables)
    see = jax.jit(functools.partial(own, method="image_features"))
    spent = {"image": float(np.median(measure(lambda: see(chunk), least=5)))}
    if hasattr(model, "text_features"):
        tell = jax.jit(functools.partial(own, method="text_features"))
        told = jnp.zeros_like(state.labels)
        spent["text"] = float(np.median(measure(lambda: tell(told), least=5)))
    return {**spent, "rest": max(0.0, total_ms - sum(spent.values()))}


def _bytes_accessed(compiled) -> float:
    analysis = compiled.cost_analysis() or {}
    if isinstance(analysis, list | tuple):
        analysis = analysis[0]
    return float(analysis.get("bytes accessed", 0.0))


def describe(cost: Cost, config: ml_collections.ConfigDict) -> list[str]:
    """Returns the lines that a person wants to read."""
    spec, share = stream_spec(config), cost.branch_ms
    modules = ", ".join(f"{n} {v:,}" for n, v in sorted(cost.params_by_module.items()))
    total = sum(share.values())
    parts = ", ".join(f"{n} {v:.1f} ms ({v / total:.0%})" for n, v in share.items())
    return [
        f"device      {provenance.hardware()}, {config.model.dtype}",
        f"input       1 x {spec.clip_steps} x {config.data.crop} x {config.data.crop}",
        f"parameters  {cost.params:,}: {modules}",
        f"MACs        {cost.macs_per_chunk / 1e9:.3f} G a chunk, "
        f"{cost.macs_per_frame / 1e9:.4f} G a frame (products and normalisations; "
        f"products alone {cost.products_per_chunk / 1e9:.3f} G)",
        f"bytes       {cost.bytes_per_chunk / 1e6:.0f} MB a chunk (XLA's cost "
        f"analysis), {cost.flops_per_byte:.1f} FLOPs a byte",
        f"latency     p50 {cost.latency_ms['p50']:.1f} ms, p95 "
        f"{cost.latency_ms['p95']:.1f} ms a chunk of {spec.clip_steps} frames",
        f"speed       {cost.frames_per_s:.1f} frames/s at batch 1, "
        f"{cost.best_batch['frames_per_s']:.1f} at batch {cost.best_batch['batch']}",
        f"branches    {parts}",
    ]


def facts(cost: Cost, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the figures for programs."""
    return {
        **dataclasses.asdict(cost),
        "device": provenance.hardware(),
        "dtype": config.model.dtype,
        "crop": config.data.crop,
        "clip_steps": stream_spec(config).clip_steps,
        "convention": "products (jaxpr) + normalisations (fvcore: batch norm 2, layer "
        "norm 5 a value); frames are decoded frames",
    }


def write_json(content: dict[str, Any], path: str | None) -> None:
    """Writes figures and versions to a file, if one is named."""
    if path:
        text = report.to_json({**content, "versions": provenance.versions()})
        write_atomic(path, text)


if __name__ == "__main__":
    cli.run(main, required=())
