"""Writes check.html: what was found first, then the classes, then every video with the
pictures on both sides of its borders."""

import base64
import importlib.resources
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipeline.checking import report
from data_pipeline.checking.examine import Examination, borders
from data_pipeline.checking.findings import (
    KINDS,
    Finding,
    Severity,
    counted,
    grouped,
)
from svtas_jax.pages import colours
from svtas_jax.pages.skeleton import escape, page, table
from svtas_jax.structs import Segment, labels_to_segments

_MOST_BYTES = 4_000_000  # of pictures, as they stand in the page
_MOST_ROWS = 50  # of a kind
_MOST_LINES = 12  # on one video
_MOST_CLASSES = 200  # in the table and in colour
_BAR_EM = 12  # width of the largest class's bar
_COLUMNS = 1200  # of a strip; shorter segments are not drawn
_STRIP, _MARKS = 24, 30  # heights at which labels end and marks begin
_ODD = "var(--bad)"  # colour of what is no class


def render(examined: Examination) -> str:
    """Returns the page of a check."""
    data = examined.data
    title = f"Check of {data.config.dataset}"
    body = [
        f'<p class="pale">{escape(str(data.root))}</p>',
        f"<section><h2>Findings</h2>{_findings(examined)}</section>",
        f"<section><h2>Classes</h2>{_classes(examined)}</section>",
        f"<section><h2>Splits</h2>{_splits(examined)}</section>",
        f"<section><h2>Videos</h2>{_videos(examined)}</section>",
    ]
    style = importlib.resources.files("data_pipeline.checking") / "check.css"
    head = f"<style>\n{style.read_text(encoding='utf-8')}</style>"
    return page(title, "\n".join(body), head=head)


def _findings(examined: Examination) -> str:
    places = _places(examined)
    parts = [f"<p>{counted(examined.findings)}</p>"]
    for kind, group in grouped(examined.findings).items():
        rows = []
        for finding in group[:_MOST_ROWS]:
            where = escape(finding.where)
            if finding.video in places:
                where = f'<a href="#{places[finding.video]}">{where}</a>'
            rows.append((where, escape(finding.what)))
        if (more := len(group) - _MOST_ROWS) > 0:
            rows.append(("", f"and {more} more, which check.json lists"))
        word = KINDS[kind].severity.word
        is_open = " open" if word != Severity.NOTE.word else ""
        parts.append(
            f'<details class="kind"{is_open}><summary>'
            f'<span class="badge {word}">{word}</span>'
            f"<span>{escape(kind)} ({len(group)})</span>"
            f'<span class="pale">{escape(KINDS[kind].rule)}</span></summary>'
            f"<p>{escape(KINDS[kind].remedy)}</p>"
            f"{table(('where', 'what'), rows, num_texts=2, as_html=True)}</details>"
        )
    return "\n".join(parts)


def _classes(examined: Examination) -> str:
    figures, paint = report.classes(examined), _paint(examined)
    total = max(1, sum(row["frames"] for row in figures))
    most = max((row["frames"] for row in figures), default=1) or 1
    order = sorted(range(len(figures)), key=lambda k: -figures[k]["frames"])
    rows = []
    for index in order[:_MOST_CLASSES]:
        row, colour = figures[index], paint[index]
        width = _BAR_EM * row["frames"] / most
        share = f"{100 * row['frames'] / total:.1f} %"
        name = escape(row["name"]) + ("" if row["in_mapping"] else " (not in mapping)")
        rows.append(
            (
                f'<span class="swatch" style="background:{colour}"></span>{name}',
                f'<span class="share"><span class="bar" style="width:{width:.2f}em;'
                f'background:{colour}"></span> {share}</span>',
                f"{row['frames']:,}",
                f"{row['segments']:,}",
                f"{row['median_frames']:g}",
                f"{row['shortest_frames']}",
                f"{row['seen']} of {row['segments']}",
            )
        )
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


def _splits(examined: Examination) -> str:
    data, rows = examined.data, []
    for number, split in data.splits.items():
        for subset, names in split.items():
            labels = [data.labels[name] for name in names if name in data.labels]
            seen = {int(k) for v in labels for k in np.unique(v)}
            missing = [data.classes[k] for k in range(data.num_classes)]
            missing = [name for k, name in enumerate(missing) if k not in seen]
            frames = sum(map(len, labels))
            first = f"{number}, {subset}"
            absent = ", ".join(missing) or "none"
            rows.append((first, f"{len(names):,}", f"{frames:,}", absent))
    return table(("split", "videos", "frames", "absent classes"), rows, num_texts=4)


def _videos(examined: Examination) -> str:
    places, budget = _places(examined), _MOST_BYTES
    cards, num_shown, num_borders = [], 0, 0
    for name in places:
        figures = []
        for figure in _borders(examined, name):
            if len(figure) <= budget:
                budget -= len(figure)
                figures.append(figure)
        num_shown += len(figures)
        num_borders += max(0, len(examined.data.segments.get(name, ())) - 1)
        cards.append(_card(examined, name, places[name], figures))
    shown = f"Pictures on both sides of {num_shown:,} of {num_borders:,} borders."
    if num_shown < num_borders:
        shown += " The others are left out to keep the page small: of each video, those"
        shown += " beside longer segments first."
    if not examined.scans:
        shown = "No video was decoded: there are no pictures."
    text = "Videos with errors come first, then those with warnings. Beneath a line of "
    text += "labels, what a finding is about is marked. "
    return f'<p class="pale">{text}{shown}</p>{_legend(examined)}{"".join(cards)}'


def _legend(examined: Examination) -> str:
    pairs = zip(examined.data.classes, _paint(examined), strict=True)
    items = [
        f'<span><span class="swatch" style="background:{colour}"></span>'
        f"{escape(name)}</span>"
        for name, colour in list(pairs)[:_MOST_CLASSES]
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def _card(examined: Examination, name: str, place: str, figures: Sequence[str]) -> str:
    said = [finding for finding in examined.findings if finding.video == name]
    lines = "".join(
        f'<li class="{f.severity.word}">{escape(f.kind)}: '
        f"{escape(f'{f.place}: ' if f.place else '')}{escape(f.what)}</li>"
        for f in said[:_MOST_LINES]
    )
    if len(said) > _MOST_LINES:
        lines += f"<li>and {len(said) - _MOST_LINES} more</li>"
    pictures = f'<div class="borders">{"".join(figures)}</div>' if figures else ""
    return (
        f'<article class="film" id="{place}"><h3>{escape(name)} '
        f'<span class="pale">{escape(_facts(examined, name))}</span></h3>'
        f"{f'<ul>{lines}</ul>' if lines else ''}"
        f"{_strip(examined, name, said)}{pictures}</article>\n"
    )


def _facts(examined: Examination, name: str) -> str:
    data, scan = examined.data, examined.scans.get(name)
    parts = []
    if scan and scan.info:
        frames = scan.length
        info = scan.info
        parts += [f"{frames:,} frames", f"{info.width}x{info.height}"]
        parts += [f"{info.fps:.4g} frames/s"] if info.fps else []
    if name in data.labels:
        parts.append(f"{len(data.labels[name]):,} labels")
        parts.append(f"{len(data.segments[name])} segments")
    return ", ".join(parts)


def _strip(examined: Examination, name: str, said: Sequence[Finding]) -> str:
    """Draws the labels of a video, with marks where something was found."""
    labels = examined.data.labels.get(name, np.zeros(0, np.int32))
    if not len(labels):
        return ""
    scan = examined.scans.get(name)
    num_frames = max(len(labels), scan.length if scan else 0)
    scale = _COLUMNS / num_frames
    paint, classes = _paint(examined), examined.data.classes
    rects = []
    for segment in _drawn(labels, examined.data.segments[name]):
        x, width = segment.start * scale, (segment.end - segment.start) * scale
        title = f"{classes[segment.label]}: frames {segment.start} to {segment.end - 1}"
        rects.append(
            f'<rect x="{x:.1f}" width="{width:.1f}" height="{_STRIP}" '
            f'fill="{paint[segment.label]}"><title>{escape(title)}</title></rect>'
        )
    for finding in said:
        if finding.frames and finding.severity != Severity.NOTE:
            start, end = finding.frames
            width = max(3.0, (end - start) * scale)
            rects.append(
                f'<rect class="{finding.severity.word}" x="{start * scale:.1f}" '
                f'y="{_STRIP + 2}" width="{width:.1f}" height="{_MARKS - _STRIP}">'
                f"<title>{escape(f'{finding.kind}: {finding.what}')}</title></rect>"
            )
    return (
        f'<svg class="strip" viewBox="0 0 {_COLUMNS} {_MARKS + 2}" '
        f'preserveAspectRatio="none" role="img" aria-label="labels of {escape(name)}">'
        f"{''.join(rects)}</svg>"
    )


def _drawn(labels: np.ndarray, segments: Sequence[Segment]) -> list[Segment]:
    """Returns the segments that a strip can show: one a column at the most."""
    if len(segments) <= _COLUMNS // 2:
        return list(segments)
    places = np.arange(_COLUMNS) * len(labels) // _COLUMNS
    ends = np.append(places, len(labels))
    return [
        Segment(s.label, int(ends[s.start]), int(ends[s.end]))
        for s in labels_to_segments(labels[places])
    ]


def _borders(examined: Examination, name: str) -> Iterator[str]:
    """Yields the pictures on both sides of each border."""
    scan, data = examined.scans.get(name), examined.data
    if scan is None or not scan.thumbs:
        return
    labels, paint = data.labels[name], _paint(examined)
    fps = scan.info.fps if scan.info else 0.0
    stride = scan.step
    for start in borders(data, name):
        sides = []
        for frame in (start - 1, start):
            jpeg = scan.thumbs.get(frame // stride * stride)
            if jpeg is None:
                break
            image = base64.b64encode(jpeg).decode()
            colour = paint[int(labels[frame])]
            sides.append(
                f'<img alt="frame {frame}" style="border-color:{colour}" '
                f'src="data:image/jpeg;base64,{image}">'
            )
        if len(sides) < 2:
            continue
        before, after = (
            escape(data.classes[int(labels[n])]) for n in (start - 1, start)
        )
        time = f", {start / fps:.1f} s" if fps else ""
        yield (
            f'<figure><div class="pair">{"".join(sides)}</div><figcaption>'
            f"{before} &rarr; {after}<br>"
            f'<span class="pale">frame {start}{time}</span></figcaption></figure>'
        )


def _places(examined: Examination) -> dict[str, str]:
    """Returns the anchor of every video, those with the worst findings first."""
    data = examined.data
    worst: dict[str, tuple[int, int]] = {}
    for finding in examined.findings:
        severity, count = worst.get(finding.video, (finding.severity, 0))
        worst[finding.video] = severity, count - (finding.severity == severity)
    last = (len(Severity), 0)
    names = sorted({*data.labels, *data.videos, *data.listed})
    names.sort(key=lambda name: worst.get(name, last))
    return {name: f"video-{number}" for number, name in enumerate(names)}


def _paint(examined: Examination) -> list[str]:
    """Returns the colour of each class, and of each name that is no class."""
    data = examined.data
    known = min(data.num_classes or len(data.classes), _MOST_CLASSES)
    css = colours.css_colours(data.classes[:known])
    return [*css, *[_ODD] * (len(data.classes) - known)]
