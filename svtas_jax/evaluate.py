"""Evaluates a run on the test videos; writes metrics, predictions and pictures.

    python -m svtas_jax.evaluate --workdir=runs/x [--config=configs/x.py]
        [--checkpoint=best|latest|STEP] [--clip_frames=64,128] [--online]

The run's own config is the default. --clip_frames sets other chunk lengths. --online
also measures when labels come, see `svtas_jax.evaluation.online`.
"""

from absl import flags

from svtas_jax import runs
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    for frames in cli.integers("clip_frames") or (None,):
        runs.evaluate(
            given.workdir,
            given.checkpoint,
            config=given.config,
            clip_frames=frames,
            online=given.online,
        )


if __name__ == "__main__":
    cli.define("workdir", "config", "checkpoint", "clip_frames", "distributed")
    flags.DEFINE_bool(
        "online",
        False,
        "Also measure when labels come: delays of starts and ends, flicker, accuracy "
        "in the first seconds, per-frame mAP.",
    )
    cli.run(main)
