"""Compares evaluated runs on the same test videos: a table, and a page beside it.

    python -m svtas_jax.compare runs/a runs/b ... [--output=FOLDER]

Prints the metrics with 95 % intervals over videos, and the differences to the first run
with paired bootstrap p-values; FOLDER/compare.html adds classes, videos and timelines.
NAME=runs/a,runs/b stands for several runs, such as seeds, by their mean. A folder such
as runs/a/evaluation_64_frames names one evaluation of a run.
"""

from absl import flags, logging

from svtas_jax.evaluation.comparison import compare
from svtas_jax.evaluation.page.compare_page import to_markdown, write_comparison
from svtas_jax.runtime import cli
from svtas_jax.runtime.files import make_folder


def main(runs: list[str]) -> None:
    """Runs the command."""
    folder = make_folder(flags.FLAGS.output, option="--output")
    comparison = compare(runs)
    for note in comparison.notes:
        logging.warning("%s", note)
    path = write_comparison(comparison, folder)
    print(to_markdown(comparison))
    logging.info("comparison: %s", path)


if __name__ == "__main__":
    flags.DEFINE_string("output", ".", "Folder for compare.html.")
    cli.run_on(main)
