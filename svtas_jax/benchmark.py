"""How fast a system runs here: inference, training, pipeline, from file to labels.

    python -m svtas_jax.benchmark --config=configs/gtea_transeger.py [--json=FILE]
        [--video=FILE] [--batches=1,2,4,8]

Needs no data: weights are random, and without --video one is rendered (720x404, as
GTEA's, MPEG-4).
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
    flags.DEFINE_list("batches", ["1", "2", "4", "8"], "Batch sizes of inference.")
    flags.DEFINE_string("video", None, "Video to read instead of a rendered one.")
    cli.run(main, required=("config",))
