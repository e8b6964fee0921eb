"""Reads Audacity's label tracks and subtitles: a time range and a text."""

import html
import io
import itertools
import re
from collections.abc import Iterator

from data_pipeline.annotators import times
from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.segments import SECONDS, Annotation, make_segment

_TRACK = re.compile(r"\s*(\d+[.,]\d+)\t(\d+[.,]\d+)(?:\t.*)?")
_STAMP = re.compile(r"\s*\d+:\d\d(?::\d\d)?[.,]\d{3}\b")
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
    head = [line for _, line in itertools.islice(file.numbered_lines(), 2)]
    return len(head) == 2 and head[0].strip("\ufeff ").isdecimal() and "-->" in head[1]


def _read_cues(file: AnnotationFile, kind: str) -> list[Annotation]:
    """webvtt-py leaves out cues that it cannot read, so each is looked for."""
    import webvtt
    from webvtt.errors import MalformedCaptionError, MalformedFileError

    marks = list(_marks(file))
    if not marks:
        file.fail("the file has no cues; leave it out or annotate the video.")
    try:
        cues = webvtt.from_buffer(io.StringIO(file.text), format=kind).captions
    except (MalformedCaptionError, MalformedFileError) as error:
        file.fail(f"{error or 'no subtitles'}; export the file again.")
    spans = [(_seconds(cue.start), _seconds(cue.end)) for cue in cues]
    read_ = set(spans)
    lost = [number for number, span in marks if span not in read_]
    if lost or len(cues) != len(marks):
        file.fail(
            "the cue has no text, no number before it, or a time that is not hh:mm:ss "
            "with milliseconds; correct or delete it.",
            line=lost[0] if lost else None,
        )
    texts = [html.unescape(cue.text) if kind == "vtt" else cue.text for cue in cues]
    segments = [
        make_segment(text, *span, file.at(number))
        for text, span, (number, _) in zip(texts, spans, marks, strict=True)
    ]
    return [file.annotation(segments, unit=SECONDS)]


def _marks(file: AnnotationFile) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yields number and times of every line that begins a cue, or should."""
    for number, line in file.numbered_lines():
        if "-->" in line or _STAMP.match(line):
            match = _CUE.match(line)
            if not match:
                file.fail(f"{line.strip()!r} is not 'start --> end'.", line=number)
            start, end = (_seconds(text, file.at(number)) for text in match.groups())
            yield number, (start, end)


def _seconds(text: str, where: str = "") -> float:
    return times.parse_seconds(text, where)
