"""Measures a model's speed here: inference, training, input pipeline, file to labels.

    python -m svtas_jax.benchmark --config=configs/gtea_transeger.py [--json=FILE]
        [--video=FILE] [--batches=1,2,4,8]
    python -m svtas_jax.benchmark --config=configs/gtea_sete_live.py --live
        [--seconds=10] [--json=FILE]

It needs no data: weights are random, and without --video it renders an MPEG-4 video of
720x404 pixels, GTEA's size. --live measures the time from a camera's picture to its
label instead, and how many cameras keep up: they send pictures of that size over the
loopback interface.
"""

from absl import flags

from svtas_jax.cost import benchmark, live
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    if given.live:
        live.run(given.config, seconds=given.seconds, path=given.json)
        return
    benchmark.run(
        given.config, cli.integers("batches"), video=given.video, path=given.json
    )


if __name__ == "__main__":
    cli.define("config", "json")
    flags.DEFINE_list("batches", ["1", "2", "4", "8"], "Batch sizes for inference.")
    flags.DEFINE_string("video", None, "Video to read; by default one is rendered.")
    flags.DEFINE_bool("live", False, "Measure live streams instead.")
    flags.DEFINE_float("seconds", 10.0, "Of every measurement with --live.")
    cli.run(main, required=("config",))
