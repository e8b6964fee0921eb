"""Reads data sets prepared by `data_pipeline.tfds_builder`; they replace the videos.

FOLDER/videos.json            classes, splits, and the labels and records of every video
FOLDER/dataset_info.json      and features.json: TFDS's own description of the records
FOLDER/*.array_record-*       the records: resized pictures, or parts of video files

TFDS's random-access data source reads the records by index, without TensorFlow. TFDS is
imported when the first record is read.
"""

import dataclasses
import functools
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from data_pipeline import video
from data_pipeline.prepared.index import (
    AGAIN,
    INDEX_FILE,
    Index,
    IndexEntry,
    read_index,
)
from svtas_jax.errors import DamagedVideoError, InputError, MissingInputError
from svtas_jax.structs import PreparedVideo, VideoRecord

SPLIT = "videos"  # TFDS's only split; the index lists the names of ours


def read_split(
    data_config: ml_collections.ConfigDict, subset: str
) -> tuple[VideoRecord, ...]:
    """Returns the annotated videos of a split.

    Raises:
        InputError: if the config does not fit the prepared pictures, or a file of
            records is incomplete.
        MissingInputError: if the split or a file is missing.
    """
    root = pathlib.Path(data_config.root)
    index = read_index(root)
    _check_config(data_config, index)
    _check_shards(root, index)
    names = split_names(root, data_config.split, subset)
    return tuple(_record(root, index, index.videos[name]) for name in names)


def split_names(root: pathlib.Path, split: int, subset: str) -> tuple[str, ...]:
    """Returns the names of a split's videos.

    Raises:
        MissingInputError: if there is no such split.
    """
    splits = read_index(root).splits
    if split not in splits:
        known = ", ".join(map(str, sorted(splits)))
        raise MissingInputError(
            f"Split {split} is missing: {root} was prepared with the splits {known}. "
            "Choose one with --config.data.split."
        )
    return splits[split][subset]


def open_reader(record: VideoRecord, place: PreparedVideo) -> "PreparedReader":
    """Opens the pictures of a prepared video, which lies at `place`."""
    kind = PictureReader if place.frame_stride else FileReader
    return kind(record.video_path, place, record.num_frames)


def check_ends(path: str, place: PreparedVideo) -> None:
    """Reads the first and the last record of a video.

    Raises:
        DamagedVideoError: if they cannot be read.
    """
    records = _Records(path, place.folder)
    for index in {place.first, place.first + place.count - 1}:
        records.read(index)


class _Records:
    """The records of a folder; errors name the video at `path`."""

    def __init__(self, path: str, folder: str) -> None:
        self._path, self._folder = path, folder
        self._source: Sequence[dict[str, Any]] | None = None

    def read(self, index: int) -> dict[str, Any]:
        try:
            if self._source is None:
                changed = os.stat(pathlib.Path(self._folder) / INDEX_FILE).st_mtime_ns
                self._source = _open_folder(self._folder, changed)
            return self._source[index]
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  the errors have no common class
            raise DamagedVideoError(
                f"Record {index} of {self._path} cannot be read: the files in "
                f"{self._folder} are damaged ({_first_line(error)}). Copy them again, "
                f"or {AGAIN}"
            ) from error


@dataclasses.dataclass
class PictureReader:
    """Returns resized frames of one video, each from its own record.

    Attributes:
        path: names the video.
        prepared: the records of the video.
        num_frames: raw frames of the video.
    """

    path: str
    prepared: PreparedVideo
    num_frames: int

    def __post_init__(self) -> None:
        self._records = _Records(self.path, self.prepared.folder)

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index` of the video as (H, W, 3) uint8 RGB, resized."""
        step, between = divmod(index, self.prepared.frame_stride)
        if between or not 0 <= step < self.prepared.count:
            raise InputError(
                f"Frame {index} of {self.path} was not prepared: only one frame in "
                f"{self.prepared.frame_stride} was, of {self.num_frames}."
            )
        return self._records.read(self.prepared.first + step)["image"]

    def close(self) -> None:
        """Does nothing: no file is open."""


@dataclasses.dataclass
class FileReader:
    """Returns frames of one video, decoded from the file in its records.

    Attributes:
        path: names the video.
        prepared: the records of the video.
        num_frames: raw frames of the video.
    """

    path: str
    prepared: PreparedVideo
    num_frames: int

    def __post_init__(self) -> None:
        self._reader = video.FrameReader(
            self.path, self.num_frames, lambda: _RecordFile(self.path, self.prepared)
        )

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index` as (H, W, 3) uint8 RGB."""
        return self._reader.frame(index)

    def close(self) -> None:
        """Frees the decoder."""
        self._reader.close()


PreparedReader = PictureReader | FileReader


class _RecordFile(io.RawIOBase):
    """A video file, read from the records that hold its parts, one part at a time.

    All parts but the last are as long as the first.
    """

    def __init__(self, path: str, prepared: PreparedVideo) -> None:
        self._records, self._prepared = _Records(path, prepared.folder), prepared
        self._position = 0
        self._held, self._part = -1, b""
        self._part_size = len(self._load(0))
        self._size = (prepared.count - 1) * self._part_size + len(
            self._load(prepared.count - 1)
        )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        if not self._part_size or self._position >= self._size:
            return b""
        number, begin = divmod(self._position, self._part_size)
        part = self._load(number)
        data = part[begin:] if size < 0 else part[begin : begin + size]
        self._position += len(data)
        return data

    def _load(self, number: int) -> bytes:
        if number != self._held:
            self._part = self._records.read(self._prepared.first + number)["bytes"]
            self._held = number
        return self._part


@functools.lru_cache(maxsize=16)
def _open_folder(folder: str, changed_ns: int) -> Sequence[dict[str, Any]]:
    """Opens TFDS's data source once per process; threads share it."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)  # wrapt hides its types
    return builder.as_data_source(SPLIT)


def _record(root: pathlib.Path, index: Index, entry: IndexEntry) -> VideoRecord:
    prepared = PreparedVideo(
        str(root.absolute()), entry.first, entry.count, index.frame_stride
    )
    path = str(root / entry.name)
    return VideoRecord(entry.name, path, entry.labels(), entry.fps, prepared=prepared)


def _check_config(data_config: ml_collections.ConfigDict, index: Index) -> None:
    root = data_config.root
    for name, reason in (
        ("features", "reads features of videos in the common layout"),
        ("frame_cache", "keeps the frames of video files"),
    ):
        if data_config[name]:
            raise InputError(
                f"config.data.{name}={data_config[name]!r} {reason}, but {root} holds "
                f"prepared data; leave it empty: --config.data.{name}="
            )
    if not index.frame_stride:
        return
    if tuple(data_config.resize) != index.resize:
        raise InputError(
            f"config.data.resize={tuple(data_config.resize)}, but the pictures in "
            f"{root} are {index.resize}; use --config.data.resize={index.resize}, or "
            "prepare the videos at that size."
        )
    if data_config.frame_stride % index.frame_stride:
        raise InputError(
            f"config.data.frame_stride={data_config.frame_stride} is not a multiple of "
            f"{index.frame_stride}: {root} holds one frame in {index.frame_stride}. "
            f"Use --config.data.frame_stride={index.frame_stride}, or prepare the "
            "videos with that stride."
        )


def _check_shards(root: pathlib.Path, index: Index) -> None:
    """Compares sizes, which quickly show whether a file was copied completely."""
    for name, size in index.shards.items():
        path = root / name
        if not path.is_file():
            raise MissingInputError(f"{path} is missing. Copy it again, or {AGAIN}")
        if path.stat().st_size != size:
            raise InputError(
                f"{path} has {path.stat().st_size} bytes instead of {size}: it is "
                f"damaged. Copy it again, or {AGAIN}"
            )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
