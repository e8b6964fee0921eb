"""Reports a model's cost: parameters, multiply-accumulates, bytes, time. Needs no data.

    python -m svtas_jax.profile --config=configs/gtea_transeger.py [--json=FILE]
        [--trace=FOLDER]
    python -m svtas_jax.profile --table [--json=FILE]

The model has random weights and reads noise; times exclude decoding, and frames are
decoded frames (every `frame_stride`-th of the video). --table profiles the SVTAS
paper's models at 224x224, batch 1, 32 steps, and shows the paper's figures beside.
`svtas_jax.benchmark` measures training and the whole way from a file to labels.
"""

from absl import flags, logging

from svtas_jax.config import with_clip_frames
from svtas_jax.config_rules import validate_config
from svtas_jax.cost.measure import WHOLE_VIDEO, profile
from svtas_jax.cost.table import describe, facts, table
from svtas_jax.errors import MissingInputError
from svtas_jax.evaluation import report
from svtas_jax.runtime import cli

BATCHES = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    if given.table:
        report.write_figures({"rows": table()}, given.json)
        return
    if given.config is None:
        raise MissingInputError(
            "--config is missing; give one, or --table for the paper's models."
        )
    validate_config(given.config)
    config = with_clip_frames(given.config, [WHOLE_VIDEO])
    cost = profile(config, batches=BATCHES, trace=given.trace)
    for line in describe(cost, config):
        logging.info("%s", line)
    report.write_figures(facts(cost, config), given.json)


if __name__ == "__main__":
    cli.define("config", "json")
    flags.DEFINE_bool("table", False, "Profile all models of the paper.")
    flags.DEFINE_string("trace", None, "Folder for a trace to view in TensorBoard.")
    cli.run(main, required=())
