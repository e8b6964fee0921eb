"""Shows what a GPU would be told to do, also on a machine without one.

    python scripts/measure_accelerator_program.py --config=gtea_sete [--train]
        [--device=h100|h200|a100] [--batch=1] [--devices=8] [--dtype=bfloat16]
        [--json=FILE]

Compiles inference, or with --train an accumulated chunk and an optimizer step, and
counts the program's kernels, the bytes that they move and the operations of products
and convolutions. From these it models the time (`svtas_jax.cost.cards`): a model, not a
measurement. It needs JAX's CUDA packages, in an environment of their own:

    python -m venv gpu && gpu/bin/pip install -e '.[cuda]'

On a machine with a GPU it compiles for that one and also measures, with random numbers.
"""

import collections
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from svtas_jax.config_rules import validate_config
from svtas_jax.cost import cards, hlo, lowering
from svtas_jax.cost.measure import measure
from svtas_jax.errors import InputError
from svtas_jax.evaluation.report import markdown_table
from svtas_jax.runtime import cli
from svtas_jax.runtime.files import write_atomic
from svtas_jax.runtime.sharding import make_mesh

_LAYERS = 10  # how many of the heaviest are shown


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    config = given.config
    # Programs for a described GPU cannot be read back, and a measured one is compiled.
    jax.config.update("jax_enable_compilation_cache", False)
    if given.dtype:
        config.model.dtype = given.dtype
    name, devices, options = given.device or "h100", None, dict(cards.OPTIONS)
    if found := cards.at_hand():
        if given.device not in (None, found[0]):
            raise InputError(
                f"--device={given.device} is not the GPU of this machine, "
                f"{found[1][0].device_kind}; leave it out."
            )
        (name, devices), options = found, {}
        if given.devices > len(devices):
            raise InputError(f"--devices={given.devices}: there are {len(devices)}.")
    devices = (devices or cards.described(name, given.devices))[: given.devices]
    per_device = given.batch or (config.train.batch_size if given.train else 1)
    size = per_device * given.devices
    config.train.batch_size = size
    validate_config(config)
    mesh = make_mesh(size, devices)
    if given.train:
        lowered = lowering.lower_training(config, mesh)
    else:
        lowered = lowering.lower_inference(config, size, mesh)
    logging.info(
        "%s x %d, %s, %d streams of %d x %d pixels",
        *(cards.CARDS[name].name, given.devices, config.model.dtype, size),
        *(config.data.crop, config.data.crop),
    )
    rows = []
    for title, program in lowered.items():
        row = figures(program, cards.CARDS[name], options, timed=bool(found))
        rows.append({"program": title, **row})
        logging.info("%s", as_text(rows[-1]))
    if given.json:
        facts = {
            "device": cards.CARDS[name].name,
            "devices": given.devices,
            "dtype": config.model.dtype,
            "train": given.train,
            "streams": size,
            "programs": rows,
        }
        write_atomic(given.json, json.dumps(facts, indent=1))


def figures(
    lowered: lowering.Lowered, card: cards.Card, options: dict[str, Any], *, timed: bool
) -> dict[str, Any]:
    """Compiles a program and returns what it holds, and if `timed` what it takes."""
    compiled = lowered.program.compile(compiler_options=options)
    kernels = hlo.kernels(compiled.as_text() or "")
    own = [kernel for kernel in kernels if not kernel.is_collective]
    memory: Any = compiled.memory_analysis()
    flops = sum(kernel.times * kernel.flops for kernel in own)
    least = memory.argument_size_in_bytes + memory.output_size_in_bytes
    peak = max(card.flops.values())
    modelled = cards.modelled_ms(kernels, card)
    row = {
        "kernels": sum(kernel.times for kernel in own),
        "bytes": sum(kernel.times * kernel.num_bytes for kernel in own),
        "flops": flops,
        "flops_by_type": _flops_by_type(own),
        "temporary_bytes": memory.temp_size_in_bytes,
        "modelled_ms": modelled,
        "floor_ms": 1e3 * max(least / card.bytes_per_s, flops / peak),
        "frames_per_s": lowered.frames / modelled * 1e3,
        "kinds": _summed(own, lambda kernel: kernel.kind),
        "layers": _summed(own, lambda kernel: kernel.layer),
        "collectives": _collectives(kernels),
    }
    return {**row, "measured_ms": time_ms(compiled, lowered)} if timed else row


def _summed(kernels: Sequence[hlo.Kernel], key) -> dict[str, dict[str, int]]:
    """Returns number and bytes of kernels by what `key` says of them, most first."""
    found: dict[str, dict[str, int]] = collections.defaultdict(
        lambda: {"kernels": 0, "bytes": 0}
    )
    for kernel in kernels:
        found[key(kernel)]["kernels"] += kernel.times
        found[key(kernel)]["bytes"] += kernel.times * kernel.num_bytes
    return dict(sorted(found.items(), key=lambda item: -item[1]["bytes"]))


def _flops_by_type(kernels: Sequence[hlo.Kernel]) -> dict[str, int]:
    found: dict[str, int] = collections.Counter()
    for kernel in kernels:
        found[kernel.dtype] += kernel.times * kernel.flops
    return {dtype: flops for dtype, flops in found.items() if flops}


def _collectives(kernels: Sequence[hlo.Kernel]) -> dict[str, int]:
    found = [kernel for kernel in kernels if kernel.is_collective]
    overlapped = [kernel for kernel in found if kernel.is_overlapped]
    return {
        "operations": sum(kernel.times for kernel in found),
        "bytes": sum(kernel.times * kernel.num_bytes for kernel in found),
        "overlapped_bytes": sum(k.times * k.num_bytes for k in overlapped),
    }


def time_ms(compiled: jax.stages.Compiled, lowered: lowering.Lowered) -> float:
    """Returns the median of a call, in ms."""
    arguments = list(jax.tree.map(_random, lowered.arguments))
    carried = lowered.carried

    def call():
        result = compiled(*arguments)
        arguments[:carried] = result[:carried]
        return result

    return float(np.median(measure(call, least=50, limit_s=10)))


def _random(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Returns numbers like those of a model: small ones, random pixels, valid steps."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.device_put(jax.random.key(0), leaf.sharding)
    rng = np.random.default_rng(0)
    if leaf.dtype == np.uint8:
        array = rng.integers(0, 256, leaf.shape, np.uint8)
    elif jnp.issubdtype(leaf.dtype, jnp.floating):
        array = 0.02 * np.abs(rng.standard_normal(leaf.shape, np.float32)) + 0.01
    else:
        array = np.ones(leaf.shape)
    return jax.device_put(jnp.asarray(array, leaf.dtype), leaf.sharding)


def as_text(row: dict[str, Any]) -> str:
    """Returns the figures of a program as text."""
    pace = f", {row['frames_per_s']:,.0f} frames/s" if row["frames_per_s"] else ""
    types = ", ".join(
        f"{dtype} {flops / row['flops']:.1%}"
        for dtype, flops in row["flops_by_type"].items()
    )
    lines = [
        f"{row['program']}: {row['kernels']} kernels, {row['bytes'] / 1e9:.2f} GB, "
        f"{row['flops'] / 1e9:.1f} GFLOP ({types or 'none'}), "
        f"{row['temporary_bytes'] / 1e6:.0f} MB of temporary memory",
        f"modelled {row['modelled_ms']:.2f} ms{pace}; the floor is "
        f"{row['floor_ms']:.3f} ms, {row['floor_ms'] / row['modelled_ms']:.0%} of that",
    ]
    if "measured_ms" in row:
        lines.append(f"measured {row['measured_ms']:.2f} ms")
    if row["collectives"]["operations"]:
        sent = row["collectives"]
        lines.append(
            f"{sent['operations']} collective operations, {sent['bytes'] / 1e6:.2f} "
            f"MB, of which {sent['overlapped_bytes'] / 1e6:.2f} MB while others run"
        )
    for title, names in (("kind", "kinds"), ("heaviest layers", "layers")):
        cells = [
            [name or "-", group["kernels"], f"{group['bytes'] / 1e6:.1f}"]
            for name, group in list(row[names].items())[:_LAYERS]
        ]
        lines += ["", markdown_table([title, "kernels", "MB"], cells)]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.define("config", "json")
    flags.DEFINE_enum(
        "device", None, sorted(cards.CARDS), "GPU to compile for; h100 by default."
    )
    flags.DEFINE_bool("train", False, "A training step instead of inference.")
    flags.DEFINE_integer(
        *("batch", None, "Streams on each device; 1, or the config's with --train."),
        lower_bound=1,
    )
    flags.DEFINE_integer("devices", 1, "Devices.", lower_bound=1)
    flags.DEFINE_string("dtype", None, "Instead of config.model.dtype.")
    cli.run(main, required=("config",))
