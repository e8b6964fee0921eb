"""Trains and evaluates a config on every split of its data: one row of a paper's table.

    python -m svtas_jax.cross_validate --config=configs/gtea_sete.py --workdir=runs/x
        [--splits=1,2,3] [--clip_frames=64,128] [--checkpoint=best|latest]

Split K is a run like any other in WORKDIR/splitK; the table is WORKDIR/table.md and
table.json. The same command goes on where it was stopped. --clip_frames adds rows: the
same models as a stream of such chunks.
"""

import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import flags, logging

from data_pipeline import annotations
from svtas_jax import evaluate, train
from svtas_jax.config import validate_config
from svtas_jax.evaluation import report
from svtas_jax.runtime import cli, hosts, lock, provenance
from svtas_jax.runtime.files import write_atomic

SPLITS = flags.DEFINE_list("splits", [], "Splits to run, such as 1,3; all by default.")
METRICS = ("acc", "edit", "f1_10", "f1_25", "f1_50")

Table = dict[str, dict[str, dict[str, float]]]  # mode, split, metric -> percent


def main() -> None:
    """Runs the command."""
    config, workdir = cli.CONFIG.value, cli.WORKDIR.value
    validate_config(config)
    evaluate.prepare_data(config)
    cross_validate(
        config,
        workdir,
        cli.integers(SPLITS.name) or annotations.split_numbers(config.data),
        which=flags.FLAGS.checkpoint,
        streams=cli.integers("clip_frames"),
    )


@lock.one_at_a_time
def cross_validate(
    config: ml_collections.ConfigDict,
    workdir: str,
    splits: Sequence[int],
    *,
    which: str = "best",
    streams: Sequence[int] = (),
) -> Table:
    """Trains and evaluates on each split; writes and returns the table.

    Args:
        config: `data.split` is set to each split in turn.
        workdir: holds a run for each split.
        splits: their numbers.
        which: checkpoint to evaluate.
        streams: raw frames in a chunk to evaluate with besides the config's own.

    Raises:
        MissingInputError: if there is no such split.
        InputError: if another program writes to `workdir`, among others.
    """
    evaluate.prepare_data(config)
    for split in splits:  # a missing one is better known now than after days
        for subset in ("train", "test"):
            annotations.split_names(config.data, subset, split=split)
    table: Table = {}
    for split in splits:
        own = config.copy_and_resolve_references()
        own.data.split = split
        folder = str(pathlib.Path(workdir) / f"split{split}")
        logging.info("split %d of %s: %s", split, list(splits), folder)
        train.train(own, folder)
        for frames in (None, *streams):
            # Not the run's stored config: what is measured may have changed since.
            again = own.copy_and_resolve_references()
            again.data.frame_cache = ""  # a video that is read once needs none
            result = evaluate.evaluate_run(
                folder, which, config=again, clip_frames=frames
            )
            mode = "as trained" if frames is None else f"chunks of {frames} frames"
            row = {name: result.metrics[name] for name in METRICS}
            table.setdefault(mode, {})[f"split {split}"] = row
        # After each: a table of what is there is better than none.
        if hosts.is_first():
            write_table(table, config, pathlib.Path(workdir))
    logging.info("%s\n%s", workdir, format_table(table))
    return table


def with_mean(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Returns the rows and, below more than one, the mean of each metric."""
    if len(rows) < 2:
        return rows
    mean = {name: float(np.mean([r[name] for r in rows.values()])) for name in METRICS}
    return {**rows, f"mean of {len(rows)}": mean}


def format_table(table: Table) -> str:
    """Returns a Markdown table, in percent."""
    head = ["evaluated", "split", *(report.METRIC_NAMES[name] for name in METRICS)]
    rows = [
        [mode, split, *(f"{row[name]:.2f}" for name in METRICS)]
        for mode, splits in table.items()
        for split, row in with_mean(splits).items()
    ]
    return report.markdown_table(head, rows)


def write_table(
    table: Table, config: ml_collections.ConfigDict, folder: pathlib.Path
) -> None:
    """Writes table.md and table.json."""
    write_atomic(folder / "table.md", format_table(table) + "\n")
    facts = {
        "rows": {mode: with_mean(rows) for mode, rows in table.items()},
        "config": config.to_dict(),
        **provenance.run_info(),
    }
    write_atomic(folder / "table.json", report.to_json(facts))


if __name__ == "__main__":
    cli.define_checkpoint()
    cli.define_clip_frames()
    cli.define_distributed()
    cli.run(main, required=("config", "workdir"))
