"""Exports the step of a run as programs that run without this package.

    python -m svtas_jax.export --workdir=runs/x --output=FOLDER
        [--checkpoint=best|latest|STEP] [--formats=stablehlo,onnx] [--int8]

docs/export.md describes the files, and shows how to run them.
"""

from absl import flags, logging

from svtas_jax import runs
from svtas_jax.export import write
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    run = runs.load_trained(given.workdir, given.checkpoint)
    folder = write.export(
        given.output,
        model=run.model,
        variables=run.variables,
        config=run.config,
        meta=run.meta,
        formats=given.formats,
        int8=given.int8,
    )
    logging.info("the exported model is in %s", folder)


if __name__ == "__main__":
    cli.define("workdir", "checkpoint")
    flags.DEFINE_string("output", None, "Folder for the programs and model.json.")
    flags.DEFINE_list("formats", list(write.FORMATS), "stablehlo, onnx, or both.")
    flags.DEFINE_bool(
        "int8",
        False,
        "The image branch of the ONNX step computes in integers of 8 bits; needs the "
        "run's data.",
    )
    cli.run(main, required=("workdir", "output"))
