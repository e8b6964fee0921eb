"""Trains and evaluates a config on every split of its data: one row of a paper's table.

    python -m svtas_jax.cross_validate --config=configs/gtea_sete.py --workdir=runs/x
        [--splits=1,2,3] [--seeds=0,1,2] [--clip_frames=64,128] [--true_labels]
        [--hysteresis=0.2] [--min_duration=0.5] [--min_confidence=0.5]
        [--checkpoint=best|latest]

WORKDIR/splitK is an ordinary run on split K; the table is in WORKDIR/table.md and
table.json. The same command resumes where it was stopped. --seeds trains once with each
seed, in WORKDIR/seedS/splitK, and adds their spread. --clip_frames adds rows for the
same models on chunks of these lengths, --true_labels for Transeger that hears the true
labels of its last chunk: a ceiling, --hysteresis, --min_duration and --min_confidence
for labels smoothed as `svtas_jax.stream` smooths them.
--config.train.init_from=OTHER, the workdir of another cross_validate, starts each run
from OTHER's run of the same split.
"""

from absl import flags

from data_pipeline import annotations
from data_pipeline.demo import render
from svtas_jax.config_rules import validate_config
from svtas_jax.runtime import cli, hosts
from svtas_jax.smoothing import of_flags
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
        seeds=cli.integers("seeds"),
        which=flags.FLAGS.checkpoint,
        streams=cli.integers("clip_frames"),
        true_labels=flags.FLAGS.true_labels,
        smoothing=of_flags(flags.FLAGS),
    )


if __name__ == "__main__":
    cli.define("config", "workdir", "checkpoint", "clip_frames", "distributed")
    cli.define(*cli.SMOOTHING)
    flags.DEFINE_list("splits", [], "Splits to use, such as 1,3; all by default.")
    flags.DEFINE_list("seeds", [], "Seeds to train with, such as 0,1,2.")
    flags.DEFINE_bool(
        "true_labels", False, "Also evaluate with the true labels fed: a ceiling."
    )
    cli.run(main, required=("config", "workdir"))
