"""Reads Datavyu's projects (.opf), their text, which it saves as .csv, and its exports.

Offsets are the last millisecond of a cell: continuous cells begin 1 ms after the one
before, so the end is 1 ms later. A cell whose offset is its onset has no length.
"""

import dataclasses
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator

from data_pipeline.annotators import times
from data_pipeline.annotators.file import AnnotationFile, choose_tier
from data_pipeline.annotators.segments import (
    SECONDS,
    Annotation,
    Segment,
    make_segment,
)
from data_pipeline.annotators.table import rows_of
from data_pipeline.video_files import VIDEO_SUFFIXES
from svtas_jax.errors import InputError

_TIME = r"\d+:\d\d:\d\d:\d{3}"
_CELL = re.compile(rf"({_TIME}),({_TIME}),(.*)")
_COLUMN = re.compile(r"(.*\S)\s*\((MATRIX|TEXT|NOMINAL)\b[^)]*\)(?:-(.*))?")
_SUFFIXES = "|".join(suffix[1:] for suffix in VIDEO_SUFFIXES)
_MEDIUM = re.compile(rf"^\W*\w+:\s*['\"]?(.+\.(?:{_SUFFIXES}))['\"]?\s*$", re.M | re.I)

_MAX_BYTES = 200_000_000
_BROKEN = (  # all that zipfile raises for archives that are cut or overwritten
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError),
    *(ValueError, EOFError, KeyError, struct.error),
)


@dataclasses.dataclass
class _Column:
    codes: list[str]  # their names
    cells: list[tuple[int, str, str, list[str]]]  # line, onset, offset, values of codes


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the cells of a column, which is the tier, in seconds.

    A column of several codes needs the name of one: columns={"label": "code01"}.

    Raises:
        InputError: if column or code is not clear, or the offset of a cell is not set.
    """
    text, project = _contents(file)
    columns = _exported(file) if is_export(file) else _parsed(file, text)
    counts = {name: len(column.cells) for name, column in columns.items()}
    chosen = choose_tier(file, counts, "column")
    segments = list(_segments(file, columns[chosen], chosen))
    return [file.annotation(segments, unit=SECONDS, video=_video(file, project))]


def is_export(file: AnnotationFile) -> bool:
    """Returns whether the first line is that of cells that Datavyu has exported."""
    if file.data.startswith(b"PK"):
        return False
    return re.match(r"([^,]+)\.ordinal,\1\.onset,\1\.offset,", file.text) is not None


def _exported(file: AnnotationFile) -> dict[str, _Column]:
    """Reads the columns that an export writes side by side, times in milliseconds."""
    rows = rows_of(file, ",")
    names = [name.rpartition(".") for name in rows[0].cells]
    columns: dict[str, _Column] = {}
    for first, (column, _, field) in enumerate(names):
        if field != "ordinal":
            continue
        codes = [f for c, _, f in names[first + 3 :] if c == column]
        cells = []
        for row in rows[1:]:
            padded = row.cells + ("",) * len(names)
            ordinal, onset, offset, *values = padded[first : first + 3 + len(codes)]
            if ordinal.strip():
                cells.append((row.line, f"{onset} ms", f"{offset} ms", values))
        columns[column] = _Column(codes, cells)
    return columns


def _parsed(file: AnnotationFile, text: str) -> dict[str, _Column]:
    columns: dict[str, _Column] = {}
    last = None
    for number, line in _logical_lines(text):
        if match := _CELL.fullmatch(line):
            if last is None:
                file.fail("a cell comes before the first column.", line=number)
            last.cells.append((number, match[1], match[2], _values(match[3])))
        elif match := _COLUMN.fullmatch(line):
            codes = [c.partition("|")[0] for c in _values(match[3] or "value")]
            last = columns[_unescaped(match[1])] = _Column(codes, [])
        elif line.strip() and not line.startswith("#"):
            file.fail(f"{line[:40]!r} is no column and no cell.", line=number)
    return columns


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields lines and their numbers; a backslash at the end continues a line."""
    start = None
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        start = (start[0], f"{start[1]} {line}") if start else (number, line)
        if re.search(r"(?<!\\)(?:\\\\)*\\$", line):
            start = (start[0], start[1][:-1])
        else:
            yield start
            start = None
    if start:
        yield start


def _contents(file: AnnotationFile) -> tuple[str, str]:
    """Returns the text of the table and of the project."""
    if not file.data.startswith(b"PK"):
        return file.text, ""
    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            entries = [i for i in archive.infolist() if i.filename in ("db", "project")]
            if sum(entry.file_size for entry in entries) > _MAX_BYTES:
                file.fail("the archive is too large for annotations; is it one?")
            texts = {i.filename: archive.read(i).decode("utf-8-sig") for i in entries}
    except InputError:
        raise
    except _BROKEN:
        file.fail("the archive is damaged; save it in Datavyu again.")
    if "db" not in texts:
        file.fail("the archive holds no 'db'; save it in Datavyu again.")
    return texts["db"], texts.get("project", "")


def _values(text: str) -> list[str]:
    """Splits "(a,b\\,c)" at commas without a backslash before."""
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    parts = re.findall(r"((?:\\.|[^,\\])*)(?:,|$)", text)
    return [_unescaped(part).strip() for part in parts]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _code(file: AnnotationFile, column: _Column, name: str) -> int:
    """Returns the index of the code that is the label."""
    listed = ", ".join(column.codes)
    if other := [role for role in file.columns if role != "label"]:
        file.fail(f"--columns={other[0]}=...: of Datavyu, only the label is chosen.")
    if wanted := file.columns.get("label"):
        if wanted not in column.codes:
            file.fail(f"--columns=label={wanted}: the codes of {name!r} are {listed}.")
        return column.codes.index(wanted)
    used = [
        k
        for k in range(len(column.codes))
        if any(k < len(values) and values[k] for *_, values in column.cells)
    ]
    if len(used) > 1:
        file.fail(
            f"the column {name!r} has several codes: {listed}; choose one with "
            f"--columns=label={column.codes[used[0]]}."
        )
    return used[0] if used else 0


def _segments(file: AnnotationFile, column: _Column, name: str) -> Iterator[Segment]:
    code = _code(file, column, name)
    for line, onset, offset, values in column.cells:
        where = file.at(f"line {line} (column {name!r})")
        start, end = (times.parse_seconds(text, where) for text in (onset, offset))
        if end == 0 < start:
            file.fail(f"the offset of the cell at {onset} is not set.", line=line)
        label = values[code] if code < len(values) else ""
        if not label:
            file.left_out("cells without a code")
            continue
        if start < end:
            end = round(end + 0.001, 3)
        yield make_segment(label, start, end, where)


def _video(file: AnnotationFile, project: str) -> str:
    media = list(dict.fromkeys(_MEDIUM.findall(project)))
    if len({re.split(r"[/\\]", medium)[-1] for medium in media}) > 1:
        file.guessed("the first of several linked videos")
    if media and re.search(r"^\W*offset:\s*['\"]?-?0*[1-9]", project, re.M):
        file.left_out("the shift of a video against the others of a Datavyu project")
    return media[0] if media else ""
