"""Trains a streaming segmentation model end to end on video files.

    python -m svtas_jax.train --config=configs/gtea_transeger.py --workdir=runs/x

The same command resumes a run that was stopped. --config.SECTION.FIELD=VALUE overrides
a field of the config.
"""

from absl import flags

from svtas_jax.config_rules import validate_config
from svtas_jax.runtime import cli
from svtas_jax.training import loop


def main() -> None:
    """Runs the command."""
    config = flags.FLAGS.config
    validate_config(config)
    loop.train(config, flags.FLAGS.workdir)


if __name__ == "__main__":
    cli.define("config", "workdir", "distributed")
    cli.run(main, required=("config", "workdir"))
