"""What is told of a prepared data set as a whole: its one file of text."""

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
        fps: frames a second, 0 if untold.
        runs: class and number of frames, in order: the labels.
        first: the video's first record.
        count: how many records it has.
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
    """What belongs to a prepared data set as a whole.

    Attributes:
        encoding: one of `ENCODINGS`.
        quality: of JPEG, 0 for the others.
        resize: height and width of the pictures; (0, 0) if videos lie as they are.
        frame_stride: raw frames from one picture to the next; 0 likewise.
        classes: their names.
        splits: by number, then "train" or "test": names of videos.
        videos: by name.
        shards: bytes of every file of records, by name.
        versions: of what the pictures were made with.
        commit: of the program that made them, if it was a checkout.
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
    """Whether a folder was prepared, and not laid out by hand."""
    return (pathlib.Path(root) / INDEX_FILE).is_file()


def write_index(folder: pathlib.Path, index: Index) -> None:
    """Writes the index, whole or not at all."""
    facts = dataclasses.asdict(index)
    facts["videos"] = list(facts["videos"].values())
    text = json.dumps({"format": FORMAT, **facts}, ensure_ascii=False, indent=1)
    write_atomic(folder / INDEX_FILE, text + "\n")


def read_index(root: str | os.PathLike) -> Index:
    """Reads the index of a prepared folder; every file once in a process.

    Raises:
        InputError: if it is damaged, or of another version of the program.
    """
    path = pathlib.Path(root) / INDEX_FILE
    return _read_index(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read_index(path: pathlib.Path, changed_ns: int) -> Index:
    with _explaining(path):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if (found := facts.pop("format")) != FORMAT:
            raise InputError(_other_format(path.parent, found, facts))
        entries = [_entry(**told) for told in facts.pop("videos")]
        splits = {
            int(number): {subset: tuple(names) for subset, names in subsets.items()}
            for number, subsets in facts.pop("splits").items()
        }
        lists = {name: tuple(facts.pop(name)) for name in ("resize", "classes")}
        videos = {entry.name: entry for entry in entries}
        return Index(splits=splits, videos=videos, **lists, **facts)


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
    return IndexEntry(runs=tuple(map(tuple, runs)), **facts)


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
