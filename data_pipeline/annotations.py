"""Reads the field's common layout: mapping, labels and splits -> `VideoRecord`s.

ROOT/mapping.txt                   one "id name" per line
ROOT/groundTruth/NAME.txt          one class name per line, one line per frame
ROOT/splits/test.split1.bundle     one "NAME.txt" per line (or test_split1.txt)
ROOT/Videos/NAME.mp4               or P03/cam01/P03_cereals.avi (layout "breakfast")

A folder prepared by `data_pipeline.tfds_builder` is read in the same way.
"""

import concurrent.futures
import contextlib
import difflib
import functools
import os
import pathlib
import re
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging

from data_pipeline import features, lengths, video
from data_pipeline.prepared import index as prepared_index
from data_pipeline.prepared import reader as prepared
from data_pipeline.split_entries import resolve_names
from data_pipeline.video_files import find_video
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.structs import VideoRecord

_LAYOUT = (
    "The folder must hold Videos/ (the videos), groundTruth/NAME.txt (one class name "
    "per line, one line per frame), mapping.txt (one 'id name' per line) and "
    "splits/{train,test}.splitK.bundle (one NAME.txt per line)."
)
_SOURCES = {
    "gtea": "GTEA (Georgia Tech Egocentric Activities)",
    "50salads": "50Salads (University of Dundee)",
    "breakfast": "Breakfast (Serre lab; 'Videos, 15 fps')",
    "egtea": "EGTEA Gaze+ (Georgia Tech)",
}


def class_names(data_config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the classes of a data set in the order of their indices."""
    root = _root(data_config)
    if prepared_index.is_prepared(root):
        return prepared_index.read_index(root).classes
    return read_mapping(root / "mapping.txt")


def read_split(
    data_config: ml_collections.ConfigDict, subset: str
) -> tuple[VideoRecord, ...]:
    """Reads the annotated videos of a split.

    Args:
        data_config: `config.data`.
        subset: "train" or "test".

    Raises:
        MissingInputError: if a folder or file is missing.
        InputError: if one is invalid.
    """
    root = _root(data_config)
    if prepared_index.is_prepared(root):
        return prepared.read_split(data_config, subset)
    return read_videos(data_config, split_names(data_config, subset))


def split_names(
    data_config: ml_collections.ConfigDict,
    subset: str,
    *,
    split: int | None = None,
    need_videos: bool = True,
) -> tuple[str, ...]:
    """Returns the names of a split's videos, by default of `config.data.split`.

    A line that names a video instead of its labels needs that video, unless
    `need_videos` is false.

    Raises:
        MissingInputError: if there is no such split.
        InputError: if its file is invalid.
    """
    split = split or data_config.split
    root = _root(data_config)
    if prepared_index.is_prepared(root):
        return prepared.split_names(root, split, subset)
    path = _split_path(data_config, split, subset)
    entries = read_split_names(path)
    return resolve_names(data_config, path, entries, need_videos=need_videos)


def read_all(data_config: ml_collections.ConfigDict) -> tuple[VideoRecord, ...]:
    """Reads the training videos of a split, then its test videos, each once."""
    records = {
        record.name: record
        for subset in ("train", "test")
        for record in read_split(data_config, subset)
    }
    return tuple(records.values())


def read_videos(
    data_config: ml_collections.ConfigDict, names: Sequence[str]
) -> tuple[VideoRecord, ...]:
    """Reads the annotated videos of these names."""
    classes = class_names(data_config)
    # PyAV releases the GIL while it decodes, so threads probe in parallel.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return tuple(
            pool.map(lambda name: _read_record(data_config, name, classes), names)
        )


def split_numbers(data_config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """Returns the splits that have a file of training videos, ascending.

    Raises:
        MissingInputError: if there is none.
    """
    root = _root(data_config)
    if prepared_index.is_prepared(root):
        return tuple(sorted(prepared_index.read_index(root).splits))
    folder = root / "splits"
    names = [path.name for path in folder.glob("train*")]
    matches = [re.fullmatch(r"train[._]split(\d+)\.(bundle|txt)", n) for n in names]
    numbers = sorted({int(match[1]) for match in matches if match})
    if not numbers:
        raise MissingInputError(f"{folder} has no train.splitK.bundle. {_LAYOUT}")
    return tuple(numbers)


def all_split_names(
    data_config: ml_collections.ConfigDict,
) -> dict[int, dict[str, tuple[str, ...]]]:
    """Returns the video names of every split: by its number, then by subset."""
    return {
        number: {
            subset: split_names(data_config, subset, split=number)
            for subset in ("train", "test")
        }
        for number in split_numbers(data_config)
    }


def read_mapping(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads "id name" lines in any order; returns the names by id.

    Raises:
        InputError: if ids have gaps or duplicates, or names are not unique.
    """
    names: dict[int, str] = {}
    for number, line in _numbered_lines(path):
        match = re.fullmatch(r"(\d+)\s+(\S.*)", line)
        if not match:
            raise InputError(
                f"{path}, line {number}: {line!r} is not 'id name', such as '0 take'."
            )
        index, name = int(match[1]), match[2]
        if index in names:
            raise InputError(
                f"{path}, line {number}: id {index} is given twice, to {names[index]!r}"
                f" and to {name!r}; give every class its own id."
            )
        if name in names.values():
            raise InputError(
                f"{path}, line {number}: class {name!r} is listed twice; keep one line."
            )
        names[index] = name
    if not names:
        raise InputError(f"{path} names no class; write one 'id name' per line.")
    gaps = [index for index in range(max(names)) if index not in names]
    if gaps:
        raise InputError(
            f"{path}: id {gaps[0]} is missing; number the {len(names)} classes "
            f"0 to {len(names) - 1} without gaps."
        )
    classes = tuple(names[index] for index in range(len(names)))
    _warn_of_case(path, classes)
    return classes


def read_labels(path: str | os.PathLike, classes: tuple[str, ...]) -> np.ndarray:
    """Reads one class name per line into (num_labels,) int32 class indices.

    Raises:
        InputError: if the file is empty or names an unknown class.
    """
    index_of = {name: index for index, name in enumerate(classes)}
    labels = []
    for number, line in _numbered_lines(path):
        if line not in index_of:
            close = difflib.get_close_matches(line, classes, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(
                f"{path}, line {number}: class {line!r} is not in mapping.txt; {hint}"
                f"Correct the line, or add the class to mapping.txt."
            )
        labels.append(index_of[line])
    if not labels:
        raise InputError(
            f"{path} holds no labels; write one class name per line, one line per "
            f"frame, or take the video out of the split."
        )
    return np.asarray(labels, np.int32)


def read_split_names(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads the video names of a split file, without ".txt".

    Raises:
        InputError: if the split is empty or names a video twice.
    """
    names: list[str] = []
    for number, line in _numbered_lines(path):
        name = line.removesuffix(".txt")
        if name in names:
            raise InputError(
                f"{path}, line {number}: video {name!r} is listed twice; keep one line."
            )
        names.append(name)
    if not names:
        raise InputError(f"{path} lists no video; write one NAME.txt per line.")
    return tuple(names)


def _read_record(
    data_config: ml_collections.ConfigDict, name: str, classes: tuple[str, ...]
) -> VideoRecord:
    root = _root(data_config)
    label_path = root / "groundTruth" / f"{name}.txt"
    labels = read_labels(label_path, classes)
    if data_config.features:
        return _read_features(data_config, name, labels)
    video_path = find_video(root, data_config.layout, name)
    info = video.probe_video(video_path)
    num_frames = info.num_frames
    if num_frames != len(labels):  # a header is trusted only if it agrees
        num_frames = video.remembered_count(video_path)
        lengths.check_video(
            str(video_path), info, num_frames, str(label_path), len(labels), data_config
        )
    labels = labels[:num_frames]
    labels.setflags(write=False)
    return VideoRecord(name, str(video_path), labels, info.fps)


def _read_features(
    data_config: ml_collections.ConfigDict, name: str, labels: np.ndarray
) -> VideoRecord:
    root = _root(data_config)
    path = root / data_config.features / f"{name}.npy"
    file = features.probe(path, len(labels))
    num_frames = file.num_rows * file.stride
    # The last window of an extraction is often dropped.
    limit = data_config.max_length_gap
    slack = max(data_config.frame_stride, 2 * file.stride, features.LAST_WINDOW)
    if not lengths.fits(num_frames, len(labels), limit, slack=slack):
        why = lengths.explain(num_frames, len(labels), file.fps, data_config)
        raise InputError(
            f"{path} has {file.num_rows} rows, one per {file.stride} frames, but the "
            f"video has {len(labels)} labels: {why}"
        )
    labels = labels[:num_frames]
    labels.setflags(write=False)
    fps = file.fps
    if not fps:  # unknown: take the video's, if there is one
        with contextlib.suppress(InputError):
            fps = video.probe_video(find_video(root, data_config.layout, name)).fps
    return VideoRecord(name, str(path), labels, fps, file)


def _split_path(
    data_config: ml_collections.ConfigDict, split: int, subset: str
) -> pathlib.Path:
    folder = _root(data_config) / "splits"
    choices = (f"{subset}.split{split}.bundle", f"{subset}_split{split}.txt")
    existing = [folder / name for name in choices if (folder / name).is_file()]
    if len({read_split_names(path) for path in existing}) > 1:
        raise InputError(
            f"{existing[0]} and {existing[1].name} list different videos for the same "
            "split; keep one of the two files."
        )
    if existing:
        return existing[0]
    found = sorted(path.name for path in folder.glob(f"{subset}*"))
    raise MissingInputError(
        f"Split {split} is missing: neither {choices[0]} nor {choices[1]} is in "
        f"{folder} ({'there are ' + ', '.join(found) if found else 'none is there'}). "
        f"Write one NAME.txt per line, or choose another with --config.data.split."
    )


def _root(data_config: ml_collections.ConfigDict) -> pathlib.Path:
    root = pathlib.Path(data_config.root)
    if root.is_dir():
        return root
    source = _SOURCES.get(data_config.dataset)
    advice = (
        f"Get the videos of {source} from its authors, and groundTruth/, splits/ and "
        f"mapping.txt from the data that the authors of MS-TCN published. "
        if source
        else ""
    )
    raise MissingInputError(
        f"The data folder {root} (config.data.root) of {data_config.dataset!r} does "
        f"not exist. {_LAYOUT} {advice}If it is elsewhere: --config.data.root=FOLDER. "
        f"This config needs no download: --config=configs/demo_sete.py"
    )


def _numbered_lines(path: str | os.PathLike) -> list[tuple[int, str]]:
    """Returns (number from 1, stripped line); drops blank lines at the end."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(f"{path} does not exist.{_like(path)} {_LAYOUT}")
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from error
    stripped = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    for number, line in stripped:
        if not line:
            raise InputError(f"{path}, line {number} is blank; remove or fill it.")
    return stripped


@functools.cache
def _warn_of_case(path: str | os.PathLike, classes: tuple[str, ...]) -> None:
    """Warns once of classes that may be one class, typed differently."""
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            logging.warning(
                "%s: classes %r and %r differ only in upper and lower case and count "
                "as two classes; if that is a mistake, correct mapping and labels.",
                *(path, other, name),
            )


def _like(path: pathlib.Path) -> str:
    """Returns a hint at a file beside it with a similar name."""
    if not path.parent.is_dir():
        return ""
    names = [other.name for other in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f" Is it {close[0]!r}?" if close else ""
