"""Measures a model's speed here: inference, training, input pipeline, file to labels.

    python -m svtas_jax.benchmark --config=configs/gtea_transeger.py [--json=FILE]
        [--video=FILE] [--batches=1,2,4,8]
    python -m svtas_jax.benchmark --live --config=configs/gtea_sete_live.py
        [--engine=jax|onnxruntime|openvino] [--seconds=10] [--json=FILE]
    python -m svtas_jax.benchmark --live --workdir=FOLDER ...

It needs no data: weights are random, and without --video it renders an MPEG-4 video of
720x404 pixels, GTEA's size. --live measures the time from a camera's picture to its
label instead, and how many cameras keep up: they send pictures of that size over the
loopback interface. It takes a run or an exported model, too.
"""

from absl import flags

from svtas_jax import runs
from svtas_jax.cost import benchmark, engines, live
from svtas_jax.errors import InputError
from svtas_jax.export.load import check_engine
from svtas_jax.live.run import Run
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    if given.live:
        live.run(run_of(given), seconds=given.seconds, path=given.json)
        return
    if given.config is None or given.workdir or given.engine != "jax":
        raise InputError(
            "without --live the benchmark needs --config and takes neither --workdir "
            "nor --engine."
        )
    benchmark.run(
        given.config, cli.integers("batches"), video=given.video, path=given.json
    )


def run_of(given: flags.FlagValues) -> Run:
    """Returns what --live measures.

    Raises:
        InputError: if the flags do not say one thing, or it cannot be loaded.
    """
    if (given.config is None) == (given.workdir is None):
        raise InputError("--live needs --config or --workdir, and not both.")
    if given.workdir:
        return runs.load(given.workdir, engine=given.engine)
    check_engine(given.engine)
    run = engines.random_run(given.config)
    if given.engine == "jax":
        return run
    return engines.exported(run, [given.engine])[given.engine]


if __name__ == "__main__":
    cli.define("config", "workdir", "engine", "json")
    flags.DEFINE_list("batches", ["1", "2", "4", "8"], "Batch sizes for inference.")
    flags.DEFINE_string("video", None, "Video to read; by default one is rendered.")
    flags.DEFINE_bool("live", False, "Measure live streams instead.")
    flags.DEFINE_float("seconds", 10.0, "Of every measurement with --live.")
    cli.run(main, required=())
