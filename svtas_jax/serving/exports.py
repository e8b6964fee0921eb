"""Downloads of a session: JSON, CSV, and the field's common layout."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from svtas_jax.errors import InputError
from svtas_jax.evaluation.results import TimedSegment
from svtas_jax.serving.history import Past

FORMATS = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets compute


def write(kind: str, past: Past, about: dict[str, Any]) -> str:
    """Returns a session as text.

    Args:
        kind: one of `FORMATS`.
        past: the session.
        about: what it is of, for JSON.

    Raises:
        InputError: if the common layout, which begins with the first frame, is asked
            for and the first segments are not kept any more.
    """
    if kind == "json":
        return json.dumps(to_json(past, about), ensure_ascii=False)
    if kind == "csv":
        return to_csv(past.segments)
    if past.num_forgotten:
        raise InputError(
            f"The first {past.num_forgotten} segments are not kept any more, and the "
            "common layout needs all frames; take format=csv, which has times."
        )
    return to_lines(past.segments)


def to_json(past: Past, about: dict[str, Any]) -> dict[str, Any]:
    """Returns a session's segments and last steps."""
    return {
        **about,
        "ended": past.has_ended,
        "forgotten_segments": past.num_forgotten,
        "num_steps": past.num_steps,
        "segments": [segment_json(segment) for segment in past.segments],
        "steps": [
            {
                "frame": step.frame,
                "time_s": round(step.time_s, 3),
                "label": step.label,
                "confidence": round(step.confidence, 4),
            }
            for step in past.steps
        ],
    }


def segment_json(segment: TimedSegment) -> dict[str, Any]:
    """Returns a segment as the lines of the command `stream` show it."""
    return {
        "label": segment.label,
        "frames": [segment.start_frame, segment.end_frame],
        "time_s": [round(segment.start_s, 3), round(segment.end_s, 3)],
        "confidence": round(segment.confidence, 4),
    }


def to_csv(segments: Sequence[TimedSegment]) -> str:
    """Returns a line for every segment, below a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("label", "start_s", "end_s", "start_frame", "end_frame", "confidence")
    )
    for s in segments:
        times = (f"{s.start_s:.3f}", f"{s.end_s:.3f}")
        writer.writerow(
            (
                _cell(s.label),
                *times,
                s.start_frame,
                s.end_frame,
                f"{s.confidence:.4f}",
            )
        )
    return out.getvalue()


def to_lines(segments: Sequence[TimedSegment]) -> str:
    """Returns the class name of every frame, one a line."""
    return "".join(f"{s.label}\n" * (s.end_frame - s.start_frame) for s in segments)


def _cell(text: str) -> str:
    """Keeps spreadsheets from taking a class name for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
