"""Reads labels of frames: the field's common layout, and Breakfast's ranges."""

import itertools
import re

from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.segments import (
    FRAMES,
    Annotation,
    make_frames,
    make_segment,
)

_RANGE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s+(\S.*)")


def read_common(file: AnnotationFile) -> list[Annotation]:
    """Reads a class name a line, a line a frame, as MS-TCN's groundTruth/NAME.txt.

    Raises:
        InputError: if the file holds no labels, or a line between them is blank.
    """
    lines = [line.strip() for line in file.lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        file.fail("the file holds no labels; write one class name a line and frame.")
    if "" in lines:
        file.fail(
            "the line is blank; every frame needs a label.", line=lines.index("") + 1
        )
    segments, start = [], 0
    for label, run in itertools.groupby(lines):
        end = start + len(list(run))
        segments.append(make_segment(label, start, end, file.at(start + 1)))
        start = end
    return [file.annotation(segments, unit=FRAMES)]


def looks_common(file: AnnotationFile) -> bool:
    """Returns whether lines repeat as labels of frames do, or the folder says so."""
    lines = [line.strip() for _, line in file.numbered_lines()]
    if file.path.parent.name.lower() == "groundtruth":
        return bool(lines)
    runs = sum(1 for _ in itertools.groupby(lines))
    return len(lines) >= 4 and len(lines) >= 2 * runs


def read_breakfast(file: AnnotationFile) -> list[Annotation]:
    """Reads "1-30 SIL" lines of Breakfast: first and last frame, counted from 1.

    The last frame belongs to the segment: the next line starts at the one after it.

    Raises:
        InputError: naming the line that is no such range.
    """
    segments = []
    for number, line in file.numbered_lines():
        match = _RANGE.fullmatch(line)
        if not match:
            file.fail(
                f"{line.strip()!r} is not 'FIRST-LAST label', such as '1-30 SIL'.",
                line=number,
            )
        first, last, where = int(match[1]), int(match[2]), file.at(number)
        segments.append(make_frames(match[3], first, last, where, base=1))
    if not segments:
        file.fail("the file is empty; leave it out or annotate the video.")
    return [file.annotation(segments, unit=FRAMES)]


def looks_like_breakfast(file: AnnotationFile) -> bool:
    """Returns whether the first lines are ranges of frames."""
    head = [line for _, line in itertools.islice(file.numbered_lines(), 3)]
    return bool(head) and _RANGE.fullmatch(head[0]) is not None
