"""Splits text into rows and cells: which separator, and whether there is a header."""

import collections
import csv
import dataclasses
import io
import itertools
import re

from data_pipeline.annotators import times
from data_pipeline.annotators.file import AnnotationFile

_SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
_SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?[\r\n]+")
_SAMPLE_ROWS = 200
MOSTLY = 0.8  # of the cells of a column of times are times; the others are mistakes


@dataclasses.dataclass(frozen=True)
class Row:
    """A row, as long as the header."""

    line: int  # of its last line, from 1
    cells: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """All rows of a file that are not blank."""

    header: tuple[str, ...] | None  # None if the first row is data
    rows: tuple[Row, ...]
    width: int
    separator: str

    def column(self, index: int) -> list[str]:
        """Returns the cells of a column."""
        return [row.cells[index] for row in self.rows]

    def name(self, index: int) -> str:
        """Returns how messages call a column."""
        return repr(self.header[index]) if self.header else f"number {index + 1}"

    def index(self, *names: str) -> int | None:
        """Returns the place of the first of these names that the header has."""
        header = [name.casefold().strip() for name in self.header or ()]
        found = [header.index(name) for name in names if name in header]
        return found[0] if found else None


def read_table(file: AnnotationFile) -> Table:
    """Reads a table of commas, semicolons, tabs or bars, quoted as in RFC 4180.

    Excel's first line "sep=;" counts. Lines that begin with "#" and have another number
    of cells are comments; a header may begin with "#".

    Raises:
        InputError: if quotes do not match, or a row has more cells than the header.
    """
    separator = find_separator(file)
    rows = rows_of(file, separator)
    if not rows:
        file.fail("the file is empty; leave it out or annotate the video.")
    width = _width(rows)
    comments = [r for r in rows if r.cells[0].startswith("#") and len(r.cells) != width]
    if comments:
        file.left_out("comment lines", len(comments))
    rows = [_fitted(file, row, width) for row in rows if row not in comments]
    header = tuple(cell.strip().lstrip("# ") for cell in rows[0].cells)
    if any(map(times.is_time, header)) and not _is_numbered(header):
        return Table(None, tuple(rows), width, separator)
    return Table(header, tuple(rows[1:]), width, separator)


def find_separator(file: AnnotationFile) -> str:
    """Returns what separates the most columns of times from another."""
    if match := _SEPARATOR_LINE.match(file.text):
        return match[1]
    scores = {separator: _score(file, separator) for separator in _SEPARATORS}
    return max(scores, key=lambda separator: scores[separator])


def looks_like_table(file: AnnotationFile) -> bool:
    """Returns whether a separator gives two columns of times beside another."""
    times_found, _, width = _score(file, find_separator(file))
    return times_found == 2 and width >= 3


def describe_separator(table: Table) -> str:
    """Returns the separator as a user reads it."""
    return _SEPARATORS.get(table.separator, repr(table.separator))


def _score(file: AnnotationFile, separator: str) -> tuple[int, float, int]:
    """Returns columns of times (at most two), share of rows of one width, and width."""
    if not any(separator in line for line in file.lines[:_SAMPLE_ROWS]):
        return 0, 0.0, 1
    try:
        rows = list(csv.reader(file.lines[:_SAMPLE_ROWS], delimiter=separator))
    except csv.Error:
        return 0, 0.0, 0
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return 0, 0.0, 0
    width = collections.Counter(map(len, rows)).most_common(1)[0][0]
    if width == 1:
        return 0, 0.0, 1
    body = [row for row in rows if len(row) == width]
    found = sum(
        is_time_column([row[k] for row in body])
        or is_time_column([r[k] for r in body[1:]])
        for k in range(width)
    )
    return min(found, 2), len(body) / len(rows), width


def is_time_column(cells: list[str]) -> bool:
    """Returns whether most cells that are not blank are times."""
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and sum(map(times.is_time, filled)) >= MOSTLY * len(filled)


def rows_of(file: AnnotationFile, separator: str) -> list[Row]:
    """Returns the rows that are not blank, each as long as it is.

    Raises:
        InputError: if quotes do not match.
    """
    stream = io.StringIO(file.text, newline="")
    skipped = 1 if _SEPARATOR_LINE.match(file.text) else 0
    list(itertools.islice(stream, skipped))
    reader = csv.reader(stream, delimiter=separator, strict=True)
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(Row(reader.line_num + skipped, tuple(cells)))
    except csv.Error as error:
        file.fail(
            f"{error}: quotes must enclose a whole cell, and a quote in it is doubled; "
            "correct them.",
            line=reader.line_num + skipped,
        )
    return rows


def _is_numbered(header: tuple[str, ...]) -> bool:
    """Programs number columns that have no names, from 0 or 1."""
    return any(
        header == tuple(str(first + k) for k in range(len(header))) for first in (0, 1)
    )


def _width(rows: list[Row]) -> int:
    """The header counts, else most rows: a comma in a label makes a row too long."""
    widths = collections.Counter(len(row.cells) for row in rows)
    if not rows[0].cells[0].startswith("#") and not any(
        map(times.is_time, rows[0].cells)
    ):
        return len(rows[0].cells)
    return widths.most_common(1)[0][0]


def _fitted(file: AnnotationFile, row: Row, width: int) -> Row:
    extra = [cell for cell in row.cells[width:] if cell.strip()]
    if extra:
        file.fail(
            f"the row has {len(row.cells)} cells, others {width}; enclose a cell that "
            "contains the separator in quotes.",
            line=row.line,
        )
    cells = row.cells[:width] + ("",) * (width - len(row.cells))
    return Row(row.line, cells)
