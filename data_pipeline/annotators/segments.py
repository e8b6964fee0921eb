"""What every reader returns: named stretches of a video."""

import dataclasses
import math
import re
import unicodedata

from data_pipeline.annotators.times import shown
from svtas_jax.errors import InputError

SECONDS, FRAMES = "seconds", "frames"


@dataclasses.dataclass(frozen=True)
class Segment:
    """A labelled stretch of a video, from `start` up to, but without, `end`."""

    label: str
    start: float  # in the unit of the annotation
    end: float
    where: str  # "file, line 7", for messages


@dataclasses.dataclass(frozen=True)
class Annotation:
    """All segments of a video, in the order of the file."""

    video: str  # as the file names it, or the stem of the annotation file
    unit: str  # SECONDS or FRAMES, which count from 0
    segments: tuple[Segment, ...]
    source: str  # the annotation file


def make_segment(label: str, start: float, end: float, where: str) -> Segment:
    """Returns a segment whose label fits on one line and whose times make sense.

    A line break in a label becomes a blank. A segment may have no length.

    Raises:
        InputError: if the label is blank or no text, or a time is negative, not finite
            or the end before the start.
    """
    label = re.sub(r"\s*[\r\n]+\s*", " ", label.strip())
    if not label:
        raise InputError(f"{where}: the segment has no label; name it or delete it.")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in label):
        raise InputError(
            f"{where}: the label {shown(label)} holds a control character; rename it."
        )
    for name, value in (("start", start), ("end", end)):
        if not math.isfinite(value):
            raise InputError(f"{where}: the {name} {value:g} is no time; correct it.")
        if value < 0:
            raise InputError(
                f"{where}: the {name} {value:g} is negative; times count from the "
                "start of the video. Correct it."
            )
    if end < start:
        raise InputError(
            f"{where}: {shown(label)} ends at {end:g}, before it starts at {start:g}; "
            "correct or swap them."
        )
    return Segment(label, float(start), float(end), where)


def make_frames(
    label: str, first: float, last: float, where: str, *, base: int = 0
) -> Segment:
    """Returns the segment from the frame `first` to the frame `last`, its last one.

    `base` is the number that the format gives to the first frame of a video.

    Raises:
        InputError: as `make_segment`, or if `first` is below `base`.
    """
    if first < base:
        raise InputError(
            f"{where}: frame {first:g} is below {base}, the first one; correct it."
        )
    segment = make_segment(label, first, last, where)
    return dataclasses.replace(
        segment, start=segment.start - base, end=segment.end + 1 - base
    )
