"""The part of check.html on every video: its labels as a strip, and the pictures on
both sides of their borders."""

import base64
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipeline.checking.dataset import DataSet
from data_pipeline.checking.examine import Examination, borders
from data_pipeline.checking.facts import Scan
from data_pipeline.checking.findings import Finding, frames_of
from data_pipeline.checking.kinds import Severity
from svtas_jax.pages.skeleton import escape
from svtas_jax.structs import Segment, labels_to_segments

MOST_COLOURS = 200  # classes in the table and in the legend
_MOST_BYTES = 3_000_000  # of pictures, as they stand in the page
_MOST_LINES = 12  # on one video
_COLUMNS = 1200  # of a strip; shorter segments are not drawn
_HEIGHT = 32  # of a strip: labels, then marks


def section(examined: Examination, anchors: dict[str, str]) -> str:
    """Returns the HTML of all videos, in the order of `anchors`."""
    budget, cards, num_shown, num_borders = _MOST_BYTES, [], 0, 0
    for name in anchors:
        figures = []
        for figure in _borders(examined, name):
            if len(figure) <= budget:
                budget -= len(figure)
                figures.append(figure)
        num_shown += len(figures)
        num_borders += max(0, len(examined.data.segments.get(name, ())) - 1)
        cards.append(_card(examined, name, anchors[name], figures))
    shown = f"There are pictures on both sides of {num_shown:,} of {num_borders:,} "
    shown += "borders."
    if num_shown < num_borders:
        shown += " To keep the page small, the others were left out, beginning with "
        shown += "those beside long segments, and with the last videos."
    if not examined.scans:
        shown = "No video was decoded: there are no pictures."
    text = "Videos with errors come first, then those with warnings. Bars under the "
    text += "labels mark where something was found. "
    legend = _legend(examined.data)
    return f'<p class="pale">{text}{shown}</p>{legend}{"".join(cards)}'


def anchors_of(examined: Examination) -> dict[str, str]:
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


def paint_of(data: DataSet, index: int) -> str:
    """Returns the style of a class's colour; what is no class has one for all."""
    known = data.num_classes or min(len(data.classes), MOST_COLOURS)
    return f"k{index}" if index < known else "odd"


def _legend(data: DataSet) -> str:
    items = [
        f'<span><span class="swatch paint {paint_of(data, index)}"></span>'
        f"{escape(name)}</span>"
        for index, name in enumerate(data.classes[:MOST_COLOURS])
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def _card(examined: Examination, name: str, anchor: str, figures: Sequence[str]) -> str:
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
        f'<article class="film" id="{anchor}"><h3>{escape(name)} '
        f'<span class="pale">{escape(_facts(examined, name))}</span></h3>'
        f"{f'<ul>{lines}</ul>' if lines else ''}"
        f"{_strip(examined, name, said)}{pictures}</article>\n"
    )


def _facts(examined: Examination, name: str) -> str:
    data, scan = examined.data, examined.scans.get(name)
    parts = []
    if scan and scan.info:
        parts += [f"{scan.length:,} frames", f"{scan.info.width}x{scan.info.height}"]
        parts += [f"{scan.info.fps:.4g} frames/s"] if scan.info.fps else []
    if name in data.labels:
        parts.append(f"{len(data.labels[name]):,} labels")
        parts.append(f"{len(data.segments[name])} segments")
    return ", ".join(parts)


def _strip(examined: Examination, name: str, said: Sequence[Finding]) -> str:
    """Draws the labels of a video, with marks where something was found."""
    data, scan = examined.data, examined.scans.get(name)
    labels = data.labels.get(name, np.zeros(0, np.int32))
    if not len(labels):
        return ""
    scale = _COLUMNS / max(len(labels), scan.length if scan else 0)
    rects = []
    for segment in _drawn(labels, data.segments[name]):
        place = frames_of(segment.start, segment.end)
        rects.append(
            _rect(segment.start, segment.end, scale, paint_of(data, segment.label))
            + f"<title>{escape(data.classes[segment.label])}, {place}</title></rect>"
        )
    for finding in said:
        if finding.frames and finding.severity != Severity.NOTE:
            rects.append(
                _rect(*finding.frames, scale, f"mark {finding.severity.word}")
                + f"<title>{escape(f'{finding.kind}: {finding.what}')}</title></rect>"
            )
    return (
        f'<svg class="strip" viewBox="0 0 {_COLUMNS} {_HEIGHT}" '
        f'preserveAspectRatio="none" role="img" aria-label="labels of {escape(name)}">'
        f"{''.join(rects)}</svg>"
    )


def _rect(start: int, end: int, scale: float, style: str) -> str:
    width = max(3.0 if "mark" in style else 0.0, (end - start) * scale)
    return f'<rect class="{style}" x="{start * scale:.1f}" width="{width:.1f}">'


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
    """Yields the pictures on both sides of each border that has them."""
    data, scan = examined.data, examined.scans.get(name)
    if scan is None or not scan.thumbs:
        return
    fps = scan.info.fps if scan.info else 0.0
    for start in borders(data, name):
        sides = [_side(data, name, frame, scan) for frame in (start - 1, start)]
        if not all(sides):
            continue
        before, after = (data.classes[data.labels[name][n]] for n in (start - 1, start))
        time = f", {start / fps:.1f} s" if fps else ""
        yield (
            f'<figure><div class="pair">{"".join(sides)}</div><figcaption>'
            f"{escape(before)} &rarr; {escape(after)}<br>"
            f'<span class="pale">frame {start}{time}</span></figcaption></figure>'
        )


def _side(data: DataSet, name: str, frame: int, scan: Scan) -> str:
    """Returns the picture of a frame, "" if there is none."""
    jpeg = scan.thumbs.get(frame // scan.step * scan.step)
    if jpeg is None:
        return ""
    paint = paint_of(data, int(data.labels[name][frame]))
    image = base64.b64encode(jpeg).decode()
    return (
        f'<img class="{paint}" alt="frame {frame}" '
        f'src="data:image/jpeg;base64,{image}">'
    )
