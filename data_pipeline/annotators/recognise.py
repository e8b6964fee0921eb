"""Finds the format of an annotation file in what it holds."""

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import NoReturn

from data_pipeline.annotators import boris_table, datavyu, frames, labels
from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.kitchens import EGTEA_COLUMNS, EPIC_COLUMNS
from data_pipeline.annotators.table import find_separator, looks_like_table

_TABLES = (".csv", ".tsv", ".tab")
_XML_ROOTS = {"ANNOTATION_DOCUMENT": "elan", "annotations": "cvat"}


def recognise(file: AnnotationFile) -> str:
    """Returns the name of the format.

    Raises:
        InputError: if it is none of those that are read, with what to do instead.
    """
    if not file.data.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"):
        file.fail("the file is empty; leave it out or annotate the video.")
    if file.data.startswith(b"PK"):
        return _archive(file)
    if file.data.startswith(b"ooBinaryFile"):
        file.fail("a binary TextGrid is not read; save it as a text file in Praat.")
    if "CSV_HEADER = metadata_id" in file.text[:1000]:
        file.fail("VIA's CSV has no names of choices; save its project as JSON.")
    start = file.text.lstrip()[:1]
    if start == "<":
        return _xml(file)
    if start in ("{", "["):
        return _json(file)
    found = next((name for name, is_it in _TEXTS.items() if is_it(file)), None)
    if found is None:
        _unknown(file)
    return found


def _archive(file: AnnotationFile) -> str:
    try:
        names = zipfile.ZipFile(io.BytesIO(file.data)).namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        file.fail("the archive is damaged; export it again.")
    if "db" in names:
        return "datavyu"
    if any(name.startswith(("xl/", "content.xml")) for name in names):
        file.fail("a spreadsheet is not read; save it as CSV.")
    file.fail(f"an archive of {', '.join(names[:3])} is not read; unpack it.")


def _xml(file: AnnotationFile) -> str:
    root, _ = file.xml
    if root.tag not in _XML_ROOTS:
        file.fail(
            f"XML of <{root.tag}> is not read, but that of ELAN (.eaf) and CVAT; "
            "export the annotations in another format."
        )
    return _XML_ROOTS[root.tag]


def _json(file: AnnotationFile) -> str:
    found = file.json
    if isinstance(found, Mapping):
        if "database" in found:
            return "activitynet"
        if {"observations", "behaviors_conf"} <= set(found):
            return "boris"
        if {"metadata", "file", "view"} <= set(found):
            return "via"
        if any(str(key).startswith("_via") for key in found):
            file.fail("a VIA 2 project of images has no time; annotate with VIA 3.")
        if {"annotations", "data"} <= set(found):
            return "label_studio"
    if isinstance(found, list) and found and all(isinstance(e, Mapping) for e in found):
        return "label_studio"
    _unknown(file)


def _has_header(file: AnnotationFile, names: tuple[str, ...]) -> bool:
    head = next((line for _, line in file.numbered_lines()), "").casefold()
    cells = {cell.strip(' "#') for cell in head.split(find_separator(file))}
    return set(names) <= cells


def _is_boris(file: AnnotationFile) -> bool:
    separator = find_separator(file)
    return any(
        boris_table.is_header(tuple(cell.strip('" ') for cell in line.split(separator)))
        for line in file.lines[:100]
    )


def _is_datavyu(file: AnnotationFile) -> bool:
    return re.match(r"#\d\s*$", file.lines[0]) is not None or datavyu.is_export(file)


_TEXTS: dict[str, Callable[[AnnotationFile], bool]] = {
    "vtt": lambda file: file.text.startswith("WEBVTT"),
    "textgrid": lambda file: "ooTextFile" in file.text[:200],
    "srt": labels.looks_like_srt,
    "datavyu": _is_datavyu,
    "breakfast": frames.looks_like_breakfast,
    "audacity": labels.looks_like_audacity,
    "epic": lambda file: _has_header(file, EPIC_COLUMNS),
    "egtea": lambda file: _has_header(file, EGTEA_COLUMNS),
    "boris": _is_boris,
    "csv": lambda file: looks_like_table(file) or file.path.suffix.lower() in _TABLES,
    "frames": frames.looks_common,
}


def _unknown(file: AnnotationFile) -> NoReturn:
    first = next((line.strip() for _, line in file.numbered_lines()), "")
    file.fail(
        f"the format is not recognised from {first[:40]!r}; move the file away if it "
        "holds no annotations, or name the format with --format."
    )
