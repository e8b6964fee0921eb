"""Reads annotations in the formats that programs and public data sets write.

`docs/annotations.md` says how each is recognised, and what is taken of it.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import logging

from data_pipeline.annotators import (
    activitynet,
    boris,
    boris_table,
    cvat,
    datavyu,
    elan,
    frames,
    kitchens,
    label_studio,
    labels,
    rows,
    textgrid,
    via,
)
from data_pipeline.annotators.columns import ROLES
from data_pipeline.annotators.file import AnnotationFile, Notes
from data_pipeline.annotators.recognise import recognise
from data_pipeline.annotators.segments import FRAMES, SECONDS, Annotation
from data_pipeline.video_files import is_video_name
from svtas_jax.errors import InputError, MissingInputError


@dataclasses.dataclass(frozen=True)
class _Format:
    read: Callable[[AnnotationFile], list[Annotation]]
    suffixes: tuple[str, ...]
    tier: str = ""  # what the format calls a tier; blank: it has none
    has_columns: bool = False


def _read_boris(file: AnnotationFile) -> list[Annotation]:
    project = file.text.lstrip().startswith("{")
    return boris.read(file) if project else boris_table.read(file)


_TABLES = (".csv", ".tsv", ".txt", ".tab")
_FORMATS = {
    "frames": _Format(frames.read_common, (".txt",)),
    "csv": _Format(rows.read, _TABLES, has_columns=True),
    "elan": _Format(elan.read, (".eaf",), tier="tier"),
    "textgrid": _Format(textgrid.read, (".textgrid", ".txt"), tier="tier"),
    "audacity": _Format(labels.read_audacity, (".txt",)),
    "srt": _Format(labels.read_srt, (".srt", ".txt")),
    "vtt": _Format(labels.read_vtt, (".vtt", ".txt")),
    "boris": _Format(_read_boris, (".boris", *_TABLES), tier="subject"),
    "via": _Format(via.read, (".json",), tier="attribute"),
    "cvat": _Format(cvat.read, (".xml",), tier="attribute"),
    "label_studio": _Format(label_studio.read, (".json",), tier="control tag"),
    "datavyu": _Format(datavyu.read, (".opf", ".csv"), tier="column", has_columns=True),
    "activitynet": _Format(activitynet.read, (".json",)),
    "epic": _Format(kitchens.read_epic, (".csv",), has_columns=True),
    "egtea": _Format(kitchens.read_egtea, (".csv",), has_columns=True),
    "breakfast": _Format(frames.read_breakfast, (".txt",)),
}
FORMATS = tuple(_FORMATS)
_SPREADSHEETS = (".xlsx", ".ods")  # to say that they are not read
_SUFFIXES = {s for form in _FORMATS.values() for s in form.suffixes} | {*_SPREADSHEETS}
_NO_ANNOTATIONS = re.compile(
    r"\..*|mapping\.txt|(readme|licen[cs]e)\b.*|(train|test|val)\w*[._]split.*", re.I
)


def read_annotations(
    path: str | os.PathLike,
    *,
    format: str | None = None,
    tier: str | None = None,
    columns: Mapping[str, str] | None = None,
    fps: float | None = None,
) -> tuple[Annotation, ...]:
    """Reads the annotations of a file, or of all files of a folder.

    What is guessed or left out is logged, a line for each kind.

    Args:
        path: the file or folder; folders are searched to their depths, by name.
        format: one of FORMATS; None: recognised from what each file holds.
        tier: the tier, subject, attribute or column to take, where there are several.
        columns: column by role (label, start, end, last, duration, video), by header
            or number from 1, and {"unit": "frames"} or another of `columns.UNITS`.
        fps: frames a second of the annotation. Time codes need it; frames become
            seconds.

    Returns:
        An annotation for every video, in the order of the files.

    Raises:
        MissingInputError: if there is no such file.
        InputError: naming the file, the line or entry, and what to do.
    """
    _check(format, columns or {}, fps)
    notes = Notes()
    found: list[Annotation] = []
    try:
        for place in _files(pathlib.Path(path), format):
            data = _bytes(place)
            file = AnnotationFile(place, data, tier, columns or {}, fps, notes)
            found += _read(file, format)
    finally:
        notes.log()  # a wrong guess may be why it failed
    if not found:
        raise InputError(f"{path} holds no annotation of a video; annotate one.")
    _check_once(found)
    return tuple(_timed(annotation, fps) for annotation in found)


def _read(file: AnnotationFile, format: str | None) -> list[Annotation]:
    name = format or recognise(file)
    if format is None:
        file.guessed(f"format {name}")
    _check_options(file, name)
    return _FORMATS[name].read(file)


def _check(format: str | None, columns: Mapping[str, str], fps: float | None) -> None:
    if format is not None and format not in _FORMATS:
        raise InputError(f"--format={format} is not one of {', '.join(FORMATS)}.")
    unknown = [role for role in columns if role not in (*ROLES, "unit")]
    if unknown:
        raise InputError(
            f"--columns={unknown[0]}=...: there are {', '.join((*ROLES, 'unit'))}."
        )
    if fps is not None and not 0 < fps < 10000:
        raise InputError(f"--fps={fps:g} is no rate; give frames a second, such as 25.")


def _check_options(file: AnnotationFile, name: str) -> None:
    form = _FORMATS[name]
    if file.tier is not None and not form.tier:
        file.fail(f"--tier={file.tier}: the format {name} has no tiers; leave it out.")
    if file.columns and not form.has_columns:
        file.fail(f"--columns: the format {name} has no columns; leave it out.")


def _files(path: pathlib.Path, format: str | None) -> Sequence[pathlib.Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MissingInputError(
            f"{path} does not exist; name a file or folder of annotations."
        )
    suffixes = _FORMATS[format].suffixes if format else _SUFFIXES
    found = [place for place in _inside(path) if place.suffix.lower() in suffixes]
    if not found:
        raise MissingInputError(
            f"{path} holds no file that ends with {' '.join(sorted(suffixes))}; name "
            "the folder that holds the annotations."
        )
    return found


def _inside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files of a folder that may hold annotations; logs which may not."""
    passed: list[str] = []
    for place in sorted(folder.rglob("*")):
        inner = place.relative_to(folder).parts
        if any(part.startswith(".") for part in inner) or not place.is_file():
            continue
        if _NO_ANNOTATIONS.fullmatch(place.name):
            passed.append(place.name)
        elif place.suffix.lower() in _SUFFIXES:
            yield place
        elif not is_video_name(place.name):
            passed.append(place.name)
    if passed:
        more = ", ..." if len(passed) > 3 else ""
        logging.info(
            "%s: %d files are not read as annotations: %s%s",
            *(folder, len(passed), ", ".join(passed[:3]), more),
        )


def _bytes(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions."
        ) from error


def _check_once(annotations: Sequence[Annotation]) -> None:
    """Two annotations of a video would hide that they differ."""
    seen: dict[str, Annotation] = {}
    for annotation in annotations:
        name = annotation.video
        stem = pathlib.PurePath(name).stem if is_video_name(name) else name
        first = seen.setdefault(stem, annotation)
        if first is not annotation:
            raise InputError(
                f"The video {stem!r} is annotated twice, in {first.source} and in "
                f"{annotation.source}; keep one of them, or give the videos names of "
                "their own."
            )


def _timed(annotation: Annotation, fps: float | None) -> Annotation:
    """Returns frames as seconds if their rate is known."""
    if annotation.unit != FRAMES or fps is None:
        return annotation
    segments = tuple(
        dataclasses.replace(segment, start=segment.start / fps, end=segment.end / fps)
        for segment in annotation.segments
    )
    return dataclasses.replace(annotation, unit=SECONDS, segments=segments)
