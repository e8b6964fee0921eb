"""Measures the time that checkpoints and the sharding of input add to training.

    python scripts/measure_overheads.py --config=configs/demo_transeger.py
        [--chunks=5] [--devices=1] [--every=50] [--rounds=5]

Trains on noise, with --chunks of every video per step. Every round times the same
number of steps without a checkpoint and with one started before them. The difference is
the cost of a checkpoint, reported as a share of the time of --every steps. --devices
simulates that many devices on the CPU; the batch grows to at least one video each.
"""

import pathlib
import statistics
import tempfile
import time

import jax
import ml_collections
import numpy as np
from absl import flags, logging

from data_pipeline.known import class_names_of
from svtas_jax.checkpoints import resume, store
from svtas_jax.config_rules import validate_config
from svtas_jax.cost.measure import noise, random_variables
from svtas_jax.models import build_model
from svtas_jax.runtime import cli, process, provenance
from svtas_jax.runtime.sharding import make_mesh, shard_batch
from svtas_jax.training import averaging, optim
from svtas_jax.training.functions import functions_of
from svtas_jax.training.placement import place
from svtas_jax.training.step import begin_with, init_carry

_STEPS = 5  # per round; the writer finishes within them


class Trainer:
    """Trains a model on noise."""

    def __init__(self, config: ml_collections.ConfigDict) -> None:
        names = class_names_of(config.data)
        model = build_model(config, names)
        tx = optim.optimizer_of(config, steps_per_epoch=1)
        size = config.train.batch_size
        self.mesh, self.key = make_mesh(size), jax.random.key(0)
        own = random_variables(model, model.initial_state(1), noise(config, 1))
        state = averaging.begin(begin_with(own, tx), config.train.ema)
        self.state, self.carry, shardings = place(
            state, init_carry(state, model, size), self.mesh
        )
        self.accumulate, self.apply = functions_of(
            config, model, tx, class_counts=[1] * len(names), shardings=shardings
        )
        self.batch = jax.tree.map(lambda x: np.asarray(x)[None], noise(config, size))

    def steps(self, count: int) -> float:
        """Trains for `count` steps; returns the seconds."""
        begin = time.perf_counter()
        for _ in range(count):
            for _ in range(flags.FLAGS.chunks):
                chunks = shard_batch(self.batch, self.mesh)
                self.state, self.carry = self.accumulate(
                    self.state, self.carry, chunks, self.key
                )
            self.state, self.carry, _ = self.apply(self.state, self.carry)
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin

    def position(self) -> resume.Position:
        """Returns the content of a checkpoint."""
        data = {"step": int(self.state.step), "calls": 0}
        return resume.Position(self.state, self.carry, data)


def main() -> None:
    """Runs the command."""
    config = flags.FLAGS.config
    validate_config(config)
    process.simulate_devices(flags.FLAGS.devices)
    config.train.batch_size = max(config.train.batch_size, flags.FLAGS.devices)
    trainer = Trainer(config)
    trainer.steps(2)  # compiles
    step_s = trainer.steps(_STEPS) / _STEPS
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            measure_round(trainer, pathlib.Path(folder) / str(number))
            for number in range(flags.FLAGS.rounds + 1)
        ][1:]  # the first one also opens files and imports modules
    blocked, extra, written = map(statistics.median, zip(*rounds, strict=True))
    sharding_s = measure_sharding(trainer)
    logging.info(
        "%s\na step takes %.0f ms; a checkpoint of %.1f MB blocks %.0f ms and costs "
        "%.0f ms in all, %.2f%% of %d steps; sharding the input of a chunk takes "
        "%.2f ms, %.2f%% of its time, on %d devices",
        *(provenance.hardware(), 1e3 * step_s, written / 1e6, 1e3 * blocked),
        *(1e3 * extra, 100 * extra / (flags.FLAGS.every * step_s), flags.FLAGS.every),
        *(
            1e3 * sharding_s,
            100 * flags.FLAGS.chunks * sharding_s / step_s,
            len(trainer.mesh.devices),
        ),
    )


def measure_round(trainer: Trainer, workdir: pathlib.Path) -> tuple[float, float, int]:
    """Returns the seconds for which starting a checkpoint blocks, the seconds that it
    costs in all, and the bytes written."""
    alone = trainer.steps(_STEPS)
    position = trainer.position()
    meta = store.Meta({}, (), 0.0, position.data["step"], 0, {})
    with store.open_manager(str(workdir)) as manager:
        begin = time.perf_counter()
        resume.save(manager, position, meta)
        blocked = time.perf_counter() - begin
        beside = blocked + trainer.steps(_STEPS)
        manager.wait_until_finished()
    files = (path for path in workdir.rglob("*") if path.is_file())
    return blocked, beside - alone, sum(path.stat().st_size for path in files)


def measure_sharding(trainer: Trainer) -> float:
    """Returns the median seconds of sharding a batch."""
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        jax.block_until_ready(shard_batch(trainer.batch, trainer.mesh))
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    cli.define("config")
    flags.DEFINE_integer("devices", 1, "Simulated devices.", lower_bound=1)
    flags.DEFINE_integer("every", 50, "Steps between checkpoints.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Measurements.", lower_bound=1)
    flags.DEFINE_integer("chunks", 5, "Of every video, per step.", lower_bound=1)
    cli.run(main, required=("config",))
