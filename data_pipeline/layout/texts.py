"""The files of a data set that people read: labels, splits, config and report."""

import collections
import json
import pathlib
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.layout.findings import by_kind
from data_pipeline.layout.matching import NamedVideo
from data_pipeline.layout.writing import CONFIG, REPORT
from svtas_jax.structs import labels_to_segments

if TYPE_CHECKING:
    from data_pipeline.layout.preparing import Prepared

_LISTED = 40  # findings of one kind that the report lists


def all_files(
    prepared: "Prepared", output: pathlib.Path, command: str
) -> dict[str, str]:
    """Returns the text of every file by its path in the data set."""
    files = {
        f"groundTruth/{video.name}.txt": _lines(prepared.classes[k] for k in labels)
        for video, labels in zip(prepared.videos, prepared.labels, strict=True)
    }
    files["mapping.txt"] = _lines(f"{i} {n}" for i, n in enumerate(prepared.classes))
    for fold in range(int(prepared.fold_of.max()) + 1):
        for subset in ("train", "test"):
            chosen = (prepared.fold_of == fold) == (subset == "test")
            names = [v.name for v, c in zip(prepared.videos, chosen, strict=True) if c]
            path = f"splits/{subset}.split{fold + 1}.bundle"
            files[path] = _lines(f"{name}.txt" for name in names)
    files[CONFIG] = _config(prepared, output)
    files[REPORT] = _report(prepared, output, command)
    return files


def video_list(videos: Sequence[NamedVideo]) -> str:
    """Returns the text of videos.txt."""
    return _lines(f"{video.name}\t{video.path.resolve()}" for video in videos)


def summary(prepared: "Prepared", output: pathlib.Path) -> str:
    """Returns what the command says at its end."""
    counts = ", ".join(
        f"{kind} ({len(group)})"
        for (severity, kind), group in by_kind(prepared.findings).items()
    )
    config = output / CONFIG
    return (
        f"{_facts(prepared)} in {output}\n"
        f"Found: {counts or 'nothing to mention'}; see {output / REPORT}\n"
        f"Next:  python -m data_pipeline.check --config={config}\n"
        f"       python -m svtas_jax.train --config={config} "
        f"--workdir={_workdir(output)}"
    )


def _facts(prepared: "Prepared") -> str:
    frames = sum(map(len, prepared.labels))
    segments = sum(len(labels_to_segments(labels)) for labels in prepared.labels)
    return (
        f"{len(prepared.videos)} videos, {frames} frames, {segments} segments in "
        f"{len(prepared.classes)} classes, {int(prepared.fold_of.max()) + 1} splits"
    )


def _workdir(output: pathlib.Path) -> pathlib.Path:
    return pathlib.Path("runs") / output.resolve().name


def _config(prepared: "Prepared", output: pathlib.Path) -> str:
    name, config = output.resolve().name, output / CONFIG
    fields = "\n".join(
        f"{_comment(setting.reason)}\n    config.{setting.field} = "
        f"{_literal(setting.value)}"
        for setting in prepared.settings
    )
    return f'''"""{name}: {_facts(prepared)}.

    python -m svtas_jax.train --config={config} --workdir={_workdir(output)}

data_pipeline.prepare proposed the values, and {REPORT} lists what it found. Change
what you like; --config.SECTION.FIELD=VALUE overrides a field.
"""

import pathlib

import ml_collections

from svtas_jax import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = {_literal(name)}
    root = pathlib.Path(__file__).resolve().parent
    config.data.root = str(root)
{fields}
    return config
'''


def _comment(text: str) -> str:
    return textwrap.fill(
        text, width=88, initial_indent="    # ", subsequent_indent="    # "
    )


def _literal(value: object) -> str:
    """Returns a value as Python text, strings in double quotes."""
    if isinstance(value, pathlib.PurePath):
        return f"str(root / {json.dumps(value.as_posix())})"
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return (
        json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    )


def _report(prepared: "Prepared", output: pathlib.Path, command: str) -> str:
    return (
        "\n\n".join(
            [
                f"# How {output.resolve().name} was prepared",
                f"{_facts(prepared)}. The command:",
                f"```bash\n{command}\n```",
                *_findings(prepared),
                *_settings(prepared),
                *_class_table(prepared),
                *_video_table(prepared),
            ]
        )
        + "\n"
    )


def _findings(prepared: "Prepared") -> list[str]:
    parts = ["## What was found"]
    for (severity, kind), group in by_kind(prepared.findings).items():
        lines = [f"- {f.where}: {f.text}" for f in group[:_LISTED]]
        if len(group) > _LISTED:
            lines.append(f"- and {len(group) - _LISTED} more")
        remedies = dict.fromkeys(f.remedy for f in group if f.remedy)
        title = f"**{severity.capitalize()}: {kind}** ({len(group)})"
        parts.append("\n".join([title, "", *lines]))
        parts += [f"What to do: {remedy}." for remedy in remedies]
    return parts if len(parts) > 1 else [*parts, "Nothing to mention."]


def _settings(prepared: "Prepared") -> list[str]:
    rows = [
        (f"`{s.field}`", f"`{_literal(s.value)}`", s.reason) for s in prepared.settings
    ]
    return ["## Proposed settings", _table(("field", "value", "reason"), rows)]


def _class_table(prepared: "Prepared") -> list[str]:
    lengths = collections.defaultdict(list)
    for video, labels in zip(prepared.videos, prepared.labels, strict=True):
        fps = prepared.media[video].fps
        for segment in labels_to_segments(labels):
            lengths[segment.label].append((segment.end - segment.start) / fps)
    total = sum(sum(seconds) for seconds in lengths.values())
    rows = []
    for index, name in enumerate(prepared.classes):
        seconds = np.array(lengths[index] or [0.0])
        share = f"{100 * seconds.sum() / total:.1f} %"
        rows.append(
            (name, len(lengths[index]), f"{seconds.sum():.1f}", share)
            + tuple(f"{np.percentile(seconds, p):.2f}" for p in (10, 50, 90))
        )
    heads = ("class", "segments", "seconds", "share", "10 % last", "half", "90 %")
    return ["## Classes", "Lengths of segments are in seconds.", _table(heads, rows)]


def _video_table(prepared: "Prepared") -> list[str]:
    rows = []
    for video, group, fold in zip(
        *(prepared.videos, prepared.groups, prepared.fold_of), strict=True
    ):
        file = prepared.media[video]
        rows.append(
            (
                *(
                    video.name,
                    file.num_frames,
                    f"{file.seconds:.1f}",
                    f"{file.fps:.4g}",
                ),
                *(f"{file.width} x {file.height}", group, fold + 1, file.path),
            )
        )
    heads = ("video", "frames", "s", "frames/s", "size", "group", "tested in", "file")
    return ["## Videos", _table(heads, rows)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _lines(lines) -> str:
    return "".join(f"{line}\n" for line in lines)
