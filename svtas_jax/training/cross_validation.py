"""Trains and evaluates a config on every split of its data: one row of a table."""

import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging

from data_pipeline import annotations
from data_pipeline.demo import render
from svtas_jax import runs
from svtas_jax.evaluation import report
from svtas_jax.runtime import hosts, lock, provenance
from svtas_jax.runtime.files import write_atomic
from svtas_jax.training import loop

METRICS = ("acc", "edit", "f1_10", "f1_25", "f1_50")

Table = dict[str, dict[str, dict[str, float]]]  # mode, split, metric -> percent


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
    hosts.once(render.ensure_configured, config.data)
    for split in splits:  # a missing one is better known now than after days
        for subset in ("train", "test"):
            annotations.split_names(config.data, subset, split=split)
    table: Table = {}
    for split in splits:
        own = config.copy_and_resolve_references()
        own.data.split = split
        folder = str(pathlib.Path(workdir) / f"split{split}")
        logging.info("split %d of %s: %s", split, list(splits), folder)
        loop.train(own, folder)
        for frames in (None, *streams):
            # Not the run's stored config: what is measured may have changed since.
            again = own.copy_and_resolve_references()
            again.data.frame_cache = ""  # a video that is read once needs none
            result = runs.evaluate(folder, which, config=again, clip_frames=frames)
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
