"""Reads the tables of EPIC-KITCHENS and EGTEA Gaze+: tables with known columns.

Both give times of an untrimmed video; the ends are where the actions stop, exclusive.
"""

from data_pipeline.annotators import rows
from data_pipeline.annotators.columns import Columns
from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.segments import Annotation
from data_pipeline.annotators.table import Row, Table, read_table

EPIC_COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "verb", "noun")
EGTEA_COLUMNS = (
    *("video session", "starting time (ms)", "ending time (ms)", "action label"),
)


def read_epic(file: AnnotationFile) -> list[Annotation]:
    """Reads EPIC_100_train.csv and its like; the label is verb and noun.

    columns={"label": "verb"} takes another column.

    Raises:
        InputError: if a column is missing, or a line is wrong.
    """
    if file.columns:
        return rows.read(file)
    table = read_table(file)
    video, start, end, verb, noun = _indices(file, table, EPIC_COLUMNS)
    file.guessed("label verb + noun; --columns=label=verb (or narration) takes others")
    labelled = tuple(
        Row(row.line, (*row.cells, f"{row.cells[verb]} {row.cells[noun]}".strip()))
        for row in table.rows
    )
    header = (*(table.header or ()), "verb + noun")
    wider = Table(header, labelled, table.width + 1, table.separator)
    columns = Columns(label=table.width, start=start, end=end, video=video)
    return rows.read_rows(file, wider, columns)


def read_egtea(file: AnnotationFile) -> list[Annotation]:
    """Reads action_labels.csv: semicolons, times in milliseconds.

    columns={"label": "Verb Label"} takes another column.

    Raises:
        InputError: if a column is missing, or a line is wrong.
    """
    if file.columns:
        return rows.read(file)
    table = read_table(file)
    video, start, end, label = _indices(file, table, EGTEA_COLUMNS)
    file.guessed("label 'Action Label'; --columns=label='Verb Label' takes another")
    columns = Columns(label=label, start=start, end=end, video=video)
    return rows.read_rows(file, table, columns)


def _indices(file: AnnotationFile, table: Table, names: tuple[str, ...]) -> list[int]:
    missing = [name for name in names if table.index(name) is None]
    if missing:
        file.fail(
            f"the columns {', '.join(map(repr, missing))} are missing; the data set's "
            "own table has them."
        )
    return [index for name in names if (index := table.index(name)) is not None]
