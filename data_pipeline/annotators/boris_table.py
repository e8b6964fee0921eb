"""Reads BORIS's exports of events as CSV or TSV, tabular and aggregated.

A tabular row is the START or STOP of a state, an aggregated one is a state.
"""

from collections.abc import Iterator

from data_pipeline.annotators import times
from data_pipeline.annotators.boris import (
    NO_SUBJECT,
    Event,
    choose_subject,
    pair,
)
from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.segments import (
    SECONDS,
    Annotation,
    Segment,
    make_segment,
)
from data_pipeline.annotators.table import Row, Table, find_separator, rows_of

_MEDIA = ("media file name", "media file path", "media file", "media file(s)")
_STATUS = ("behavior type", "status")
_State = tuple[Event, float]  # a start with its stop, or either of both


def is_header(cells: tuple[str, ...]) -> bool:
    """Returns whether a row names the columns of an export of BORIS."""
    names = {cell.strip().casefold() for cell in cells}
    timed = "time" in names or {"start (s)", "stop (s)"} <= names
    return timed and "behavior" in names and bool(names & set(_STATUS))


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the states of a subject, which is the tier, in seconds.

    Point events are left out.

    Raises:
        InputError: if a column is missing, a state is not stopped, the subject is not
            clear, or an observation plays several files.
    """
    table = _read_table(file)
    observed = [
        (media, list(_events(file, table, rows)))
        for media, rows in _filmed(file, table)
    ]
    if not any(states for _, states in observed):
        file.fail("the table has no state events; a frame needs states, not points.")
    subject = choose_subject(file, (e for _, states in observed for e, _ in states))
    return [
        file.annotation(
            _segments(table, [s for s in states if s[0].subject == subject]),
            unit=SECONDS,
            video=media,
        )
        for media, states in observed
    ]


def _segments(table: Table, states: list[_State]) -> list[Segment]:
    if table.index("start (s)") is None:
        return pair(event for event, _ in states)
    return [make_segment(e.behavior, e.time_s, stop, e.where) for e, stop in states]


def _read_table(file: AnnotationFile) -> Table:
    """Older versions write lines on the observation before the header."""
    separator = find_separator(file)
    rows = rows_of(file, separator)
    first = next((k for k, row in enumerate(rows) if is_header(row.cells)), None)
    if first is None:
        file.fail(
            "no row names the columns 'Behavior', 'Behavior type' and 'Time' or 'Start "
            "(s)'; export the events from BORIS as TSV or CSV."
        )
    header = rows[first].cells
    padded = [
        Row(row.line, row.cells + ("",) * (len(header) - len(row.cells)))
        for row in rows[first + 1 :]
    ]
    return Table(header, tuple(padded), len(header), separator)


def _filmed(file: AnnotationFile, table: Table) -> list[tuple[str, list[Row]]]:
    """Returns the video and the rows of every observation."""
    if table.index(*_MEDIA) is None:
        file.guessed("videos are named as the observations")
    observed: dict[str, tuple[str, list[Row]]] = {}
    for row in table.rows:
        name = _cell(table, row, *_MEDIA, "observation id")
        if name.upper() in ("NA", "LIVE"):
            file.left_out("events without a video")
            continue
        key = _cell(table, row, "observation id")
        video, rows = observed.setdefault(key, (name, []))
        if video != name:
            file.fail(
                f"the observation {key!r} plays several files, such as {name!r}, whose "
                "times run on; take the .boris project instead.",
                line=row.line,
            )
        rows.append(row)
    return list(observed.values())


def _events(file: AnnotationFile, table: Table, rows: list[Row]) -> Iterator[_State]:
    modifiers = [
        name for name in table.header or () if name.lower().startswith("modifier")
    ]
    for row in rows:
        where = file.at(row.line)
        kind = _cell(table, row, *_STATUS).upper()
        if kind == "POINT":
            file.left_out("point events, which have no length")
            continue
        offset = _cell(table, row, "time offset (s)")
        shift = times.parse_number(offset, where) if offset else 0.0
        start, stop = (
            round(times.parse_seconds(text, where) - shift, 6)
            for text in (
                _cell(table, row, "start (s)", "time"),
                _cell(table, row, "stop (s)", "time"),
            )
        )
        event = Event(
            _cell(table, row, "subject") or NO_SUBJECT,
            _cell(table, row, "behavior"),
            "|".join(_cell(table, row, name.strip().casefold()) for name in modifiers),
            start,
            where,
            "" if kind == "STATE" else kind,
        )
        yield event, stop


def _cell(table: Table, row: Row, *names: str) -> str:
    index = table.index(*names)
    return row.cells[index].strip() if index is not None else ""
