"""Frame labels from segments, by the time stamps of the video's frames.

A border between two segments belongs to the frame whose time stamp is nearest: frame i
is in a segment if its time lies in it, with half a frame's duration of tolerance. The
nominal frame rate plays no part, so variable rates are labelled correctly.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from data_pipeline.annotators.segments import Annotation, Segment
from data_pipeline.layout.findings import Finding

UNLABELLED = -1
END_SLACK_S = 0.25  # players count the sound's end, too, which is a little later
_END_SLACK_FRAMES = 1  # tools count from 0 or from 1


@dataclasses.dataclass(frozen=True)
class Rules:
    """What to do where annotations do not say one thing for every frame.

    Attributes:
        fill: the class of frames without a segment; "" makes them an error.
        close_gaps_s: gaps up to this long belong to the segment before them.
        overlap: "error", or "last": the segment that begins later counts.
        beyond: "error", or "cut": what lies beyond the video's end is left out.
    """

    fill: str = ""
    close_gaps_s: float = 0.0
    overlap: str = "error"
    beyond: str = "error"


@dataclasses.dataclass(frozen=True)
class _Span:
    segment: Segment
    start: int  # frame
    end: int  # frame, exclusive


def label_frames(
    annotation: Annotation,
    times_s: np.ndarray,
    index_of: Mapping[str, int],
    rules: Rules,
) -> tuple[np.ndarray, list[Finding]]:
    """Returns the class of every frame, and what was found.

    Args:
        annotation: of one video.
        times_s: (num_frames,) when its frames are shown, see `video.frame_times`.
        index_of: the index of every class.
        rules: see `Rules`.

    Returns:
        (num_frames,) int32, UNLABELLED where a finding of severity "error" says why.
    """
    spans = [_span(s, annotation.unit, times_s) for s in annotation.segments]
    found = _beyond(annotation, times_s, rules)
    found += [
        Finding(
            *("warning", "too short", s.segment.where),
            f"{s.segment.label!r} is too short to hold a frame, and is left out",
        )
        for s in spans
        if s.start == s.end and s.start < len(times_s)
    ]
    spans = sorted((s for s in spans if s.start < s.end), key=lambda s: s.start)
    found += _overlaps(spans, rules)
    labels = np.full(len(times_s), UNLABELLED, np.int32)
    for span in spans:
        labels[span.start : span.end] = index_of[span.segment.label]
    return labels, found + _fill(labels, annotation, times_s, index_of, rules)


def frame_at(moments: Sequence[float], times_s: np.ndarray) -> np.ndarray:
    """Returns the frame that begins nearest to each moment, num_frames for the end.

    Args:
        moments: seconds since the first frame.
        times_s: (num_frames,) ascending.
    """
    ends = np.append(times_s, end_of(times_s))
    return np.searchsorted((ends[1:] + ends[:-1]) / 2, moments, side="right")


def end_of(times_s: np.ndarray) -> float:
    """Returns when the last frame ends: it lasts as long as most do."""
    step = np.median(np.diff(times_s)) if len(times_s) > 1 else 0.04
    return float(times_s[-1] + step)


def _span(segment: Segment, unit: str, times_s: np.ndarray) -> _Span:
    if unit == "seconds":
        start, end = frame_at((segment.start, segment.end), times_s)
    else:
        edges = np.rint((segment.start, segment.end)).astype(int)
        start, end = np.clip(edges, 0, len(times_s))
    return _Span(segment, int(start), int(end))


def _beyond(annotation: Annotation, times_s: np.ndarray, rules: Rules) -> list[Finding]:
    in_seconds = annotation.unit == "seconds"
    end = end_of(times_s) if in_seconds else len(times_s)
    slack = END_SLACK_S if in_seconds else _END_SLACK_FRAMES
    shown_end = f"{end:.2f} s" if in_seconds else f"{len(times_s)} frames"
    severity = "warning" if rules.beyond == "cut" else "error"
    found = []
    for segment in annotation.segments:
        if segment.end > end + slack:
            text = (
                f"{segment.label!r} lasts from {segment.start:g} to {segment.end:g} "
                f"{annotation.unit}, but the video ends after {shown_end}"
            )
            found.append(
                Finding(severity, "beyond the end", segment.where, text, _BEYOND)
            )
    return found


_BEYOND = (
    "check that video and annotation belong together and that times are in the unit "
    "that was read; frame numbers of another rate: --fps=RATE; to leave out what lies "
    "beyond the end: --beyond=cut"
)
_OVERLAP = "correct the annotation, or let the later segment count: --overlap=last"
_GAP = (
    "name the class of frames that no segment covers: --fill=background; gaps that are "
    "only a tool's rounding: --close_gaps=0.1"
)


def _overlaps(spans: Sequence[_Span], rules: Rules) -> list[Finding]:
    severity = "warning" if rules.overlap == "last" else "error"
    found, latest = [], None
    for span in spans:
        if latest and span.start < latest.end:
            shared = min(span.end, latest.end) - span.start
            text = (
                f"{span.segment.label!r} begins before {latest.segment.label!r} ends "
                f"({latest.segment.where}): {shared} frames are in both"
            )
            where = span.segment.where
            found.append(Finding(severity, "overlap", where, text, _OVERLAP))
        if latest is None or span.end >= latest.end:
            latest = span
    return found


def _fill(
    labels: np.ndarray,
    annotation: Annotation,
    times_s: np.ndarray,
    index_of: Mapping[str, int],
    rules: Rules,
) -> list[Finding]:
    """Gives frames without a segment a class as the rules say, in place."""
    found, closed_s, filled_s = [], [], []
    edges = np.flatnonzero(np.diff(labels == UNLABELLED, prepend=False, append=False))
    ends_s = np.append(times_s, end_of(times_s))
    for start, end in edges.reshape(-1, 2):
        length_s = ends_s[end] - ends_s[start]
        if start and length_s <= rules.close_gaps_s:
            labels[start:end] = labels[start - 1]
            closed_s.append(length_s)
        elif rules.fill:
            labels[start:end] = index_of[rules.fill]
            filled_s.append(length_s)
        else:
            place = f"{ends_s[start]:.2f} to {ends_s[end]:.2f} s ({end - start} frames)"
            text = f"no segment covers {place}"
            found.append(Finding("error", "gap", annotation.source, text, _GAP))
    if closed_s:
        text = f"{_total(closed_s)}, joined to the segments before them"
        found.append(Finding("note", "closed gaps", annotation.source, text))
    if filled_s:
        text = f"{_total(filled_s)}, filled with {rules.fill!r}"
        found.append(Finding("note", "filled gaps", annotation.source, text))
    return found


def _total(lengths_s: Sequence[float]) -> str:
    gaps = "1 gap" if len(lengths_s) == 1 else f"{len(lengths_s)} gaps"
    return (
        f"{gaps}, {sum(lengths_s):.2f} s together, the longest {max(lengths_s):.2f} s"
    )
