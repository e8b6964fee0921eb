"""Reads Audacity's label tracks and subtitles: a time range and a text."""

import html
import io
import re

from data_pipeline.annotators import times
from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.segments import SECONDS, Annotation, make_segment

_TRACK = re.compile(r"\s*(\d+[.,]\d+)\t(\d+[.,]\d+)(?:\t.*)?")
_CUE = re.compile(r"\s*(\S+)\s+-->\s+(\S+)")


def read_audacity(file: AnnotationFile) -> list[Annotation]:
    """Reads "start TAB end TAB label" lines in seconds, as Audacity exports them.

    Ends are exclusive: labels that touch share a time. A line of frequencies, which
    begins with a backslash, is left out. A point has no length.

    Raises:
        InputError: naming the line that is wrong.
    """
    segments = []
    for number, line in file.numbered_lines():
        if line.startswith("\\"):
            file.left_out("frequencies of labels")
            continue
        cells = line.split("\t", 2)
        where = file.at(number)
        if len(cells) < 3:
            file.fail(f"{line!r} is not 'start, end, label' with tabs.", line=number)
        start, end = (times.parse_number(cell, where) for cell in cells[:2])
        segments.append(make_segment(cells[2], start, end, where))
    if not segments:
        file.fail("the file is empty; leave it out or annotate the video.")
    return [file.annotation(segments, unit=SECONDS)]


def looks_like_audacity(file: AnnotationFile) -> bool:
    """Returns whether the first line is a label with decimals, as Audacity writes."""
    first = next((line for _, line in file.numbered_lines()), "")
    return _TRACK.fullmatch(first) is not None


def read_srt(file: AnnotationFile) -> list[Annotation]:
    """Reads SubRip subtitles; the text of a cue is its label. Ends are exclusive."""
    return _read_cues(file, "srt")


def read_vtt(file: AnnotationFile) -> list[Annotation]:
    """Reads WebVTT subtitles. Ends are exclusive (W3C WebVTT, 3.1: "end time")."""
    return _read_cues(file, "vtt")


def looks_like_srt(file: AnnotationFile) -> bool:
    """Returns whether the first lines are a number and the times of a cue."""
    head = [line for _, line in file.numbered_lines()][:2]
    return len(head) == 2 and head[0].strip("\ufeff ").isdigit() and "-->" in head[1]


def _read_cues(file: AnnotationFile, kind: str) -> list[Annotation]:
    """webvtt-py leaves out cues that it cannot read, so each is looked for."""
    import webvtt
    from webvtt.errors import MalformedCaptionError, MalformedFileError

    marks = [(n, line) for n, line in file.numbered_lines() if "-->" in line]
    for number, line in marks:
        match = _CUE.match(line)
        if not match:
            file.fail(f"{line.strip()!r} is not 'start --> end'.", line=number)
        for text in match.groups():
            times.parse_seconds(text, file.at(number))
    if not marks:
        file.fail("the file has no cues; leave it out or annotate the video.")
    try:
        cues = webvtt.from_buffer(io.StringIO(file.text), format=kind).captions
    except (MalformedCaptionError, MalformedFileError) as error:
        file.fail(f"{error or 'no subtitles'}; export the file again.")
    found = {(_exact(cue.start), _exact(cue.end)) for cue in cues}
    for number, line in marks:
        start, end = _CUE.match(line).groups()  # pyrefly: ignore
        if (_exact(start), _exact(end)) not in found:
            file.fail(
                "the cue has no text, no number before it, or a time that is not "
                "hh:mm:ss with milliseconds; correct or delete it.",
                line=number,
            )
    if len(cues) != len(marks):
        file.fail(f"{len(cues)} of {len(marks)} cues can be read; export it again.")
    segments = [
        make_segment(
            html.unescape(cue.text) if kind == "vtt" else cue.text,
            _exact(cue.start),
            _exact(cue.end),
            file.at(number),
        )
        for cue, (number, _) in zip(cues, marks, strict=True)
    ]
    return [file.annotation(segments, unit=SECONDS)]


def _exact(text: str) -> float:
    return times.parse_seconds(text, "")
