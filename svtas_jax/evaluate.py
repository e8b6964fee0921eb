"""Evaluates a run on the test videos: streams, stitches, measures, draws, reports.

    python -m svtas_jax.evaluate --workdir=runs/x [--config=configs/x.py]
        [--checkpoint=best|latest|STEP] [--clip_frames=64,128]

Without --config the run's own config is used.
"""

from absl import flags

from svtas_jax import runs
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    for frames in cli.integers("clip_frames") or (None,):
        runs.evaluate(
            given.workdir, given.checkpoint, config=given.config, clip_frames=frames
        )


if __name__ == "__main__":
    cli.define("workdir", "config", "checkpoint", "clip_frames", "distributed")
    cli.run(main)
