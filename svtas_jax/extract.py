"""Writes the image features of every video, from the image branch of a run.

    python -m svtas_jax.extract --workdir=runs/x [--config=configs/x.py]
        [--checkpoint=best|latest|STEP] [--output=runs/x/features] [--dtype=float16]

A second stage reads the files with --config.data.features=FOLDER. Running the command
again writes only files that are missing or come from other weights.
"""

import pathlib

from absl import flags

from data_pipeline import annotations
from data_pipeline.checks import check_records
from data_pipeline.demo import render
from svtas_jax import runs
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError
from svtas_jax.evaluation import extraction
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    run = runs.load_trained(given.workdir, given.checkpoint, config=given.config)
    data = run.config.data
    validate_config(run.config)
    if data.features:
        raise InputError(
            f"--workdir={given.workdir} was trained on features and has no image "
            "branch; choose a run that was trained on videos."
        )
    render.ensure_configured(data)
    records = annotations.read_all(data)
    check_records(records, annotations.class_names(data))
    folder = pathlib.Path(given.output or pathlib.Path(given.workdir) / "features")
    extraction.extract(
        run.config, run.model, run.variables, records, folder, dtype=given.dtype
    )


if __name__ == "__main__":
    cli.define("workdir", "config", "checkpoint")
    flags.DEFINE_string(
        "output", None, "Folder for the files; WORKDIR/features by default."
    )
    flags.DEFINE_enum(
        "dtype", "float16", ["float16", "float32"], "Number type in the files."
    )
    cli.run(main)
