"""Reads Datavyu's projects (.opf) and their text, which it also saves as .csv.

Offsets are the last millisecond of a cell: continuous cells begin 1 ms after the one
before, so the end is 1 ms later. A cell whose offset is its onset has no length.
"""

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

_Cell = tuple[int, str, str, list[str]]  # line, onset, offset, values of the codes


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the cells of a column, which is the tier, in seconds.

    A column of several codes needs the name of one: columns={"label": "code01"}.

    Raises:
        InputError: if column or code is not clear, or the offset of a cell is not set.
    """
    text, project = _contents(file)
    codes: dict[str, list[str]] = {}
    cells: dict[str, list[_Cell]] = {}
    column = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _CELL.fullmatch(line):
            if not column:
                file.fail("a cell comes before the first column.", line=number)
            cells[column].append((number, match[1], match[2], _values(match[3])))
        elif match := _COLUMN.fullmatch(line):
            column = match[1]
            names = (match[3] or "value").split(",")
            codes[column] = [name.partition("|")[0].strip() for name in names]
            cells[column] = []
        elif line.strip() and not line.startswith("#"):
            file.fail(f"{line[:40]!r} is no column and no cell.", line=number)
    counts = {name: len(found) for name, found in cells.items()}
    chosen = choose_tier(file, counts, "column")
    code = _code(file, codes[chosen], cells[chosen], chosen)
    segments = list(_segments(file, cells[chosen], code, chosen))
    return [file.annotation(segments, unit=SECONDS, video=_video(file, project))]


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
    return [re.sub(r"\\(.)", r"\1", part).strip() for part in parts]


def _code(
    file: AnnotationFile, names: list[str], cells: list[_Cell], column: str
) -> int:
    """Returns the index of the code that is the label."""
    if other := [role for role in file.columns if role != "label"]:
        file.fail(
            f"--columns={other[0]}=...: of Datavyu, only the label can be chosen."
        )
    if wanted := file.columns.get("label"):
        if wanted not in names:
            file.fail(
                f"--columns=label={wanted}: the codes of {column!r} are "
                f"{', '.join(names)}."
            )
        return names.index(wanted)
    used = [
        k
        for k in range(len(names))
        if any(k < len(values) and values[k] for *_, values in cells)
    ]
    if len(used) > 1:
        file.fail(
            f"the column {column!r} has several codes: {', '.join(names)}; choose one "
            f"with --columns=label={names[used[0]]}."
        )
    return used[0] if used else 0


def _segments(
    file: AnnotationFile, cells: list[_Cell], code: int, column: str
) -> Iterator[Segment]:
    for line, onset, offset, values in cells:
        where = file.at(f"line {line} (column {column!r})")
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
