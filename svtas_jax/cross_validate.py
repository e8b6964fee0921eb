"""Trains and evaluates a config on every split of its data: one row of a paper's table.

    python -m svtas_jax.cross_validate --config=configs/gtea_sete.py --workdir=runs/x
        [--splits=1,2,3] [--clip_frames=64,128] [--checkpoint=best|latest]

Split K is a run like any other in WORKDIR/splitK; the table is WORKDIR/table.md and
table.json. The same command goes on where it was stopped. --clip_frames adds rows: the
same models as a stream of such chunks.
"""

from absl import flags

from data_pipeline import annotations
from data_pipeline.demo import render
from svtas_jax.config import validate_config
from svtas_jax.runtime import cli, hosts
from svtas_jax.training.cross_validation import cross_validate


def main() -> None:
    """Runs the command."""
    config = flags.FLAGS.config
    validate_config(config)
    hosts.once(render.ensure_configured, config.data)
    cross_validate(
        config,
        flags.FLAGS.workdir,
        cli.integers("splits") or annotations.split_numbers(config.data),
        which=flags.FLAGS.checkpoint,
        streams=cli.integers("clip_frames"),
    )


if __name__ == "__main__":
    cli.define("config", "workdir", "checkpoint", "clip_frames", "distributed")
    flags.DEFINE_list("splits", [], "Splits to run, such as 1,3; all by default.")
    cli.run(main, required=("config", "workdir"))
