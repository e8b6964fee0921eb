"""Compares evaluated runs on the same test videos.

Several runs that differ only by their seed can stand together: their metrics are means,
with the standard deviation over runs.
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.evaluation import bootstrap, report
from svtas_jax.evaluation.evaluated import Evaluated, check_comparable, read_run


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """What is compared: a run, or several that stand together.

    Attributes:
        name: in tables.
        runs: at least one.
    """

    name: str
    runs: tuple[Evaluated, ...]

    def mean(self, metric: str) -> float:
        """Returns the mean over runs, NaN if one of them lacks the metric."""
        return float(np.mean([run.metrics.get(metric, math.nan) for run in self.runs]))

    def spread(self, metric: str) -> float | None:
        """Returns the standard deviation over runs, None of a single one."""
        if len(self.runs) < 2:
            return None
        values = [run.metrics.get(metric, math.nan) for run in self.runs]
        return float(np.std(values, ddof=1))

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the means over runs in every resample, of the metrics that allow it.

        Args:
            weights: (R, V) how often each video counts.
        """
        found = [run.statistics.compute(weights) for run in self.runs]
        sound = set.intersection(*(run.sound for run in self.runs))
        return {name: np.mean([f[name] for f in found], axis=0) for name in sound}


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Entries side by side; the others are compared with the first.

    Attributes:
        entries: at least two.
        metrics: their names, those that all entries have.
        intervals: by entry and metric, 95 % over videos.
        p_values: the same for the differences of all entries but the first to it.
        notes: what a reader should know, in sentences.
    """

    entries: tuple[Entry, ...]
    metrics: tuple[str, ...]
    intervals: tuple[Mapping[str, tuple[float, float]], ...]
    p_values: tuple[Mapping[str, float], ...]
    notes: tuple[str, ...]

    @property
    def num_videos(self) -> int:
        """The number of videos with a labelled frame."""
        return self.entries[0].runs[0].statistics.num_videos


def compare(arguments: Sequence[str]) -> Comparison:
    """Reads and compares runs.

    Args:
        arguments: each the folder of a run, or of one of its evaluations; or several
            that stand together, as NAME=FOLDER,FOLDER.

    Raises:
        MissingInputError: if there is no such run, or it was not evaluated.
        InputError: if there are not two, or they were evaluated on other videos,
            classes or labels.
    """
    if len(arguments) < 2:
        raise InputError(
            "name at least two runs to compare: python -m svtas_jax.compare runs/a "
            "runs/b; NAME=runs/a,runs/b stands for the mean of several."
        )
    entries = _read(arguments)
    notes = check_comparable([run for entry in entries for run in entry.runs])
    wanted = [entry.runs[0].metrics for entry in entries]
    metrics = [m for m in wanted[0] if all(m in other for other in wanted)]
    metrics.sort(key=[*report.METRIC_NAMES, *report.ONLINE_NAMES, *metrics].index)
    num_videos = entries[0].runs[0].statistics.num_videos
    intervals, p_values = [{}] * len(entries), [{}] * (len(entries) - 1)
    if num_videos >= bootstrap.FEWEST_VIDEOS:
        drawn = bootstrap.resample(num_videos)
        resampled = [entry.resampled(drawn) for entry in entries]
        intervals = [bootstrap.percentiles(found) for found in resampled]
        p_values = [
            _p_values(entries[0], entry, resampled[0], found, num_videos)
            for entry, found in zip(entries[1:], resampled[1:], strict=True)
        ]
    return Comparison(
        tuple(entries), tuple(metrics), tuple(intervals), tuple(p_values), tuple(notes)
    )


def _read(arguments: Sequence[str]) -> list[Entry]:
    groups = []
    for argument in arguments:
        name, equals, paths = argument.partition("=")
        if equals and (not name or not all(paths.split(","))):
            raise InputError(f"{argument!r} is not NAME=FOLDER,FOLDER.")
        groups.append((name, paths.split(",")) if equals else ("", [argument]))
    unnamed = [os.path.normpath(paths[0]) for name, paths in groups if not name]
    short = [os.path.basename(path) for path in unnamed]
    distinct = len(set(short)) == len(short)
    shown = iter(short if distinct and all(short) else unnamed)
    entries = [
        Entry(name or next(shown), tuple(read_run(path) for path in paths))
        for name, paths in groups
    ]
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name!r} is there twice; give the runs other names.")
    return entries


def _p_values(
    first: Entry,
    other: Entry,
    resampled: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    num_videos: int,
) -> dict[str, float]:
    return {
        name: bootstrap.p_value(
            found[name] - resampled[name],
            other.mean(name) - first.mean(name),
            num_videos,
        )
        for name in found.keys() & resampled.keys()
    }
