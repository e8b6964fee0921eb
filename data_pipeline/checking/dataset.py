"""Gathers what a data set consists of, in any of its layouts, and what is wrong with
its files of text."""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from data_pipeline import annotations
from data_pipeline.checking import texts
from data_pipeline.checking.findings import Finding
from data_pipeline.prepared import index as prepared_index
from data_pipeline.split_entries import resolve_names
from data_pipeline.video_files import (
    VIDEO_LIST,
    find_video,
    is_video_name,
    listed_videos,
)
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.structs import Segment, VideoRecord, labels_to_segments

SUBSETS = ("train", "test")
_SPLIT = re.compile(r"(train|test)(?:\.split(\d+)\.bundle|_split(\d+)\.txt)")


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """A data set as it is, faults included.

    Attributes:
        config: `config.data`.
        root: its folder.
        classes: those of the mapping, then those that labels name besides.
        num_classes: those of the mapping.
        labels: (num_labels,) int32 index into `classes`, by the name of the video.
        splits: names of videos by split number, then by "train" or "test".
        videos: files of pictures, or of features, by name.
        records: of prepared data, by name.
    """

    config: ml_collections.ConfigDict
    root: pathlib.Path
    classes: tuple[str, ...]
    num_classes: int
    labels: Mapping[str, np.ndarray]
    splits: Mapping[int, Mapping[str, tuple[str, ...]]]
    videos: Mapping[str, pathlib.Path]
    records: Mapping[str, VideoRecord] = dataclasses.field(default_factory=dict)

    @property
    def is_prepared(self) -> bool:
        """Whether `data_pipeline.tfds_builder` wrote it."""
        return prepared_index.is_prepared(self.root)

    @functools.cached_property
    def listed(self) -> tuple[str, ...]:
        """The videos of all splits, each once."""
        parts = [names for split in self.splits.values() for names in split.values()]
        return tuple(dict.fromkeys(name for names in parts for name in names))

    @functools.cached_property
    def used(self) -> tuple[str, ...]:
        """The labelled videos that a split lists; if there is no split, all."""
        names = self.listed or tuple(self.labels)
        return tuple(name for name in names if len(self.labels.get(name, ())))

    @functools.cached_property
    def segments(self) -> Mapping[str, list[Segment]]:
        """The segments of all labels, by the name of the video."""
        return {name: labels_to_segments(v) for name, v in self.labels.items()}

    @functools.cached_property
    def frames_by_class(self) -> dict[str, int]:
        """How many frames every class has in all labels."""
        counts = np.zeros(len(self.classes), np.int64)
        for labels in self.labels.values():
            counts += np.bincount(labels, minlength=len(counts))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def label_file(self, name: str) -> str:
        """Returns the file with the labels of a video, for the report."""
        if self.is_prepared:
            return prepared_index.INDEX_FILE
        return f"groundTruth/{name}.txt"

    def video_file(self, name: str) -> str:
        """Returns the file of a video, for the report."""
        path = self.videos.get(name, self.root / name)
        return texts.relative(path, self.root)


def read(data_config: ml_collections.ConfigDict, found: list[Finding]) -> DataSet:
    """Reads all of a data set but the videos; appends what is wrong to `found`.

    Raises:
        MissingInputError: if its folder does not exist.
    """
    root = pathlib.Path(data_config.root)
    if not root.is_dir():  # the message for every command
        annotations.class_names(data_config)
    if prepared_index.is_prepared(root):
        return _prepared(data_config, root, found)
    mapping = texts.read_mapping(root / "mapping.txt", root, found)
    names = _label_names(root, found)
    said = {
        name: texts.read_labels(
            root / "groundTruth" / f"{name}.txt", root, mapping, found
        )
        for name in names
    }
    classes = tuple(dict.fromkeys([*mapping, *(c for v in said.values() for c in v)]))
    index_of = {name: index for index, name in enumerate(classes)}
    labels = {n: np.array([index_of[c] for c in v], np.int32) for n, v in said.items()}
    splits = _read_splits(data_config, root, found)
    listed = [n for s in splits.values() for part in s.values() for n in part]
    wanted = dict.fromkeys([*listed, *labels])
    videos = _find_videos(data_config, root, wanted, set(listed), found)
    return DataSet(data_config, root, classes, len(mapping), labels, splits, videos)


def file_size(path: pathlib.Path) -> int:
    """Returns the bytes of a file, 0 if it has gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _prepared(
    data_config: ml_collections.ConfigDict, root: pathlib.Path, found: list[Finding]
) -> DataSet:
    """Reads the index; what does not fit the config is the reader's to say."""
    try:
        index = prepared_index.read_index(root)
        records = _prepared_records(data_config, tuple(index.splits))
    except InputError as error:
        found.append(Finding("refused", prepared_index.INDEX_FILE, str(error)))
        return DataSet(data_config, root, (), 0, {}, {}, {})
    if data_config.split not in index.splits:
        what = f"split {data_config.split} was not prepared"
        found.append(Finding("no_split", prepared_index.INDEX_FILE, what))
    return DataSet(
        *(data_config, root, index.classes, len(index.classes)),
        labels={name: entry.labels() for name, entry in index.videos.items()},
        splits=index.splits,
        videos={name: root / name for name in records},
        records=records,
    )


def _prepared_records(
    data_config: ml_collections.ConfigDict, splits: Sequence[int]
) -> dict[str, VideoRecord]:
    config, records = data_config.copy_and_resolve_references(), {}
    for number in splits:
        config.split = number
        for subset in SUBSETS:
            records |= {r.name: r for r in annotations.read_split(config, subset)}
    return records


def _label_names(root: pathlib.Path, found: list[Finding]) -> list[str]:
    folder = root / "groundTruth"
    if not folder.is_dir():
        found.append(Finding("missing_file", "groundTruth", "there is no such folder"))
        return []
    paths = sorted(folder.iterdir())
    return [p.stem for p in paths if p.suffix == ".txt" and not p.name.startswith(".")]


def _read_splits(
    data_config: ml_collections.ConfigDict, root: pathlib.Path, found: list[Finding]
) -> dict[int, dict[str, tuple[str, ...]]]:
    folder = root / "splits"
    files: dict[tuple[int, str], list[pathlib.Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if match := _SPLIT.fullmatch(path.name):
            files.setdefault((int(match[2] or match[3]), match[1]), []).append(path)
    splits: dict[int, dict[str, tuple[str, ...]]] = {}
    for number in sorted({number for number, _ in files} | {data_config.split}):
        splits[number] = {}
        for subset in SUBSETS:
            paths = files.get((number, subset), [])
            if not paths:
                name = f"splits/{subset}.split{number}.bundle"
                found.append(Finding("no_split", name, "does not exist"))
            lists = [_read_split(data_config, path, found) for path in paths]
            if len({frozenset(names) for names in lists}) > 1:
                names = " and ".join(path.name for path in paths)
                what = f"{names} list different videos"
                found.append(Finding("two_split_files", "splits", what))
            splits[number][subset] = lists[0] if lists else ()
    return splits


def _read_split(
    data_config: ml_collections.ConfigDict, path: pathlib.Path, found: list[Finding]
) -> tuple[str, ...]:
    root = pathlib.Path(data_config.root)
    file, first_of = texts.relative(path, root), {}
    for number, line in texts.read_lines(path, root, found):
        place = f"line {number}"
        if not line:
            continue
        try:
            entry = line.removesuffix(".txt")
            (name,) = resolve_names(data_config, path, [entry])
        except MissingInputError:  # named by its video, which is reported as missing
            name = os.path.splitext(line)[0]
        except InputError as error:
            what = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
            found.append(Finding("split_line", file, what, place))
            continue
        if name in first_of:
            what = f"{name!r} is there already, in line {first_of[name]}"
            found.append(Finding("listed_twice", file, what, place, video=name))
        first_of.setdefault(name, number)
    return tuple(first_of)


def _find_videos(
    data_config: ml_collections.ConfigDict,
    root: pathlib.Path,
    wanted: Sequence[str] | Mapping[str, None],
    listed: set[str],
    found: list[Finding],
) -> dict[str, pathlib.Path]:
    """Returns the files of the names, then those that nothing names."""
    videos: dict[str, pathlib.Path] = {}
    try:
        elsewhere = listed_videos(root)
    except InputError as error:  # nothing can be said of any video then
        found.append(Finding("refused", VIDEO_LIST, str(error)))
        return videos
    for name in wanted:
        try:
            videos[name] = _find(data_config, root, name)
        except MissingInputError as error:
            kind = "no_video" if name in listed else "orphan_labels"
            where = f"groundTruth/{name}.txt"
            hint = re.search(r"Did you mean ([^?]*\?)", str(error))
            what = f"there is no {_place(data_config)}{name}"
            what += f": is it {hint[1]}" if hint else ""
            found.append(Finding(kind, where, what, video=name))
        except InputError as error:
            found.append(Finding("two_videos", "Videos", str(error), video=name))
    folder = root / (data_config.features or "Videos")
    if not folder.is_dir() and (data_config.features or not elsewhere):
        found.append(Finding("missing_file", folder.name, "there is no such folder"))
    known = {os.path.normcase(path) for path in videos.values()}
    twice = {finding.video for finding in found if finding.kind == "two_videos"}
    there = [path for path in elsewhere.values() if path.is_file()]
    for path in [*_files(data_config, folder), *there]:
        if os.path.normcase(path) not in known and path.stem not in twice:
            name = texts.relative(path, root)
            found.append(Finding("unlabelled_video", name, "has no labels"))
            if not data_config.features:
                videos[name] = path
    return videos


def _find(
    data_config: ml_collections.ConfigDict, root: pathlib.Path, name: str
) -> pathlib.Path:
    if not data_config.features:
        return find_video(root, data_config.layout, name)
    path = root / data_config.features / f"{name}.npy"
    if not path.is_file():
        raise MissingInputError(f"{path} is missing.")
    return path


def _files(
    data_config: ml_collections.ConfigDict, folder: pathlib.Path
) -> list[pathlib.Path]:
    if data_config.features:
        return sorted(folder.glob("*.npy"))
    is_flat = data_config.layout != "breakfast"
    return sorted(
        path
        for path in (folder.glob("*") if is_flat else folder.rglob("*"))
        # Some systems leave a hidden file beside each, ._a.mp4; Breakfast's stereo
        # cameras have a second channel, which nobody labelled.
        if is_video_name(path.name)
        and path.name[0] != "."
        and (is_flat or not path.stem.endswith("_ch1"))
        and path.is_file()
    )


def _place(data_config: ml_collections.ConfigDict) -> str:
    return f"{data_config.features}/" if data_config.features else "Videos/"
