"""Reads and writes the index of a prepared data set, its one text file."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import svtas_jax
from svtas_jax.errors import InputError
from svtas_jax.runtime.files import write_atomic

INDEX_FILE = "videos.json"
FORMAT = 1  # of the index and the records: raise it when they change
ENCODINGS = ("jpeg", "png", "video")

AGAIN = "prepare the data again (python -m data_pipeline.tfds_builder --help)."


@dataclasses.dataclass(frozen=True)
class IndexEntry:
    """One video of the index.

    Attributes:
        name: of the video.
        fps: frames per second, 0 if unknown.
        runs: the labels as (class, number of frames), in order.
        first: index of the video's first record.
        count: number of its records.
    """

    name: str
    fps: float
    runs: tuple[tuple[int, int], ...]
    first: int
    count: int

    def labels(self) -> np.ndarray:
        """Returns the (num_frames,) int32 class indices."""
        classes, lengths = np.asarray(self.runs, np.int32).T
        labels = np.repeat(classes, lengths)
        labels.setflags(write=False)
        return labels


@dataclasses.dataclass(frozen=True)
class Index:
    """A prepared data set as a whole.

    Attributes:
        encoding: one of `ENCODINGS`.
        quality: of JPEG, 0 for other encodings.
        resize: height and width of the pictures; (0, 0) for unchanged video files.
        frame_stride: raw frames from one picture to the next; 0 for video files.
        classes: class names by index.
        splits: video names by split number, then by "train" or "test".
        videos: entries by name.
        shards: size in bytes of every file of records, by name.
        versions: of the packages that made the records.
        commit: git commit of the program that made them, if it was a checkout.
    """

    encoding: str
    quality: int
    resize: tuple[int, int]
    frame_stride: int
    classes: tuple[str, ...]
    splits: dict[int, dict[str, tuple[str, ...]]]
    videos: dict[str, IndexEntry]
    shards: dict[str, int] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    commit: str | None = None


def is_prepared(root: str | os.PathLike) -> bool:
    """Whether a folder holds prepared data, not videos in the common layout."""
    return (pathlib.Path(root) / INDEX_FILE).is_file()


def write_index(folder: pathlib.Path, index: Index) -> None:
    """Writes the index, whole or not at all."""
    facts: dict[str, Any] = dataclasses.asdict(index)
    facts["videos"] = list(facts["videos"].values())
    text = json.dumps({"format": FORMAT, **facts}, ensure_ascii=False, indent=1)
    write_atomic(folder / INDEX_FILE, text + "\n")


def read_index(root: str | os.PathLike) -> Index:
    """Reads the index of a prepared folder, every file once per process.

    Raises:
        InputError: if it is damaged, or another version of the program wrote it.
    """
    path = pathlib.Path(root) / INDEX_FILE
    return _read_index(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read_index(path: pathlib.Path, changed_ns: int) -> Index:
    with _explaining(path):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if (found := facts.pop("format")) != FORMAT:
            raise InputError(_other_format(path.parent, found, facts))
        entries = [_entry(**video) for video in facts.pop("videos")]
        splits = {
            int(number): {subset: tuple(names) for subset, names in subsets.items()}
            for number, subsets in facts.pop("splits").items()
        }
        height, width = facts.pop("resize")
        return Index(
            resize=(height, width),
            classes=tuple(facts.pop("classes")),
            splits=splits,
            videos={entry.name: entry for entry in entries},
            **facts,
        )


def _other_format(folder: pathlib.Path, found: int, facts: Mapping[str, Any]) -> str:
    version = facts["versions"].get("svtas_jax", "of an unknown version")
    digits, dash, changed = (facts.get("commit") or "unknown").partition("-")
    return (
        f"{folder} was prepared by another version of the program: in format {found} "
        f"by svtas_jax {version} (commit {digits[:12]}{dash}{changed}); this is "
        f"svtas_jax {svtas_jax.__version__}, which reads format {FORMAT}. "
        f"Use that version, or {AGAIN}"
    )


def _entry(*, runs: list[list[int]], **facts) -> IndexEntry:
    return IndexEntry(runs=tuple((label, count) for label, count in runs), **facts)


@contextlib.contextmanager
def _explaining(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({error}). Copy it again, or {AGAIN}"
        ) from error
