"""Trains and evaluates a config on every split of its data: one row of a table."""

import dataclasses
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging

from data_pipeline import annotations
from data_pipeline.demo import render
from svtas_jax import runs
from svtas_jax.checkpoints import resume, store
from svtas_jax.errors import InputError
from svtas_jax.evaluation import measure, report
from svtas_jax.runtime import hosts, lock, provenance
from svtas_jax.runtime.files import write_atomic
from svtas_jax.smoothing import OFF, Smoothing
from svtas_jax.training import loop, start

METRICS = ("acc", "edit", "f1_10", "f1_25", "f1_50")
MEAN = "mean of {}"
SPREAD = "standard deviation of {} seeds"


@dataclasses.dataclass(frozen=True)
class Trained:
    """One of the runs: a split and, if there are several, a seed."""

    split: int
    seed: int | None = None

    @property
    def name(self) -> str:
        """What the table calls it."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"split {self.split}{seed}"

    @property
    def folder(self) -> str:
        """Where it lies below the workdir."""
        seed = "" if self.seed is None else f"seed{self.seed}/"
        return f"{seed}split{self.split}"


Rows = dict[Trained, dict[str, float]]  # metric -> percent
Table = dict[str, Rows]  # by what was evaluated


@lock.one_at_a_time
def cross_validate(
    config: ml_collections.ConfigDict,
    workdir: str,
    splits: Sequence[int],
    *,
    seeds: Sequence[int] = (),
    which: str = "best",
    streams: Sequence[int] = (),
    true_labels: bool = False,
    smoothing: Smoothing = OFF,
) -> Table:
    """Trains and evaluates on each split; writes and returns the table.

    Args:
        config: `data.split` is set to each split in turn, `seed` to each seed. If
            `train.init_from` is the workdir of a cross-validation, each run starts from
            that one's run of the same split, and of the same seed if it has several.
        workdir: holds a run for each split, or for each seed and split.
        splits: their numbers.
        seeds: train once with each; by default with that of the config.
        which: checkpoint to evaluate.
        streams: further chunk lengths to evaluate with, in raw frames.
        true_labels: also evaluate with the true labels fed, see `runs.evaluate`.
        smoothing: also evaluate with labels smoothed, see there.

    Raises:
        MissingInputError: if a split does not exist.
        InputError: if another program writes to `workdir`; for any other mistake in
            the config or the data.
    """
    hosts.once(render.ensure_configured, config.data)
    if true_labels:  # said now, not after days of training
        runs.check_reads_labels(workdir, config)
    if smoothing.min_duration_s:
        measure.check_smoothing(smoothing, annotations.read_split(config.data, "test"))
    for split in splits:  # a missing one, too
        for subset in ("train", "test"):
            annotations.split_names(config.data, subset, split=split)
    todo = [Trained(k, seed) for seed in seeds or (None,) for k in splits]
    for one in todo:
        _check_start(_config_of(one, config, workdir), _folder_of(one, workdir))
    table: Table = {}
    for number, one in enumerate(todo, 1):
        own, folder = _config_of(one, config, workdir), _folder_of(one, workdir)
        logging.info("%s, %d of %d: %s", one.name, number, len(todo), folder)
        loop.train(own, folder)
        # Not the run's stored config: evaluation settings may have changed since.
        own.data.frame_cache = ""  # each video is read only once
        for mode, options in _modes(streams, true_labels, smoothing):
            given = own.copy_and_resolve_references()
            result = runs.evaluate(folder, which, config=given, **options)
            row = {name: result.metrics[name] for name in METRICS}
            table.setdefault(mode, {})[one] = row
        # After each run, so that a stopped command leaves a table.
        if hosts.is_first():
            write_table(table, config, pathlib.Path(workdir))
    logging.info("%s\n%s", workdir, format_table(table))
    return table


def _folder_of(one: Trained, workdir: str) -> str:
    return str(pathlib.Path(workdir) / one.folder)


def _config_of(
    one: Trained, config: ml_collections.ConfigDict, workdir: str
) -> ml_collections.ConfigDict:
    """Returns the config of one of the runs."""
    own = config.copy_and_resolve_references()
    own.data.split = one.split
    own.seed = config.seed if one.seed is None else one.seed
    if own.train.init_from:
        own.train.init_from = _start_of(own, _folder_of(one, workdir))
    return own


def _start_of(config: ml_collections.ConfigDict, folder: str) -> str:
    """Returns the weights that a run in `folder` starts from.

    If `train.init_from` holds several runs, it is that of the same split and seed. A
    run that began with one of them stays with it, also when it is gone.
    """
    others = (Trained(config.data.split, config.seed), Trained(config.data.split))
    paths = [_folder_of(other, config.train.init_from) for other in others]
    meta = resume.meta_of_newest(folder, resume.newest(folder))
    if meta and meta.config["train"].get("init_from") in paths:
        return meta.config["train"]["init_from"]
    there = (path for path in paths if (pathlib.Path(path) / store.FOLDER).is_dir())
    return next(there, config.train.init_from)


def _check_start(config: ml_collections.ConfigDict, folder: str) -> None:
    """Raises InputError if the weights that a new run starts from know its test videos:
    its row would promise too much."""
    if not config.train.init_from or resume.newest(folder):
        return
    began = start.read(config)
    if seen := start.seen_in_test(config, began):
        raise InputError(
            f"config.train.init_from: {began.said} was trained on {len(seen)} of the "
            f"test videos of split {config.data.split}, such as {seen[0]}. Give the "
            "--workdir of a cross_validate over the same splits: each run then starts "
            "from that of its own split."
        )


def _modes(
    streams: Sequence[int], true_labels: bool, smoothing: Smoothing
) -> list[tuple[str, dict]]:
    """Returns what is evaluated, and by which options of `runs.evaluate`."""
    modes: list[tuple[str, dict]] = [("as trained", {})]
    modes += [(f"chunks of {n} frames", {"clip_frames": n}) for n in streams]
    if true_labels:
        modes.append(("true labels fed", {"true_labels": True}))
    if not smoothing.is_off:
        rules = " ".join(f"{name}={value:g}" for name, value in smoothing.rules.items())
        modes.append((f"smoothed by {rules}", {"smoothing": smoothing}))
    return modes


def with_mean(rows: Rows) -> dict[str, dict[str, float]]:
    """Returns the rows by name and, if there are several, the mean of all; with several
    seeds also the standard deviation of the seeds' means over the splits."""
    named = {one.name: row for one, row in rows.items()}
    if len(rows) > 1:
        named[MEAN.format(len(rows))] = _mean(list(rows.values()))
    seeds = sorted({one.seed for one in rows if one.seed is not None})
    if len(seeds) > 1 and len(rows) % len(seeds) == 0:
        means = [_mean([r for one, r in rows.items() if one.seed == s]) for s in seeds]
        named[SPREAD.format(len(seeds))] = {
            name: float(np.std([mean[name] for mean in means], ddof=1))
            for name in METRICS
        }
    return named


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}


def format_table(table: Table) -> str:
    """Returns a Markdown table; metrics are in percent."""
    head = ["evaluated", "run", *(report.METRIC_NAMES[name] for name in METRICS)]
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
