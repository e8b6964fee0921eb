"""Writes check.html: what was found first, then the classes, then every video with the
pictures on both sides of its borders."""

import importlib.resources
from typing import Any

import numpy as np

from data_pipeline.checking import cards, report
from data_pipeline.checking.cards import paint_of
from data_pipeline.checking.examine import Examination
from data_pipeline.checking.findings import Finding, counted, grouped
from data_pipeline.checking.kinds import KINDS, Severity
from svtas_jax.pages import colours
from svtas_jax.pages.skeleton import escape, page, table

_MOST_ROWS = 50  # of a kind
_BAR_EM = 12  # width of the largest class's bar


def render(examined: Examination) -> str:
    """Returns the page of a check."""
    data, anchors = examined.data, cards.anchors_of(examined)
    body = [
        f'<p class="pale">{escape(str(data.root))}</p>',
        f"<section><h2>Findings</h2>{_findings(examined, anchors)}</section>",
        f"<section><h2>Classes</h2>{_classes(examined)}</section>",
        f"<section><h2>Splits</h2>{_splits(examined)}</section>",
        f"<section><h2>Videos</h2>{cards.section(examined, anchors)}</section>",
    ]
    head = f"<style>\n{_style(examined)}</style>"
    return page(f"Check of {data.config.dataset}", "\n".join(body), head=head)


def _style(examined: Examination) -> str:
    """Returns the style sheet, with a rule for every class: .k0 {...}"""
    data = examined.data
    known = data.classes[: data.num_classes or cards.MOST_COLOURS]
    sheet = importlib.resources.files("data_pipeline.checking") / "check.css"
    rules = [
        f".k{index} {{ --paint: {colour}; }}"
        for index, colour in enumerate(colours.css_colours(known))
    ]
    return sheet.read_text(encoding="utf-8") + "\n".join(rules) + "\n"


def _findings(examined: Examination, anchors: dict[str, str]) -> str:
    parts = [f"<p>{counted(examined.findings)}</p>"]
    for kind, group in grouped(examined.findings).items():
        rows = [
            (_linked(finding, anchors), escape(finding.what))
            for finding in group[:_MOST_ROWS]
        ]
        if (more := len(group) - _MOST_ROWS) > 0:
            rows.append(("", f"and {more} more, which check.json lists"))
        severity = KINDS[kind].severity
        is_open = " open" if severity != Severity.NOTE else ""
        parts.append(
            f'<details class="kind"{is_open}><summary>'
            f'<span class="badge {severity.word}">{severity.word}</span>'
            f"<span>{escape(kind)} ({len(group)})</span>"
            f'<span class="pale">{escape(KINDS[kind].rule)}</span></summary>'
            f"<p>{escape(KINDS[kind].remedy)}</p>"
            f"{table(('where', 'what'), rows, num_texts=2, as_html=True)}</details>"
        )
    return "\n".join(parts)


def _linked(finding: Finding, anchors: dict[str, str]) -> str:
    where = escape(finding.where)
    if finding.video not in anchors:
        return where
    return f'<a href="#{anchors[finding.video]}">{where}</a>'


def _classes(examined: Examination) -> str:
    figures = report.classes(examined)
    total = max(1, sum(row["frames"] for row in figures))
    most = max((row["frames"] for row in figures), default=1) or 1
    order = sorted(range(len(figures)), key=lambda k: -figures[k]["frames"])
    rows = [
        _class_row(figures[k], paint_of(examined.data, k), total, most)
        for k in order[: cards.MOST_COLOURS]
    ]
    head = ("class", "share", "frames", "segments", "median", "shortest", "seen twice")
    stride = examined.data.config.frame_stride
    left_out = len(figures) - len(rows)
    more = f" {left_out} more are left out here." if left_out else ""
    return (
        table(head, rows, num_texts=2, as_html=True)
        + f'<p class="pale">Lengths are in frames. "Seen twice" counts the segments of '
        f"which the model sees two frames or more (config.data.frame_stride={stride})."
        f"{more}</p>"
    )


def _class_row(row: dict[str, Any], paint: str, total: int, most: int) -> tuple:
    width = _BAR_EM * row["frames"] / most
    name = escape(row["name"]) + ("" if row["in_mapping"] else " (not in mapping)")
    return (
        f'<span class="swatch paint {paint}"></span>{name}',
        f'<span class="share"><span class="bar paint {paint}" '
        f'style="width:{width:.2f}em"></span> {row["frames"] / total:.1%}</span>',
        f"{row['frames']:,}",
        f"{row['segments']:,}",
        f"{row['median_frames']:g}",
        f"{row['shortest_frames']}",
        f"{row['seen']} of {row['segments']}",
    )


def _splits(examined: Examination) -> str:
    data, rows = examined.data, []
    for number, split in data.splits.items():
        for subset, names in split.items():
            labels = [data.labels[name] for name in names if name in data.labels]
            seen = {int(k) for v in labels for k in np.unique(v)}
            absent = [data.classes[k] for k in range(data.num_classes) if k not in seen]
            frames = sum(map(len, labels))
            cells = f"{number}, {subset}", f"{len(names):,}", f"{frames:,}"
            rows.append((*cells, ", ".join(absent) or "none"))
    return table(("split", "videos", "frames", "absent classes"), rows, num_texts=4)
