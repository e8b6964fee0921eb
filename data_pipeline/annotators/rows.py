"""Reads tables of segments: a row is a segment, whatever the columns are called.

Ends are exclusive, as in BIDS, Audacity and most tools. Ends in frames are inclusive if
segments that follow each other show it: the next starts one frame after the end.
"""

import itertools

from data_pipeline.annotators import columns as columns_of
from data_pipeline.annotators import times
from data_pipeline.annotators.columns import Columns
from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.segments import (
    FRAMES,
    SECONDS,
    Annotation,
    Segment,
    make_frames,
    make_segment,
)
from data_pipeline.annotators.table import Row, Table, describe_separator, read_table
from svtas_jax.errors import InputError


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the segments of one or several videos.

    Raises:
        InputError: naming the line that is wrong, or the column that is missing.
    """
    table = read_table(file)
    file.guessed(f"separator {describe_separator(table)}")
    if not table.rows:
        file.fail("the table has no rows; leave the file out or annotate the video.")
    columns = columns_of.find_columns(file, table)
    return read_rows(file, table, columns)


def read_rows(file: AnnotationFile, table: Table, columns: Columns) -> list[Annotation]:
    """Reads the rows of a table whose columns are known."""
    units = _units(file, table, columns)
    frames = set(units.values()) == {FRAMES}
    videos: dict[str, list[Segment]] = {}
    for row in table.rows:
        segment = _segment(file, row, columns, units)
        videos.setdefault(_video(file, row, columns), []).append(segment)
    if frames and columns.last is None and columns.duration is None:
        videos = _with_exclusive_ends(file, videos)
    unit = FRAMES if frames else SECONDS
    return [file.annotation(found, unit=unit, video=v) for v, found in videos.items()]


def _segment(
    file: AnnotationFile, row: Row, columns: Columns, units: dict[int, str]
) -> Segment:
    where = file.at(row.line)

    def value(index: int, role: str) -> float:
        text = row.cells[index]
        if not text.strip():
            raise InputError(f"{where}: the {role} is missing; fill it in.")
        return _value(text, units[index], f"{where} ({role})", file.fps)

    start, label = value(columns.start, "start"), row.cells[columns.label]
    if columns.last is not None:
        return make_frames(label, start, value(columns.last, "last"), where)
    if columns.end is not None:
        end = value(columns.end, "end")
    else:
        assert columns.duration is not None  # find_columns has seen to it
        duration = value(columns.duration, "duration")
        if duration < 0:
            raise InputError(
                f"{where}: the duration {duration:g} is negative; correct it."
            )
        end = start + duration
    return make_segment(label, start, end, where)


def _value(text: str, unit: str, where: str, fps: float | None) -> float:
    if unit == "seconds" or (":" in text and unit != FRAMES):
        return times.parse_seconds(text, where, fps=fps)
    number = times.parse_number(text, where)
    if unit != FRAMES:
        return number / 1000 if unit == "milliseconds" else 60 * number
    if number != int(number):
        raise InputError(
            f"{where}: {text!r} is no whole number of a frame; correct it."
        )
    return number


def _video(file: AnnotationFile, row: Row, columns: Columns) -> str:
    if columns.video is None:
        return ""
    name = row.cells[columns.video].strip()
    if not name:
        file.fail(
            "the row names no video; fill it in or delete the row.", line=row.line
        )
    return name


def _units(file: AnnotationFile, table: Table, columns: Columns) -> dict[int, str]:
    """Returns the unit of every column of times, by its index."""
    roles = (columns.start, columns.end, columns.last, columns.duration)
    used = [index for index in roles if index is not None]
    given = file.columns.get("unit")
    if given and given not in columns_of.UNITS:
        file.fail(f"--columns=unit={given}: choose of {', '.join(columns_of.UNITS)}.")
    units = {k: given or columns_of.unit_by_name(table, k) for k in used}
    unknown = [k for k, unit in units.items() if unit is None]
    if unknown:
        rest = {unit for unit in units.values() if unit}
        unit = rest.pop() if len(rest) == 1 else _unit_by_content(file, table, unknown)
        units.update(dict.fromkeys(unknown, unit))
    if FRAMES in units.values() and len(set(units.values())) > 1:
        names = ", ".join(f"{table.name(k)} in {unit}" for k, unit in units.items())
        file.fail(f"frames and times are mixed: {names}; choose columns of one kind.")
    if columns.last is not None and set(units.values()) != {FRAMES}:
        file.fail("--columns=last=... is the last frame, and needs unit=frames.")
    shown = "/".join(sorted({str(unit) for unit in units.values()}))
    file.guessed(f"unit {shown}" + (", counted from 0" if shown == FRAMES else ""))
    return {k: str(unit) for k, unit in units.items()}


def _unit_by_content(file: AnnotationFile, table: Table, used: list[int]) -> str:
    """Whole numbers may be anything: a wrong guess would shift every label."""
    cells = [cell for k in used for cell in table.column(k) if cell.strip()]
    if not all(map(times.is_whole, cells)):
        return SECONDS
    if file.fps is not None:
        return FRAMES
    names = " and ".join(map(table.name, used))
    file.fail(
        f"the columns {names} hold whole numbers, which may be seconds or frames; say "
        "which with --columns=unit=seconds, unit=milliseconds or unit=frames."
    )


def _with_exclusive_ends(
    file: AnnotationFile, videos: dict[str, list[Segment]]
) -> dict[str, list[Segment]]:
    gaps = [
        after.start - before.end
        for found in videos.values()
        for before, after in itertools.pairwise(sorted(found, key=lambda s: s.start))
    ]
    if 1 not in gaps or 0 in gaps:
        file.guessed(
            "ends are exclusive; if they are the last frames, --columns=last=COLUMN"
        )
        return videos
    file.guessed("ends are the last frames: segments start one frame later")
    return {
        video: [Segment(s.label, s.start, s.end + 1, s.where) for s in found]
        for video, found in videos.items()
    }
