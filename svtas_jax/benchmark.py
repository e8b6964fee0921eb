"""Measures a model's speed here: inference, training, input pipeline, file to labels.

    python -m svtas_jax.benchmark --config=configs/gtea_transeger.py [--json=FILE]
        [--video=FILE] [--batches=1,2,4,8]

It needs no data: weights are random, and without --video it renders an MPEG-4 video of
720x404 pixels, GTEA's size.
"""

from absl import flags

from svtas_jax.cost import benchmark
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    benchmark.run(
        given.config, cli.integers("batches"), video=given.video, path=given.json
    )


if __name__ == "__main__":
    cli.define("config", "json")
    flags.DEFINE_list("batches", ["1", "2", "4", "8"], "Batch sizes for inference.")
    flags.DEFINE_string("video", None, "Video to read; by default one is rendered.")
    cli.run(main, required=("config",))
