"""Tables and sentences of reports, as HTML."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from svtas_jax.evaluation import report
from svtas_jax.evaluation.class_table import class_f1
from svtas_jax.evaluation.details import Details
from svtas_jax.evaluation.metrics import class_recall_precision
from svtas_jax.evaluation.mistakes import border_errors, unit_of
from svtas_jax.evaluation.page import charts, timelines
from svtas_jax.pages.skeleton import table

NAMES = report.METRIC_NAMES | report.ONLINE_NAMES
DELAYS_SAID = {
    True: "Delays: median, from a segment's start or end to the label that shows it.",
    False: "Error of borders: median of how far the borders of found segments are from "
    "the true ones.",
}
_SHOWN = ("acc", "edit", "f1_50")  # beside a video's name

Interval = tuple[float, float]


def number(value: float | None, digits: int = 2) -> str:
    """Returns a number, or "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}"


def short(metric: str) -> str:
    """Returns a metric's name without its explanation."""
    return NAMES.get(metric, metric).partition(" (")[0]


def metrics_table(
    metrics: Mapping[str, float], intervals: Mapping[str, Interval]
) -> str:
    """Returns metrics with their intervals."""
    rows = []
    for name, value in metrics.items():
        interval = intervals.get(name)
        between = f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "-"
        rows.append((NAMES.get(name, name), number(value), between))
    return table(("Metric", "Value", "95 % interval"), rows)


def class_table(confusion: np.ndarray, details: Details, *, online: bool) -> str:
    """Returns precision, recall, F1, support and delays of each class.

    Args:
        confusion: (K, K) frames, by true class (row) and predicted class (column).
        details: of the same videos.
        online: show the delays of answers instead of the errors of borders.
    """
    recall, precision = class_recall_precision(confusion)
    f1 = class_f1(confusion)
    starts, ends = _delays(details) if online else _border_errors(details)
    unit = "s" if online else unit_of(details)
    what = "delay" if online else "error"
    head = ("Class", "Precision %", "Recall %", "F1 %", "Support", "True segments")
    rows = [
        (
            timelines.swatch(details, k),
            *(number(100 * share[k], 1) for share in (precision, recall, f1)),
            f"{confusion[k].sum():,}",
            str(_num_segments(details, k)),
            *(number(_median(found.get(k, ()))) for found in (starts, ends)),
        )
        for k in range(len(details.class_names))
    ]
    head = (*head, f"Start {what}, {unit}", f"End {what}, {unit}")
    return table(head, rows, as_html=True)


def notes(videos: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Returns the figures that stand beside each video's name."""
    return {
        name: " · ".join(
            f"{short(key)} {facts[key]:.1f}" for key in _SHOWN if key in facts
        )
        for name, facts in videos.items()
    }


def orders(videos: Mapping[str, Mapping[str, float]]) -> dict[str, Sequence[str]]:
    """Returns the orders in which a reader may want to see the videos."""
    names = list(videos)
    lowest = {
        f"lowest {short(key)} first": key
        for key in _SHOWN
        if all(key in facts for facts in videos.values())
    }
    return {
        "as in the split": names,
        **{
            order: sorted(names, key=lambda name, key=key: videos[name][key])
            for order, key in lowest.items()
        },
        "longest first": sorted(names, key=lambda name: -videos[name]["num_frames"]),
        "by name": sorted(names),
    }


def border_words(errors: np.ndarray, unit: str) -> str:
    """Returns the distribution of border errors in words."""
    if not len(errors):
        return "No segment was found."
    middle = np.median(np.abs(errors))
    words = f"{len(errors)} borders; half of them are at most {middle:.2f} {unit} off. "
    if unit != "s":
        return words
    near = [100 * np.mean(np.abs(errors) <= limit) for limit in (0.5, 1.0, 2.0)]
    return words + (
        f"Within 0.5 s: {near[0]:.0f} %, within 1 s: {near[1]:.0f} %, within 2 s: "
        f"{near[2]:.0f} %."
    )


def lengths_chart(groups: Mapping[str, np.ndarray], unit: str) -> dict[str, Any]:
    """Returns the distributions of segment lengths, in bins of one ratio."""
    every = np.concatenate(list(groups.values()))
    every = every[every > 0]
    low, high = (every.min(), every.max()) if len(every) else (1.0, 2.0)
    edges = np.geomspace(low * 0.999, max(high, low * 2) * 1.001, 25)
    spec = charts.histogram_chart(groups, title=unit, edges=edges)
    spec["encoding"]["x"] |= {
        "scale": {"type": "log"},
        "axis": {"tickCount": 6, "format": "~g", "labelOverlap": True},
    }
    return spec


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yields nested facts as pairs of text."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield (
                f"{prefix}{name}",
                f"{value:.6g}" if isinstance(value, float) else f"{value}",
            )


def _num_segments(details: Details, label: int) -> int:
    videos = details.videos.values()
    return sum(int(np.count_nonzero(v.truth[:, 0] == label)) for v in videos)


def _delays(details: Details) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    starts, ends = {}, {}
    for video in details.videos.values():
        for found, delays in (
            (starts, video.start_delays_s),
            (ends, video.end_delays_s),
        ):
            for label, seconds in delays.items():
                found.setdefault(label, []).extend(seconds)
    return starts, ends


def _border_errors(
    details: Details,
) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    starts, ends = {}, {}
    for video in details.videos.values():
        for border in border_errors(video, details.background):
            found = starts if border.is_start else ends
            found.setdefault(border.label, []).append(abs(border.error))
    return starts, ends


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else math.nan
