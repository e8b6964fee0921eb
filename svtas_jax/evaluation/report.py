"""Writes evaluation reports: report.json for programs, report.md for people."""

import dataclasses
import json
import math
import os
import pathlib
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from svtas_jax.evaluation.boundaries import TOLERANCES_FRAMES, TOLERANCES_S
from svtas_jax.evaluation.class_table import class_f1
from svtas_jax.evaluation.metrics import class_recall_precision
from svtas_jax.runtime import provenance
from svtas_jax.runtime.files import write_atomic

METRIC_NAMES = {
    "acc": "Acc (frames)",
    "edit": "Edit",
    "f1_10": "F1@0.10",
    "f1_25": "F1@0.25",
    "f1_50": "F1@0.50",
    "auc": "AUC (mean of AR@AN, AN 1..100)",
    "ar_1": "AR@AN 1",
    "ar_5": "AR@AN 5",
    "ar_15": "AR@AN 15",
    "map_50": "mAP@0.50",
    "map_avg": "mAP@0.50:0.05:0.95",
    "map_30_70": "mAP@0.3:0.1:0.7",
    "map_30": "mAP@0.30",
    "map_40": "mAP@0.40",
    "map_60": "mAP@0.60",
    "map_70": "mAP@0.70",
    "map_75": "mAP@0.75",
    "map_95": "mAP@0.95",
    "acc_balanced": "Balanced Acc (mean recall of classes)",
    "segment_ratio": "Predicted / true segments",
    **{f"boundary_f1_{t:g}s": f"Boundary F1 within {t:g} s" for t in TOLERANCES_S},
    **{
        f"boundary_f1_{t}_frames": f"Boundary F1 within {t} frames"
        for t in TOLERANCES_FRAMES
    },
}
ONLINE_NAMES = {
    "emission_delay_s": "Wait for a label, mean (s)",
    "frame_map": "mAP of frames",
    "start_delay_median_s": "Start delay, median (s)",
    "start_delay_p95_s": "Start delay, p95 (s)",
    "start_missed": "Segments missed (%)",
    "end_delay_median_s": "End delay, median (s)",
    "end_delay_p95_s": "End delay, p95 (s)",
    "end_missed": "Ends missed (%)",
    "instant_1s": "Acc in time, first 1 s",
    "instant_2s": "Acc in time, first 2 s",
    "instant_4s": "Acc in time, first 4 s",
    "flicker_per_min": "Flicker (more changes a minute than true)",
}

# In `EvalReport.run`: of an evaluation with true labels, and the rules of smoothing.
TOLD = "true_labels_fed"
SMOOTHED = "smoothing"
TOLD_NOTICE = (
    "Not a result: prompts were made of the true labels of every last chunk. No stream "
    "knows them; the difference to an evaluation without them is what the model loses "
    "by its own mistakes."
)
SMOOTHED_NOTICE = (
    "Labels are held back as the command stream does with {flags}: the metrics are "
    "those of what a viewer is shown, not of what the model says. Confidence is the "
    "model's."
)


@dataclasses.dataclass(frozen=True, eq=False)
class EvalReport:
    """The result of one evaluation.

    Attributes:
        metrics: name -> value over the split, in percent (see
            `svtas_jax.evaluation.metrics`).
        videos: name of a video -> its metrics and `num_frames`.
        class_names: names in the order of the class indices.
        confusion: (K, K) frames, by true class (row) and predicted class (column).
        run: `run_info()` and the caller's facts, such as config, dataset, split,
            checkpoint step, seconds, frames per second.
        online: when the model answers, in words, and "metrics" (see
            `svtas_jax.evaluation.online`); None if they were not asked for.
        classes: name of a class -> its facts, see `class_table.class_table`.
        conventions: of the preset, in words, see `presets`.
    """

    metrics: Mapping[str, float]
    videos: Mapping[str, Mapping[str, float]]
    class_names: Sequence[str]
    confusion: np.ndarray
    run: Mapping[str, Any]
    online: Mapping[str, Any] | None = None
    classes: Mapping[str, Mapping[str, float]] | None = None
    conventions: Mapping[str, Any] | None = None


def write_report(report: EvalReport, folder: str | os.PathLike) -> pathlib.Path:
    """Writes report.json and report.md; returns the path of report.md.

    report.md shows the pictures in `folder`/pictures, so write them first.

    Raises:
        InputError: if the folder cannot be written to.
    """
    folder = pathlib.Path(folder)
    content = {name: part for name, part in vars(report).items() if part is not None}
    write_atomic(folder / "report.json", to_json(content))
    pictures = {
        name: path
        for name in report.videos
        if (folder / (path := f"pictures/{name}.png")).exists()
    }
    return write_atomic(folder / "report.md", to_markdown(report, pictures))


def write_predictions(
    folder: str | os.PathLike,
    name: str,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> pathlib.Path:
    """Writes `folder`/predictions/NAME.txt, with a line per frame: its class name.

    Args:
        folder: of the report.
        name: of the video.
        labels: (num_frames,) class of every frame.
        class_names: names in the order of the class indices.
    """
    lines = "".join(f"{class_names[label]}\n" for label in np.asarray(labels).tolist())
    return write_atomic(pathlib.Path(folder) / "predictions" / f"{name}.txt", lines)


def write_figures(content: Mapping[str, Any], path: str | None) -> None:
    """Writes a command's figures and all versions as JSON, if `path` is given."""
    if path:
        text = to_json({**content, "versions": provenance.versions()})
        write_atomic(path, text)


def to_json(content: Any) -> str:
    """Returns valid JSON: arrays become lists, and numbers that are not finite null.

    Each list of numbers or strings is on one line.
    """
    text = json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False)
    # JSON strings contain no raw line feeds, so the pattern matches no string.
    flat = re.sub(
        r"\[\n\s+([^\[\]{}]*?)\n\s+\]",
        lambda match: "[" + re.sub(r",\n\s+", ", ", match[1]) + "]",
        text,
    )
    return flat + "\n"


def to_markdown(report: EvalReport, pictures: Mapping[str, str] | None = None) -> str:
    """Returns the report as Markdown.

    Args:
        report: the result.
        pictures: name of a video -> path of its picture, relative to the report.
    """
    run = _plain(report.run)
    nested = {name: facts for name, facts in run.items() if isinstance(facts, dict)}
    facts = {name: fact for name, fact in run.items() if name not in nested}
    sections = [
        f"# Evaluation{title_end(run)}",
        *(f"**{notice}**" for notice in notices(run)),
        _metrics_table(report.metrics),
        *_online_section(report.online),
        *_conventions_section(report.conventions),
        "## Run",
        _facts_table(facts),
        "## Classes",
        _class_table(report),
        "## Confusion",
        "Share of a true class's frames (row) by predicted class (column), in percent.",
        _confusion_table(report),
        "## Videos",
        _video_table(report.videos),
        *(_picture(name, path) for name, path in (pictures or {}).items()),
        "## Settings",
        _facts_table(nested),
    ]
    return "\n\n".join(sections) + "\n"


def _plain(value: Any) -> Any:
    """Converts a value to types that JSON has."""
    if isinstance(value, ml_collections.ConfigDict | ml_collections.FrozenConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _metrics_table(metrics: Mapping[str, float], column: str = "Value") -> str:
    names = METRIC_NAMES | ONLINE_NAMES
    rows = [
        (names.get(name, name), _number(name, value)) for name, value in metrics.items()
    ]
    return markdown_table(("Metric", column), rows)


def title_end(run: Mapping[str, Any]) -> str:
    """Returns what sets an evaluation apart, for the end of a title; often nothing."""
    told = " with true labels fed" if run.get(TOLD) else ""
    return told + (" with smoothed labels" if run.get(SMOOTHED) else "")


def notices(run: Mapping[str, Any]) -> list[str]:
    """Returns what must be known before the metrics are read; often nothing."""
    told = [TOLD_NOTICE] if run.get(TOLD) else []
    flags = smoothing_flags(run)
    return told + ([SMOOTHED_NOTICE.format(flags=flags)] if flags else [])


def smoothing_flags(run: Mapping[str, Any]) -> str:
    """Returns the flags that smoothed an evaluation's labels; empty if none did."""
    rules = run.get(SMOOTHED) or {}
    return " ".join(f"--{name}={value:g}" for name, value in rules.items())


def _online_section(online: Mapping[str, Any] | None) -> list[str]:
    if online is None:
        return []
    table = _metrics_table(online["metrics"], f"Answers {online['answers']}")
    return ["## Online", table]


def _conventions_section(conventions: Mapping[str, Any] | None) -> list[str]:
    if conventions is None:
        return []
    return ["## Conventions", _facts_table(conventions)]


def _video_table(videos: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(name for facts in videos.values() for name in facts))
    rows = [
        (video, *(_number(column, facts.get(column)) for column in columns))
        for video, facts in videos.items()
    ]
    return markdown_table(("Video", *columns), rows)


def _class_table(report: EvalReport) -> str:
    recall, precision = class_recall_precision(report.confusion)
    frames, f1 = report.confusion.sum(axis=1), class_f1(report.confusion)
    rows = [
        (name, str(frames[k]), *map(_percent, (recall[k], precision[k], f1[k])))
        for k, name in enumerate(report.class_names)
    ]
    head = ("Class", "True frames", "Recall %", "Precision %", "F1 %")
    return markdown_table(head, rows)


def _confusion_table(report: EvalReport) -> str:
    sums = np.maximum(1, report.confusion.sum(axis=1, keepdims=True))
    shares = 100.0 * report.confusion / sums
    rows = [
        (name, *("" if share == 0 else f"{share:.0f}" for share in shares[k]))
        for k, name in enumerate(report.class_names)
    ]
    return markdown_table(("", *report.class_names), rows)


def _facts_table(facts: Mapping[str, Any]) -> str:
    return markdown_table(("", ""), list(_flatten(facts)))


def _picture(name: str, path: str) -> str:
    return f"### {name}\n\n![{name}]({urllib.parse.quote(path)})"


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            yield f"{prefix}{name}", text


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table; the first column is left-aligned, the others right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = [head, rule, *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


def _number(name: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    if name == "num_frames":
        return str(int(value))
    return f"{value:.2f}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
