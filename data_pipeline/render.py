r"""Renders videos that follow the true labels and splits of a data set.

    python -m data_pipeline.render --annotations=FOLDER --output=data/gtea_rendered
        [--difficulty=0.5] [--seed=0] [--every=N] [--fps=15]
        [--group="(S\d+)"] [--idle=background,SIL] [--overwrite]

FOLDER holds groundTruth/, mapping.txt and splits/ in the field's common layout; videos
are not needed. What is done, how long and in which order is that of the labels; the
pictures, 128 x 96, are drawn. Training runs on the output as on any data set. See
docs/data.md.
"""

import pathlib

from absl import flags

from data_pipeline.rendered.dataset import check_settings, render_dataset
from data_pipeline.rendered.film import Settings
from data_pipeline.rendered.source import read_source
from svtas_jax.errors import InputError
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    folder, output = pathlib.Path(given.annotations), pathlib.Path(given.output)
    check_folders(folder, output)
    settings = Settings(difficulty=given.difficulty, seed=given.seed, fps=given.fps)
    check_settings(settings)
    source = read_source(
        folder, every=given.every, group=given.group, idle=tuple(given.idle)
    )
    render_dataset(output, source, settings, overwrite=given.overwrite)


def check_folders(annotations: pathlib.Path, output: pathlib.Path) -> None:
    """Checks that writing does not touch the labels.

    Raises:
        InputError: if the labels lie in the output.
    """
    if annotations.resolve().is_relative_to(output.resolve()):
        raise InputError(
            f"--annotations={annotations} lies in --output={output}, which is to be "
            "written; choose another output."
        )


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "annotations", None, "Folder with groundTruth/, mapping.txt and splits/."
    )
    flags.DEFINE_string("output", None, "Folder to write; it must be new or empty.")
    flags.DEFINE_float(
        "difficulty",
        0.5,
        "0 (as the demo) to 1: how often the work is hidden, how much people differ, "
        "clutter, noise, shake, likeness of objects.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_integer("seed", 0, "Of all that is drawn.", lower_bound=0)
    flags.DEFINE_integer(
        "every", 1, "Keep each N-th label: a shorter, faster film.", lower_bound=1
    )
    flags.DEFINE_float("fps", 15.0, "Frames per second of the films.")
    flags.DEFINE_string(
        "group",
        "",
        "Regular expression for the person in a video's name; else its beginning.",
    )
    flags.DEFINE_list(
        "idle", [], "Classes of a hand at rest; else background, SIL, action_start, ..."
    )
    flags.DEFINE_bool("overwrite", False, "Replace an output of this command.")


if __name__ == "__main__":
    define_flags()
    cli.run(main, required=("annotations", "output"))
