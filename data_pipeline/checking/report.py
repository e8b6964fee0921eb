"""What a check found, as a table to read and as facts for programs."""

import collections
from typing import Any

import numpy as np

from data_pipeline import checks
from data_pipeline.checking.examine import Examination
from data_pipeline.checking.findings import Finding, counted, grouped
from data_pipeline.checking.kinds import KINDS, Severity
from data_pipeline.checking.label_rules import sampled
from svtas_jax.structs import VideoRecord

FORMAT = 1  # of check.json: raise it when its meaning changes
_MOST_ROWS = 8  # of a kind on the console
_WIDEST = 44  # of a place


def text(examined: Examination) -> str:
    """Returns the classes, then one table of all findings and what to do."""
    groups = grouped(examined.findings)
    rows = [row for kind, group in groups.items() for row in _rows(kind, group)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = [describe(examined), ""]
    for *cells, what in rows:
        pairs = zip(cells, widths, strict=True)
        lines.append(
            "  ".join(f"{cell:<{width}}" for cell, width in pairs) + f"  {what}"
        )
    if groups:
        lines += ["", "What to do:"]
    for kind in groups:
        if KINDS[kind].severity != Severity.NOTE:
            lines.append(f"  {kind}: {KINDS[kind].rule} {KINDS[kind].remedy}")
    return "\n".join([*lines, "", f"{counted(examined.findings)}."])


def describe(examined: Examination) -> str:
    """Returns a table of the frames and segments of every class in all labels."""
    data, scans = examined.data, examined.scans
    records = []
    for name, labels in data.labels.items():
        info = scans[name].info if name in scans else None
        records.append(VideoRecord(name, "", labels, info.fps if info else 0.0))
    return checks.describe(records, data.classes)


def as_json(examined: Examination) -> dict[str, Any]:
    """Returns all that is known, for programs."""
    data = examined.data
    counts = collections.Counter(f.severity.word for f in examined.findings)
    return {
        "format": FORMAT,
        "root": str(data.root),
        "dataset": data.config.dataset,
        "counts": {severity.word: counts[severity.word] for severity in Severity},
        "findings": [finding.as_json() for finding in examined.findings],
        "splits": {
            str(number): {subset: list(names) for subset, names in split.items()}
            for number, split in data.splits.items()
        },
        "classes": classes(examined),
        "videos": [_video(examined, name) for name in _names(examined)],
    }


def classes(examined: Examination) -> list[dict[str, Any]]:
    """Returns the figures of every class: frames, segments, lengths in frames, and how
    many segments show the model two frames or more."""
    data = examined.data
    stride, by_class = data.config.frame_stride, collections.defaultdict(list)
    for segments in data.segments.values():
        for segment in segments:
            by_class[segment.label].append(segment)
    found = []
    for index, name in enumerate(data.classes):
        segments = by_class[index]
        lengths = [segment.end - segment.start for segment in segments]
        found.append(
            {
                "name": name,
                "in_mapping": index < data.num_classes,
                "frames": sum(lengths),
                "segments": len(segments),
                "median_frames": float(np.median(lengths)) if lengths else 0.0,
                "shortest_frames": min(lengths, default=0),
                "seen": sum(sampled(segment, stride) > 1 for segment in segments),
            }
        )
    return found


def _rows(kind: str, group: list[Finding]) -> list[tuple[str, str, str, str]]:
    word = KINDS[kind].severity.word
    rows = [(word, kind, _short(f.where), f.what) for f in group[:_MOST_ROWS]]
    if (more := len(group) - _MOST_ROWS) > 0:
        rows.append((word, kind, "", f"and {more} more of this kind: see check.json"))
    return rows


def _short(where: str) -> str:
    return where if len(where) <= _WIDEST else f"...{where[3 - _WIDEST :]}"


def _names(examined: Examination) -> list[str]:
    data = examined.data
    return sorted({*data.listed, *data.labels, *data.videos})


def _video(examined: Examination, name: str) -> dict[str, Any]:
    data, scan = examined.data, examined.scans.get(name)
    info = scan.info if scan else None
    path = data.videos.get(name)
    return {
        "name": name,
        "file": data.video_file(name) if path else None,
        "labels": len(data.labels[name]) if name in data.labels else None,
        "frames": scan.length if scan and info else None,
        "header_frames": info.num_frames if info else None,
        "fps": info.fps if info else None,
        "width": info.width if info else None,
        "height": info.height if info else None,
        "is_turned": any(scan.turn) if scan else None,
    }
