"""report.html: one evaluation as a page of one file, to read offline and to send."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from svtas_jax.evaluation import bootstrap, report
from svtas_jax.evaluation.details import Details, write_details
from svtas_jax.evaluation.mistakes import border_errors, lengths, unit_of
from svtas_jax.evaluation.page import charts, tables, timelines, worst
from svtas_jax.evaluation.report import EvalReport
from svtas_jax.pages.skeleton import escape, page, table
from svtas_jax.runtime.files import write_atomic

FILE = "report.html"
MOST_BYTES = 1_950_000
_LEAST_BYTES = 200_000  # for the timelines, whatever the rest needs
_PERCENT = ("acc", "edit", "f1_10", "f1_25", "f1_50", "auc", "map_50", "map_avg")
_FEW = (
    f"fewer than {bootstrap.FEWEST_VIDEOS} videos are too few for intervals: other "
    "videos may give quite different numbers."
)
_ROUGH = (
    " With so few videos, intervals are too narrow: in simulations, those of 7 videos "
    "held the true value in 88 % of cases, those of 14 in 92 %."
)


def write_pages(
    result: EvalReport, details: Details, folder: str | os.PathLike
) -> pathlib.Path:
    """Writes report.html and, for `svtas_jax.compare`, videos.json; returns the path of
    report.html.

    Args:
        result: what `report.write_report` writes.
        details: of the same videos.
        folder: of the report.

    Raises:
        InputError: if the folder cannot be written to.
    """
    folder = pathlib.Path(folder)
    write_details(details, folder)
    return write_atomic(folder / FILE, report_page(result, details, folder))


def report_page(result: EvalReport, details: Details, folder: pathlib.Path) -> str:
    """Returns the page; paths of videos in it are relative to `folder`."""
    statistics = bootstrap.statistics_of(details)
    found = sound_intervals(statistics, result)
    shown = timelines.Timelines(
        runs={"prediction": details},
        notes=tables.notes(result.videos),
        orders=tables.orders(result.videos),
        folder=folder,
    )
    parts = [
        _facts(result),
        _metrics_section(result, statistics.num_videos, found),
        _online_section(result, found),
        _class_section(result, details),
        _confusion_section(result),
        _borders_section(result, details),
        worst.section(details),
        _settings_section(result),
    ]
    rest = sum(len(part.encode()) for part in parts)
    drawn = timelines.section(shown, max(_LEAST_BYTES, MOST_BYTES - rest - 60_000))
    body = "\n".join(part for part in [*parts[:-1], drawn, parts[-1]] if part)
    style = f"<style>\n{timelines.asset('report.css')}</style>"
    return page(f"Evaluation of {_name(result, folder)}", body, head=style)


def sound_intervals(
    statistics: bootstrap.Statistics, result: EvalReport
) -> dict[str, tuple[float, float]]:
    """Returns the intervals of the report's metrics that its videos' sums give again.

    A metric that is computed by other rules than the sums' gets no interval.
    """
    online = (result.online or {}).get("metrics", {})
    reported = {**online, **result.metrics}
    if not statistics.num_videos:
        return {}
    own = bootstrap.own_metrics(statistics)
    return {
        name: interval
        for name, interval in bootstrap.intervals(statistics).items()
        if name in reported
        and math.isclose(own[name], reported[name], rel_tol=1e-6, abs_tol=1e-6)
    }


def _name(result: EvalReport, folder: pathlib.Path) -> str:
    run = result.run
    known = f"{run.get('dataset', 'a data set')}, split {run.get('split', '?')}"
    own = folder.resolve()
    name = own.parent.name if own.name.startswith("evaluation") else own.name
    name = pathlib.Path(run.get("predictions", name)).name
    # What is no UTF-8 in a file's name cannot be written.
    end = report.title_end(run)
    return f"{name.encode('utf-8', 'replace').decode()} on {known}{end}"


def _facts(result: EvalReport) -> str:
    run = result.run
    host = run.get("host", {})
    device = run.get("device", {})
    facts = {
        "Step": run.get("checkpoint_step"),
        "Best checkpoint by": run.get("best_checkpoint_by"),
        "Videos": len(result.videos),
        "Frames": f"{sum(v['num_frames'] for v in result.videos.values()):,}",
        "Date": str(run.get("date", ""))[:16].replace("T", " "),
        "Version": run.get("versions", {}).get("svtas_jax"),
        "Commit": (run.get("git_commit") or "")[:12],
        "Machine": device.get("kind")
        if device.get("platform") != "cpu"
        else host.get("cpu"),
    }
    items = "".join(
        f"<span>{name} <b>{escape(str(fact))}</b></span>"
        for name, fact in facts.items()
        if fact not in (None, "")
    )
    known = run.get("videos_trained_on")
    warning = (
        f'<p class="notice">{known} of these videos were trained on: the metrics do '
        "not show how well the model does on new videos.</p>"
        if known
        else ""
    )
    notices = "".join(
        f'<p class="notice">{escape(notice)}</p>' for notice in report.notices(run)
    )
    return f'{notices}<p class="facts">{items}</p>{warning}'


def _metrics_section(
    result: EvalReport, num_videos: int, found: Mapping[str, tuple[float, float]]
) -> str:
    said = (
        f"In brackets: 95 % intervals over the {num_videos} videos, from "
        f"{bootstrap.NUM_RESAMPLES} bootstrap resamples of whole videos. A metric "
        "without one ranks what all videos hold together."
        + (_ROUGH if num_videos < bootstrap.MANY_VIDEOS else "")
        if found
        else f"With {num_videos} videos there are no intervals; {_FEW}"
    )
    names = [n for n in (*_PERCENT, "acc_balanced") if n in result.metrics]
    rows = [
        (tables.short(n), "", result.metrics[n], found.get(n))
        for n in names
        if math.isfinite(result.metrics[n])
    ]
    chart = charts.draw(charts.interval_chart(rows), name="Metrics with intervals")
    listed = tables.metrics_table(result.metrics, found)
    return f"""<section class="whole"><h2>Metrics</h2><p class="pale">{said}</p>
<div class="columns"><div>{listed}</div><div class="chart fits">{chart}</div></div>
</section>"""


def _online_section(
    result: EvalReport, found: Mapping[str, tuple[float, float]]
) -> str:
    if result.online is None:
        return ""
    own = {
        n: v for n, v in result.online["metrics"].items() if n in report.ONLINE_NAMES
    }
    answers = escape(str(result.online["answers"]))
    return f"""<section class="whole"><h2>Online</h2>
<p class="pale">The model answers {answers}. Delays are from a border in the video to
the label that shows it.</p>
{tables.metrics_table(own, found)}</section>"""


def _class_section(result: EvalReport, details: Details) -> str:
    online = result.online is not None
    return f"""<section><h2>Classes</h2>
<p class="pale">Over frames. Support: true frames. {tables.DELAYS_SAID[online]}</p>
{tables.class_table(result.confusion, details, online=online)}</section>"""


def _confusion_section(result: EvalReport) -> str:
    spec, least = charts.confusion_chart(result.confusion, result.class_names)
    chart = charts.draw(spec, name="Confusion of classes")
    left_out = f" Cells below {100 * least:.2g} % are left out." if least else ""
    return f"""<section><h2>Confusion</h2>
<p class="pale">Share of a true class's frames (row) by predicted class (column). Point
at a cell for its frames.{left_out}</p>
<div class="chart matrix" tabindex="0">{chart}</div></section>"""


def _borders_section(result: EvalReport, details: Details) -> str:
    unit, videos = unit_of(details), details.videos.values()
    errors = [e for v in videos for e in border_errors(v, details.background)]
    kinds = {
        name: np.array([e.error for e in errors if e.is_start == is_start])
        for name, is_start in (("starts", True), ("ends", False))
    }
    every = np.concatenate(list(kinds.values()))
    shown = {name: values for name, values in kinds.items() if len(values)}
    chart = charts.histogram_chart(
        shown, title=f"too early ← {unit} → too late", edges=charts.even_edges(every)
    )
    long = {
        name: lengths(details, predicted=predicted)
        for name, predicted in (("true", False), ("predicted", True))
    }
    ratio = result.metrics.get("segment_ratio", math.nan)
    times = charts.draw(tables.lengths_chart(long, unit), name="Lengths of segments")
    drawn = charts.draw(chart, name="Errors of borders") if shown else "No border."
    return f"""<section><h2>Borders and over-segmentation</h2>
<div class="columns"><div><h3>Borders of found segments</h3>
<p class="pale">{tables.border_words(every, unit)}</p>
<div class="chart fits">{drawn}</div></div>
<div><h3>Lengths of segments</h3>
<p class="pale">{ratio:.2f} predicted segments for each true one.</p>
<div class="chart fits">{times}</div></div></div></section>"""


def _settings_section(result: EvalReport) -> str:
    run = json.loads(report.to_json(result.run))
    groups = {name: part for name, part in run.items() if isinstance(part, dict)}
    facts: dict[str, Any] = {n: fact for n, fact in run.items() if n not in groups}
    blocks = [("run", facts), *groups.items()]
    if result.conventions:
        blocks.insert(0, ("conventions", dict(result.conventions)))
    inner = "\n".join(
        f"<details><summary>{escape(name)}</summary>"
        f"{table(('', ''), tables.flat(part), num_texts=2)}</details>"
        for name, part in blocks
    )
    return f"<section><h2>Settings</h2>\n{inner}</section>"
