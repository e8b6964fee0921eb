"""compare.html: runs side by side, on the same videos, as a page of one file."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svtas_jax.evaluation import bootstrap, report
from svtas_jax.evaluation.class_table import class_f1
from svtas_jax.evaluation.comparison import Comparison, Entry
from svtas_jax.evaluation.page import charts, tables, timelines
from svtas_jax.pages.skeleton import escape, page, table
from svtas_jax.runtime.files import write_atomic

FILE = "compare.html"
_MOST_BYTES = 1_950_000
_CHARTED = ("acc", "acc_balanced", "edit", "f1_10", "f1_25", "f1_50", "frame_map")
_PER_VIDEO = ("acc", "edit", "f1_50")


def write_comparison(comparison: Comparison, folder: str | os.PathLike) -> pathlib.Path:
    """Writes compare.html; returns its path.

    Raises:
        InputError: if the folder cannot be written to.
    """
    folder = pathlib.Path(folder)
    return write_atomic(folder / FILE, compare_page(comparison, folder))


def to_markdown(comparison: Comparison) -> str:
    """Returns the metrics and their differences as a Markdown table."""
    head, rows = _metric_rows(comparison)
    return report.markdown_table(head, rows)


def compare_page(comparison: Comparison, folder: pathlib.Path) -> str:
    """Returns the page; paths of videos in it are relative to `folder`."""
    names = [entry.name for entry in comparison.entries]
    parts = [
        "".join(f'<p class="notice">{escape(note)}</p>' for note in comparison.notes),
        _metrics_section(comparison),
        _runs_section(comparison),
        _class_section(comparison),
        _video_section(comparison),
    ]
    rest = sum(len(part.encode()) for part in parts)
    drawn = timelines.section(
        _timelines(comparison, folder), _MOST_BYTES - rest - 60_000
    )
    style = f"<style>\n{timelines.asset('report.css')}</style>"
    title = f"{', '.join(names[:-1])} and {names[-1]} compared"
    return page(title, "\n".join([*parts, drawn]), head=style)


def _metric_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    first, others = comparison.entries[0], comparison.entries[1:]
    head = ["Metric", *(entry.name for entry in comparison.entries)]
    for entry in others:
        head += [f"{entry.name} − {first.name}", "p"]
    rows = []
    for metric in comparison.metrics:
        row = [tables.NAMES.get(metric, metric)]
        for entry, intervals in zip(
            comparison.entries, comparison.intervals, strict=True
        ):
            row.append(_value(entry, metric, intervals))
        for entry, p_values in zip(others, comparison.p_values, strict=True):
            difference = entry.mean(metric) - first.mean(metric)
            row += [_signed(difference, 2), _p(p_values.get(metric))]
        rows.append(row)
    return head, rows


def _value(
    entry: Entry, metric: str, intervals: Mapping[str, tuple[float, float]]
) -> str:
    text, spread = f"{entry.mean(metric):.2f}", entry.spread(metric)
    if spread is not None:
        text += f" ± {spread:.2f}"
    if metric in intervals:
        low, high = intervals[metric]
        text += f" [{low:.2f}, {high:.2f}]"
    return text


def _p(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _metrics_section(comparison: Comparison) -> str:
    head, rows = _metric_rows(comparison)
    points = [
        (tables.short(metric), entry.name, entry.mean(metric), intervals.get(metric))
        for metric in _CHARTED
        if metric in comparison.metrics
        for entry, intervals in zip(
            comparison.entries, comparison.intervals, strict=True
        )
    ]
    chart = charts.draw(charts.interval_chart(points), name="Metrics with intervals")
    return f"""<section class="whole"><h2>Metrics</h2>
<p class="pale">{_said(comparison)}</p>
<div class="columns"><div class="chart fits">{chart}</div></div>
{table(head, rows)}</section>"""


def _said(comparison: Comparison) -> str:
    count = comparison.num_videos
    if count < bootstrap.FEWEST_VIDEOS:
        return f"With {count} videos there are neither intervals nor p-values."
    several = any(len(entry.runs) > 1 for entry in comparison.entries)
    return (
        f"In brackets: 95 % intervals over the {count} videos. p: how likely a "
        "difference at least as large is if the runs are equally good, from "
        f"{bootstrap.NUM_RESAMPLES} paired bootstrap resamples of whole videos. It "
        "does not speak of other trainings of the same config; with few videos, or "
        "many metrics looked at, take 0.05 with caution."
        + (
            " ±: standard deviation over the runs that stand together."
            if several
            else ""
        )
    )


def _runs_section(comparison: Comparison) -> str:
    runs = [run for entry in comparison.entries for run in entry.runs]
    flat = [dict(tables.flat(_plain(run.content["run"]))) for run in runs]
    names = list(dict.fromkeys(name for facts in flat for name in facts))
    rows = [
        (name, *(facts.get(name, "-") for facts in flat))
        for name in names
        if len({facts.get(name) for facts in flat}) > 1
    ]
    head = ("Differs", *(run.path for run in runs))
    return f"""<section><h2>What differs</h2>
{table(head, rows, num_texts=len(head))}</section>"""


def _plain(run: Mapping[str, Any]) -> dict[str, Any]:
    own = {"seconds", "frames_per_s"}
    return {name: fact for name, fact in run.items() if name not in own}


def _class_section(comparison: Comparison) -> str:
    details = comparison.entries[0].runs[0].details
    scores = [_class_f1(entry) for entry in comparison.entries]
    support = np.sum(comparison.entries[0].runs[0].content["confusion"], axis=1)
    rows = [
        (
            timelines.swatch(details, k),
            f"{support[k]:,}",
            *(tables.number(f1[k], 1) for f1 in scores),
            *(_signed(f1[k] - scores[0][k], 1) for f1 in scores[1:]),
        )
        for k in range(len(details.class_names))
    ]
    names = [entry.name for entry in comparison.entries]
    head = ("Class", "Support", *names, *(f"{n} − {names[0]}" for n in names[1:]))
    return f"""<section><h2>Classes</h2><p class="pale">F1 over frames, in percent.</p>
{table(head, rows, as_html=True)}</section>"""


def _class_f1(entry: Entry) -> np.ndarray:
    """Returns the F1 of every class over frames in percent, mean over runs, (K,)."""
    found = [class_f1(np.array(run.content["confusion"])) for run in entry.runs]
    return 100 * np.mean(found, axis=0)


def _video_values(entry: Entry, name: str, metric: str) -> float:
    values = [run.content["videos"][name].get(metric) for run in entry.runs]
    return float(np.mean([np.nan if v is None else v for v in values]))


def _video_section(comparison: Comparison) -> str:
    first, others = comparison.entries[0], comparison.entries[1:]
    rows = []
    for name in _sorted_videos(comparison):
        row = [name]
        for metric in _PER_VIDEO:
            base = _video_values(first, name, metric)
            row.append(tables.number(base, 1))
            row += [_signed(_video_values(e, name, metric) - base, 1) for e in others]
        rows.append(row)
    head = ["Video"]
    for metric in _PER_VIDEO:
        head.append(f"{tables.short(metric)}, {first.name}")
        head += [f"{entry.name} − {first.name}" for entry in others]
    return f"""<section><h2>Differences of videos</h2>
<p class="pale">Sorted by Acc, {escape(others[-1].name)} − {escape(first.name)}: the
largest loss comes first.</p>
{table(head, rows)}</section>"""


def _sorted_videos(comparison: Comparison) -> list[str]:
    """Returns the names, the largest loss of the last entry against the first first."""
    first, last = comparison.entries[0], comparison.entries[-1]

    def gain(name: str) -> float:
        found = _video_values(last, name, "acc") - _video_values(first, name, "acc")
        return np.inf if np.isnan(found) else found

    return sorted(first.runs[0].details.videos, key=gain)


def _signed(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{round(value, digits) + 0.0:+.{digits}f}"


def _timelines(comparison: Comparison, folder: pathlib.Path) -> timelines.Timelines:
    runs = {}
    for entry in comparison.entries:
        for number, run in enumerate(entry.runs, 1):
            name = entry.name if len(entry.runs) == 1 else f"{entry.name} {number}"
            runs[name] = run.details
    worst = _sorted_videos(comparison)
    names = list(comparison.entries[0].runs[0].details.videos)
    last = comparison.entries[-1].name
    orders: dict[str, Sequence[str]] = {
        f"where {last} is worse first": worst,
        f"where {last} is better first": worst[::-1],
        "as in the split": names,
        "by name": sorted(names),
    }
    notes = {
        name: " · ".join(
            f"{e.name}: Acc {tables.number(_video_values(e, name, 'acc'), 1)}"
            for e in comparison.entries
        )
        for name in names
    }
    return timelines.Timelines(runs, notes, orders, folder)
