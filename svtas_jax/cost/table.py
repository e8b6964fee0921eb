"""Profiles the SVTAS paper's models, and formats the cost of a model."""

import dataclasses
from typing import Any

import ml_collections
from absl import logging

from svtas_jax.config import default_config, stream_spec
from svtas_jax.config_rules import validate_config
from svtas_jax.cost.measure import FEATURE_WIDTH, Cost, describe_ahead, profile
from svtas_jax.runtime import provenance


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: a model and the paper's figures."""

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


def table() -> list[dict[str, Any]]:
    """Profiles the paper's models and logs the table, beside the paper's figures."""
    rows = []
    logging.info(
        "GTEA, 32 steps, batch 1, %s; the paper's figures in brackets",
        provenance.hardware(),
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
    """Returns the config of a row: the paper's for GTEA."""
    config = default_config()
    config.data.crop = row.crop
    config.model.update(row.model)
    validate_config(config)
    return config


def describe(cost: Cost, config: ml_collections.ConfigDict) -> list[str]:
    """Returns the figures as lines of text."""
    spec, share = stream_spec(config), cost.branch_ms
    modules = ", ".join(f"{n} {v:,}" for n, v in sorted(cost.params_by_module.items()))
    total = sum(share.values())
    parts = ", ".join(f"{n} {v:.1f} ms ({v / total:.0%})" for n, v in share.items())
    image = (config.data.crop, config.data.crop)
    frame = (1, spec.clip_steps, *((FEATURE_WIDTH,) if config.data.features else image))
    lines = [
        f"device      {provenance.hardware()}, {config.model.dtype}",
        f"input       {' x '.join(map(str, frame))}",
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
    return lines + describe_ahead(cost.latency_ahead_ms)


def facts(cost: Cost, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the figures for the JSON file."""
    return {
        **dataclasses.asdict(cost),
        "device": provenance.hardware(),
        "dtype": config.model.dtype,
        "crop": config.data.crop,
        "clip_steps": stream_spec(config).clip_steps,
        "convention": "products (jaxpr) + normalisations (fvcore: batch norm 2, layer "
        "norm 5 a value); frames are decoded frames",
    }
