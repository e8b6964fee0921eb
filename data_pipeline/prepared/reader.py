"""Reads what `data_pipeline.tfds_builder` prepared: all that training needs, no videos.

FOLDER/videos.json            classes, splits, and per video its labels and records
FOLDER/dataset_info.json      and features.json: TFDS's own description of the records
FOLDER/*.array_record-*       the records: resized pictures, or parts of video files

The records are read through TFDS's data source, which is Grain's: at random, by their
number, without TensorFlow. TFDS is imported when the first picture is asked for.
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

SPLIT = "videos"  # TFDS's; ours are lists of names in the index


def read_split(
    data_config: ml_collections.ConfigDict, subset: str
) -> tuple[VideoRecord, ...]:
    """Returns the annotated videos of a split.

    Raises:
        InputError: if the config asks for other pictures than were prepared, or a file
            of records is not whole.
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


def open_reader(record: VideoRecord) -> "PreparedReader":
    """Opens the pictures of a prepared video."""
    kind = PictureReader if record.prepared.frame_stride else FileReader
    return kind(record.video_path, record.prepared, record.num_frames)


def check_ends(record: VideoRecord) -> None:
    """Reads the first and the last record of a video.

    Raises:
        DamagedVideoError: if they cannot be read.
    """
    place = record.prepared
    records = _Records(record.video_path, place.folder)
    for index in {place.first, place.first + place.count - 1}:
        records.read(index)


class _Records:
    """The records of a folder, on behalf of one video."""

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
        except Exception as error:  # noqa: BLE001  what is thrown has no common class
            raise DamagedVideoError(
                f"Record {index} of {self._path} cannot be read: the files in "
                f"{self._folder} are damaged ({_first_line(error)}). Copy them again, "
                f"or {AGAIN}"
            ) from error


@dataclasses.dataclass
class PictureReader:
    """Gives resized frames of one video, each from its own record.

    Attributes:
        path: names the video.
        place: where it lies.
        num_frames: raw frames that the video has.
    """

    path: str
    place: PreparedVideo
    num_frames: int

    def __post_init__(self) -> None:
        self._records = _Records(self.path, self.place.folder)

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index` of the video as (H, W, 3) uint8 RGB, resized."""
        step, between = divmod(index, self.place.frame_stride)
        if between or not 0 <= step < self.place.count:
            raise InputError(
                f"Frame {index} of {self.path} was not prepared: one frame of "
                f"{self.place.frame_stride} was, of {self.num_frames}."
            )
        return self._records.read(self.place.first + step)["image"]

    def close(self) -> None:
        """Lets go; nothing is open."""


@dataclasses.dataclass
class FileReader:
    """Gives frames of one video, whose file is decoded out of its records.

    Attributes:
        path: names the video.
        place: where it lies.
        num_frames: raw frames that the video has.
    """

    path: str
    place: PreparedVideo
    num_frames: int

    def __post_init__(self) -> None:
        self._reader = video.FrameReader(
            self.path, self.num_frames, lambda: _RecordFile(self.path, self.place)
        )

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index` as (H, W, 3) uint8 RGB."""
        return self._reader.frame(index)

    def close(self) -> None:
        """Frees the decoder."""
        self._reader.close()


PreparedReader = PictureReader | FileReader


class _RecordFile(io.RawIOBase):
    """A video file, read from the records that hold its parts: one is in memory.

    All parts but the last are as long as the first.
    """

    def __init__(self, path: str, place: PreparedVideo) -> None:
        self._records, self._place = _Records(path, place.folder), place
        self._position = 0
        self._held, self._part = -1, b""
        self._part_size = len(self._load(0))
        self._size = (place.count - 1) * self._part_size + len(
            self._load(place.count - 1)
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
            self._part = self._records.read(self._place.first + number)["bytes"]
            self._held = number
        return self._part


@functools.lru_cache(maxsize=16)
def _open_folder(folder: str, changed_ns: int) -> Sequence[dict[str, Any]]:
    """Opens TFDS's data source, once in a process: its threads may share it."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder).as_data_source(SPLIT)


def _record(root: pathlib.Path, index: Index, entry: IndexEntry) -> VideoRecord:
    place = PreparedVideo(
        str(root.absolute()), entry.first, entry.count, index.frame_stride
    )
    path = str(root / entry.name)
    return VideoRecord(entry.name, path, entry.labels(), entry.fps, prepared=place)


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
            f"{index.frame_stride}: {root} holds one frame of {index.frame_stride}. "
            f"Use --config.data.frame_stride={index.frame_stride}, or prepare the "
            "videos with that stride."
        )


def _check_shards(root: pathlib.Path, index: Index) -> None:
    """The size tells quickly whether a file was copied to its end."""
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
