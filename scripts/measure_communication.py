"""Counts what devices tell each other in a training step, without running one.

    python scripts/measure_communication.py --config=configs/gtea_transeger.py
        [--devices=8] [--teraflops=20] [--gigabytes=300,50,1.25] [--json=FILE]

Compiles the training for so many simulated devices and reads the collective operations
and their bytes off the program. Beside them stands the arithmetic of a chunk on one
device, and from both, at a speed of devices and links that is given, the share of the
time that is left for computing: a ring sends 2 (N - 1) / N of the bytes, nothing
overlaps, no latency.
"""

import json
import math
import re
from collections.abc import Iterator

import jax
import ml_collections
from absl import flags, logging

from data_pipeline.chunks import blank_chunk
from data_pipeline.known import class_names_of
from svtas_jax.config import stream_spec, validate_config
from svtas_jax.cost import macs
from svtas_jax.errors import InputError
from svtas_jax.evaluation import report
from svtas_jax.models import build_model
from svtas_jax.runtime import cli
from svtas_jax.runtime.files import write_atomic
from svtas_jax.runtime.sharding import by_slot, make_mesh
from svtas_jax.training import optim
from svtas_jax.training.step import (
    begin_with,
    init_carry,
    lay_out,
    make_train_functions,
)

_BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2}
_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(_KINDS)})(?:-start)?\(")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


def main() -> None:
    """Runs the command."""
    config = flags.FLAGS.config
    validate_config(config)
    jax.config.update("jax_num_cpu_devices", flags.FLAGS.devices)
    if jax.default_backend() != "cpu":
        raise InputError("devices are simulated on the CPU: set JAX_PLATFORMS=cpu.")
    config.train.batch_size *= flags.FLAGS.devices  # the config's batch on every device
    programs, num_macs = compile_training(config)
    rows = [row_of(name, text) for name, text in programs.items()]
    flops = 2 * num_macs / flags.FLAGS.devices
    per_chunk = sum(row["bytes"] for row in rows if row["program"] == "a chunk")
    links = {
        float(link): left_over(flops, per_chunk, float(link))
        for link in flags.FLAGS.gigabytes
    }
    told = {
        "devices": flags.FLAGS.devices,
        "flops": flops,
        "programs": rows,
        "links": links,
    }
    logging.info("%s", as_text(told))
    if flags.FLAGS.json:
        write_atomic(flags.FLAGS.json, json.dumps(told, indent=1))


def compile_training(config: ml_collections.ConfigDict) -> tuple[dict[str, str], int]:
    """Returns the compiled programs of a chunk and of an optimizer step as text, and
    the multiply-accumulates of the chunk on all devices together."""
    model = build_model(config, class_names_of(config.data))
    tx = optim.optimizer_of(config, steps_per_epoch=1)
    size = config.train.batch_size
    spec, crop = stream_spec(config), config.data.crop

    def make():
        chunk = blank_chunk(1, spec, crop)
        variables = model.init(jax.random.key(0), model.initial_state(1), chunk)
        state = begin_with(variables, tx)
        return state, init_carry(state, model, size)

    mesh = make_mesh(size)
    shapes = jax.eval_shape(make)
    shardings = lay_out(*shapes, mesh, config.train.split_from)
    state, carry = jax.tree.map(_placed, shapes, shardings)
    one = jax.eval_shape(lambda: blank_chunk(size, spec, crop))
    chunks = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (1, *leaf.shape), leaf.dtype, sharding=by_slot(mesh, axis=1)
        ),
        one,
    )
    key = jax.random.key(0)
    accumulate, apply_gradients = make_train_functions(
        model, tx, shardings=shardings, smooth_weight=0.15, clip_weight=1.0
    )
    lowered = {
        "a chunk": accumulate.lower(state, carry, chunks, key),
        "a step": apply_gradients.lower(state, carry),
    }
    texts = {name: program.compile().as_text() for name, program in lowered.items()}
    return texts, macs.count_macs(accumulate, state, carry, chunks, key)


def _placed(leaf, sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def collectives(program: str) -> Iterator[tuple[str, int]]:
    """Yields kind and bytes of what devices tell each other in a program."""
    for shapes, kind in _COLLECTIVE.findall(program):
        sizes = [
            _BYTES.get(kind_of, 1) * math.prod(map(int, filter(None, dims.split(","))))
            for kind_of, dims in _SHAPE.findall(shapes)
        ]
        yield kind, sum(sizes)


def row_of(name: str, program: str) -> dict:
    """Returns how many collectives a program has and how much they move."""
    found = list(collectives(program))
    kinds = {kind: sum(k == kind for k, _ in found) for kind in _KINDS}
    return {
        "program": name,
        "operations": len(found),
        "bytes": sum(size for _, size in found),
        **{kind: number for kind, number in kinds.items() if number},
    }


def left_over(flops: float, moved: int, gigabytes: float) -> dict[int, float]:
    """Returns, by number of devices, the share of the time that computes."""
    compute_s = flops / (flags.FLAGS.teraflops * 1e12)

    def share(devices):
        return compute_s / (
            compute_s + 2 * (devices - 1) / devices * moved / (gigabytes * 1e9)
        )

    return {devices: round(share(devices), 3) for devices in (2, 8, 64, 1024)}


def as_text(told: dict) -> str:
    """Returns two tables."""
    head = ["", "operations", "MB"]
    rows = [
        [row["program"], row["operations"], f"{row['bytes'] / 1e6:.2f}"]
        for row in told["programs"]
    ]
    links = [
        [f"{link:g} GB/s", *(f"{share:.0%}" for share in shares.values())]
        for link, shares in told["links"].items()
    ]
    devices = [f"{n} devices" for n in (2, 8, 64, 1024)]
    return "\n\n".join(
        [
            f"{told['devices']} devices, {told['flops'] / 1e9:.0f} GFLOP a chunk each",
            report.markdown_table(head, rows),
            report.markdown_table(
                [f"{flags.FLAGS.teraflops:g} TFLOP/s", *devices], links
            ),
        ]
    )


if __name__ == "__main__":
    cli.define("config", "json")
    flags.DEFINE_integer("devices", 8, "Simulated devices.", lower_bound=2)
    flags.DEFINE_float("teraflops", 20.0, "Of a device, in reach of a model.")
    flags.DEFINE_list("gigabytes", ["300", "50", "1.25"], "A second, of a link.")
    cli.run(main, required=("config",))
