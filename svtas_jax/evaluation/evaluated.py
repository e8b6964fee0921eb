"""Evaluated runs, as their reports describe them, and whether they can be compared."""

import dataclasses
import functools
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import bootstrap, report
from svtas_jax.evaluation.details import Details, from_runs, read_details

_LARGEST_GAP = 0.02  # share of frames by which label files may be cut differently
_SHOWN = 3  # names in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """A run that `svtas_jax.evaluate` has evaluated.

    Attributes:
        path: as the user gave it.
        content: of report.json.
        details: of its videos.
    """

    path: str
    content: Mapping[str, Any]
    details: Details

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics that have a value, the online ones first."""
        online = (self.content.get("online") or {}).get("metrics", {})
        known = {**online, **self.content["metrics"]}
        return {name: value for name, value in known.items() if value is not None}

    @functools.cached_property
    def statistics(self) -> bootstrap.Statistics:
        """What the metrics are made of, videos in the order of their names."""
        return bootstrap.statistics_of(self.details)

    @property
    def sound(self) -> set[str]:
        """The metrics that the sums of the videos give again."""
        if not self.statistics.num_videos:
            return set()
        own, known = bootstrap.own_metrics(self.statistics), self.metrics
        return {
            name
            for name in own.keys() & known.keys()
            if math.isclose(own[name], known[name], rel_tol=1e-6, abs_tol=1e-6)
        }


def read_run(path: str) -> Evaluated:
    """Reads what an evaluation left.

    Args:
        path: folder of a run, of one of its evaluations, or of the scores of prediction
            files.

    Raises:
        MissingInputError: if it was not evaluated, or by an older version.
        InputError: if its files are damaged.
    """
    folder = pathlib.Path(path)
    is_report = (folder / "report.json").is_file()
    is_run = not (is_report or folder.name.startswith("evaluation"))
    workdir = path if is_run else os.path.dirname(os.path.normpath(path))
    again = f"python -m svtas_jax.evaluate --workdir={workdir}"
    folder = folder / "evaluation" if is_run else folder
    if not (folder / "report.json").is_file():
        raise MissingInputError(
            f"{folder / 'report.json'} does not exist: {path} is no run, or was not "
            f"evaluated; {again} does that."
        )
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        content["metrics"], content["videos"], content["run"]  # noqa: B018  are there
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'report.json'} is damaged ({error}). Evaluate again: {again}"
        ) from error
    if "predictions" in content["run"]:
        again = f"python -m svtas_jax.evaluate --predictions=... --output={path}"
    details = read_details(folder, again=again)
    if content["videos"].keys() != details.videos.keys():
        raise InputError(
            f"{folder / 'report.json'} and videos.json beside it are of different "
            f"evaluations. Evaluate again: {again}"
        )
    return Evaluated(path, content, details)


def check_comparable(runs: Sequence[Evaluated]) -> list[str]:
    """Raises InputError unless all runs have the videos, classes and labels of the
    first; returns what to note."""
    first, notes = runs[0], []
    for run in runs[1:]:
        pair = f"{first.path} and {run.path}"
        if run.details.class_names != first.details.class_names:
            raise InputError(
                f"{pair} have different classes: "
                f"{_differences(first.details.class_names, run.details.class_names)}."
            )
        if run.details.background != first.details.background:
            raise InputError(
                f"{pair} were evaluated with different background classes; evaluate "
                "them with the same --config.eval.background."
            )
        if run.details.videos.keys() != first.details.videos.keys():
            raise InputError(
                f"{pair} were evaluated on different videos: "
                f"{_differences(first.details.videos, run.details.videos)}. Compare "
                "runs of the same split, or evaluate them on one: python -m "
                f"svtas_jax.evaluate --workdir={run.path} --config.data.split=N"
            )
        notes += _check_labels(first, run)
        if run.content.get("conventions") != first.content.get("conventions"):
            raise InputError(
                f"{pair} were evaluated by different conventions (--metrics); evaluate "
                "both by the same."
            )
        notes += _other_smoothing(first, run)
    return notes


def _other_smoothing(first: Evaluated, run: Evaluated) -> list[str]:
    if _smoothing_of(first) == _smoothing_of(run):
        return []
    return [
        f"Labels are {_smoothing_of(first)} in {first.path}, but {_smoothing_of(run)} "
        f"in {run.path}."
    ]


def _smoothing_of(run: Evaluated) -> str:
    flags = report.smoothing_flags(run.content["run"])
    return f"smoothed by {flags}" if flags else "as the model says"


def _check_labels(first: Evaluated, run: Evaluated) -> list[str]:
    cut = 0
    for name in first.details.videos:
        one, other = (
            from_runs(d.videos[name].truth) for d in (first.details, run.details)
        )
        length = min(len(one), len(other))
        wrong = np.flatnonzero(one[:length] != other[:length])
        gap = max(len(one), len(other)) - length
        if len(wrong) or gap > _LARGEST_GAP * length:
            what = f"from frame {wrong[0]} on" if len(wrong) else "in their number"
            raise InputError(
                f"the true labels of {name!r} differ {what} between {first.path} and "
                f"{run.path}: the label files were changed in between. Evaluate both "
                "again."
            )
        cut += gap > 0
    if not cut:
        return []
    return [
        f"{run.path} saw {cut} of the videos a few frames shorter or longer than "
        f"{first.path}, as features may be."
    ]


def _differences(one: Sequence | Mapping, other: Sequence | Mapping) -> str:
    def listed(names: list) -> str:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(map(str, names[:_SHOWN])) + more

    only = [n for n in one if n not in other], [n for n in other if n not in one]
    if not any(only):
        return "their order is not the same"
    parts = [
        f"{len(names)} only in the {which} ({listed(names)})"
        for names, which in zip(only, ("first", "second"), strict=True)
        if names
    ]
    return "; ".join(parts)
