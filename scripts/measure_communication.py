"""Counts the communication of devices in a training step, without running one.

    python scripts/measure_communication.py --config=configs/gtea_transeger.py
        [--devices=8] [--chunks=16] [--teraflops=20] [--gigabytes=300,50,1.25]
        [--json=FILE]

Compiles the training for that many simulated devices and reads the collective
operations and their bytes from the program. From these, the arithmetic of a chunk on
one device, the chunks in a step and the given speeds of devices and links, it derives
the share of the time spent on computing. It assumes that a ring sends 2 (N - 1) / N of
the bytes, that nothing overlaps and that there is no latency.
"""

import collections
import json

import jax
from absl import flags, logging

from svtas_jax.config_rules import validate_config
from svtas_jax.cost import hlo, macs
from svtas_jax.cost.lowering import lower_training
from svtas_jax.errors import InputError
from svtas_jax.evaluation import report
from svtas_jax.runtime import cli, process
from svtas_jax.runtime.files import write_atomic
from svtas_jax.runtime.sharding import make_mesh


def main() -> None:
    """Runs the command."""
    config = flags.FLAGS.config
    validate_config(config)
    process.simulate_devices(flags.FLAGS.devices)
    if jax.default_backend() != "cpu":
        raise InputError("devices are simulated on the CPU: set JAX_PLATFORMS=cpu.")
    config.train.batch_size *= flags.FLAGS.devices  # the config's size is per device
    lowered = lower_training(config, make_mesh(config.train.batch_size))
    rows = [row_of(name, each.program) for name, each in lowered.items()]
    chunk = lowered["a chunk"]
    num_macs = macs.count_macs(chunk.function, *chunk.arguments)
    flops = 2 * num_macs / flags.FLAGS.devices
    in_step = {"a chunk": 1, "a step": 1 / flags.FLAGS.chunks}
    per_chunk = sum(row["bytes"] * in_step[row["program"]] for row in rows)
    links = {
        float(link): left_over(flops, per_chunk, float(link))
        for link in flags.FLAGS.gigabytes
    }
    figures = {
        "devices": flags.FLAGS.devices,
        "chunks": flags.FLAGS.chunks,
        "flops": flops,
        "programs": rows,
        "links": links,
    }
    logging.info("%s", as_text(figures))
    if flags.FLAGS.json:
        write_atomic(flags.FLAGS.json, json.dumps(figures, indent=1))


def row_of(name: str, program: jax.stages.Lowered) -> dict:
    """Compiles a program; returns number and bytes of its collective operations."""
    kernels = hlo.kernels(program.compile().as_text() or "")
    found = [kernel for kernel in kernels if kernel.is_collective]
    kinds: dict[str, int] = collections.Counter()
    for kernel in found:
        kinds[kernel.kind] += kernel.times
    return {
        "program": name,
        "operations": sum(kinds.values()),
        "bytes": sum(kernel.times * kernel.num_bytes for kernel in found),
        **kinds,
    }


def left_over(flops: float, moved: float, gigabytes: float) -> dict[int, float]:
    """Returns, by number of devices, the share of the time spent on computing."""
    compute_s = flops / (flags.FLAGS.teraflops * 1e12)

    def share(devices):
        return compute_s / (
            compute_s + 2 * (devices - 1) / devices * moved / (gigabytes * 1e9)
        )

    return {devices: round(share(devices), 3) for devices in (2, 8, 64, 1024)}


def as_text(found: dict) -> str:
    """Returns the figures as two Markdown tables."""
    head = ["", "operations", "MB"]
    rows = [
        [row["program"], row["operations"], f"{row['bytes'] / 1e6:.2f}"]
        for row in found["programs"]
    ]
    links = [
        [f"{link:g} GB/s", *(f"{share:.0%}" for share in shares.values())]
        for link, shares in found["links"].items()
    ]
    devices = [f"{n} devices" for n in (2, 8, 64, 1024)]
    return "\n\n".join(
        [
            f"{found['devices']} devices, "
            f"{found['flops'] / 1e9:.0f} GFLOP a chunk each, "
            f"{found['chunks']} chunks a step",
            report.markdown_table(head, rows),
            report.markdown_table(
                [f"{flags.FLAGS.teraflops:g} TFLOP/s", *devices], links
            ),
        ]
    )


if __name__ == "__main__":
    cli.define("config", "json")
    flags.DEFINE_integer("devices", 8, "Simulated devices.", lower_bound=2)
    flags.DEFINE_integer("chunks", 16, "Chunks of a slot in a step.", lower_bound=1)
    flags.DEFINE_float("teraflops", 20.0, "TFLOP/s that a model reaches on a device.")
    flags.DEFINE_list("gigabytes", ["300", "50", "1.25"], "GB/s of links to compare.")
    cli.run(main, required=("config",))
