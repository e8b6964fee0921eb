"""Videos -> files of records: one file is the work of one process, and of one alone.

Which videos a file holds depends on the data set only. However many processes write
them, and in whatever order, the files are the same.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import tensorflow_datasets as tfds

from data_pipeline import transforms
from data_pipeline.prepared.index import IndexEntry
from data_pipeline.video import FrameReader
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime.files import writing
from svtas_jax.structs import VideoRecord, labels_to_segments

MIN_SHARDS = 32  # files can be written side by side, as many as there are
_SHARD_BYTES = 256e6
_PART_BYTES = 4 << 20  # of a video file in one record
# Of a pixel, roughly: they decide how many files there are, nothing else.
_PIXEL_BYTES = {"jpeg": 0.5, "png": 1.5}
OPTION = "--output"


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How pictures become records.

    Attributes:
        name: one of `prepared_index.ENCODINGS`.
        quality: of JPEG, 1 to 100.
        resize: height and width of the pictures.
        frame_stride: every `frame_stride`-th frame is kept.
    """

    name: str
    quality: int
    resize: tuple[int, int]
    frame_stride: int

    @property
    def keeps_files(self) -> bool:
        """Whether the records are parts of the video files, as they are."""
        return self.name == "video"


@dataclasses.dataclass(frozen=True)
class Shard:
    """Videos whose records go into one file.

    Attributes:
        videos: in order.
        first_video: number of the first one in the data set.
        path: of the file.
        encoding: of the records.
    """

    videos: tuple[VideoRecord, ...]
    first_video: int
    path: str
    encoding: Encoding

    @property
    def num_frames(self) -> int:
        """Raw frames of all videos."""
        return sum(record.num_frames for record in self.videos)

    @property
    def num_records(self) -> int:
        """Records of all videos."""
        return sum(num_records(record, self.encoding) for record in self.videos)


def features_of(encoding: Encoding) -> tfds.features.FeaturesDict:
    """Returns TFDS's description of a record."""
    origin = {
        "video": tfds.features.Scalar(np.int64, doc="Number of the video."),
        "frame": tfds.features.Scalar(
            np.int64, doc="Of the video; or number of the part of its file."
        ),
    }
    if encoding.keeps_files:
        parts = tfds.features.Tensor(shape=(), dtype=np.object_, doc="Of the file.")
        return tfds.features.FeaturesDict({"bytes": parts, **origin})
    picture = tfds.features.Image(
        shape=(*encoding.resize, 3), encoding_format=encoding.name
    )
    return tfds.features.FeaturesDict({"image": picture, **origin})


def num_records(record: VideoRecord, encoding: Encoding) -> int:
    """Returns how many records a video becomes."""
    if encoding.keeps_files:
        return -(-os.path.getsize(record.video_path) // _PART_BYTES)
    return -(-record.num_frames // encoding.frame_stride)


def index_entries(
    records: Sequence[VideoRecord], encoding: Encoding
) -> dict[str, IndexEntry]:
    """Returns what the index says of every video."""
    counts = [num_records(record, encoding) for record in records]
    firsts = itertools.accumulate(counts, initial=0)
    return {
        record.name: IndexEntry(
            record.name, record.fps, _runs(record.labels), first, count
        )
        for record, first, count in zip(records, firsts, counts, strict=False)
    }


def cut_into_shards(
    records: Sequence[VideoRecord], encoding: Encoding
) -> list[tuple[int, tuple[VideoRecord, ...]]]:
    """Shares the videos among files of about the same size, in their order.

    Returns:
        per file the number of its first video, and its videos.
    """
    ends = np.cumsum([_estimated_bytes(record, encoding) for record in records])
    wanted = max(ends[-1] / _SHARD_BYTES, min(MIN_SHARDS, len(records)))
    middles = ends - np.diff(ends, prepend=0) / 2
    places = (middles * np.ceil(wanted) / ends[-1]).astype(int)
    firsts = np.flatnonzero(np.diff(places, prepend=-1))
    bounds = [*firsts.tolist(), len(records)]
    return [(a, tuple(records[a:b])) for a, b in itertools.pairwise(bounds)]


def write_shard(shard: Shard) -> int:
    """Writes the file of a shard; memory is that of one frame.

    Returns:
        its size in bytes.

    Raises:
        InputError: if a video is damaged, or the file cannot be written.
    """
    path = pathlib.Path(shard.path)
    draft = path.with_name(f"{path.name}.{os.getpid()}")  # Beam may start it twice
    try:
        with writing(path, option=OPTION), _record_errors(path):
            _write_records(draft, _serialized(shard))
            os.replace(draft, path)
            return path.stat().st_size
    finally:
        draft.unlink(missing_ok=True)


def _write_records(path: pathlib.Path, records: Iterator[tuple[int, bytes]]) -> None:
    tfds.core.ExampleWriter(tfds.core.FileFormat.ARRAY_RECORD).write(path, records)


def _serialized(shard: Shard) -> Iterator[tuple[int, bytes]]:
    features = features_of(shard.encoding)
    serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
    for video_index, record in enumerate(shard.videos, shard.first_video):
        contents = _file_parts if shard.encoding.keeps_files else _pictures
        for frame, content in contents(record, shard.encoding):
            example = {**content, "video": video_index, "frame": frame}
            proto = serializer.get_tf_example(features.encode_example(example))
            # Otherwise the order of the fields changes from process to process.
            yield frame, proto.SerializeToString(deterministic=True)


def _pictures(
    record: VideoRecord, encoding: Encoding
) -> Iterator[tuple[int, dict[str, bytes]]]:
    options = []
    if encoding.name == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, encoding.quality]
    indices = range(0, record.num_frames, encoding.frame_stride)
    with contextlib.closing(FrameReader(record.video_path, record.num_frames)) as video:
        for index, frame in zip(indices, video.frames(indices), strict=True):
            small = transforms.resize_frame(frame, encoding.resize)
            image = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
            yield index, {"image": _encode(image, encoding.name, options)}


def _encode(image: np.ndarray, name: str, options: list[int]) -> bytes:
    ok, encoded = cv2.imencode(f".{name}", image, options)
    assert ok
    return encoded.tobytes()


def _file_parts(
    record: VideoRecord, encoding: Encoding
) -> Iterator[tuple[int, dict[str, bytes]]]:
    with open(record.video_path, "rb") as file:
        for part in range(num_records(record, encoding)):
            yield part, {"bytes": file.read(_PART_BYTES)}


def _estimated_bytes(record: VideoRecord, encoding: Encoding) -> float:
    if encoding.keeps_files:
        return os.path.getsize(record.video_path)
    height, width = encoding.resize
    pixels = height * width * num_records(record, encoding)
    return pixels * _PIXEL_BYTES[encoding.name]


def _runs(labels: np.ndarray) -> tuple[tuple[int, int], ...]:
    segments = labels_to_segments(labels)
    return tuple((segment.label, segment.end - segment.start) for segment in segments)


@contextlib.contextmanager
def _record_errors(path: pathlib.Path) -> Iterator[None]:
    """The writer of records has errors of its own kinds."""
    try:
        yield
    except (InputError, MissingInputError, OSError):
        raise
    except Exception as error:  # noqa: BLE001  they have no common class
        told = str(error).partition(";")[0] or type(error).__name__
        raise OSError(told) from error
