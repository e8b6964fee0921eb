"""Small pictures of all frames of a video, in one file, with their times.

The browser's own decoder is not exact: it may show another frame than the one that
training counts. So the page shows pictures made from the frames as training reads them.
"""

import contextlib
import hashlib
import io
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from data_pipeline import video
from data_pipeline.decoding import Decoder, DecodingError, reason_of
from data_pipeline.pictures import turn_of, turned
from data_pipeline.stamps import clock_of
from svtas_jax.errors import InputError
from svtas_jax.runtime.arrays import read_npz
from svtas_jax.runtime.files import draft_of, write_atomic, writing

MOST_SIDE, QUALITY = 480, 75  # pixels of the longer side; of JPEG
_MEANING = "1"  # changes with what is stored: old files must not be believed
_INDEX, _DATA = ".npz", ".jpegs"


class Pack:
    """The pictures of one video, while they are made and afterwards.

    Attributes:
        path: of its files, without their suffixes.
        times_s: of the frames so far, in seconds since the first one.
        expected: how many there will be, as far as the header says; 0 if unknown.
        is_whole: whether all are there.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Begins an empty pack whose files will be `path` and a suffix."""
        self.path = path
        self.times_s: list[float] | np.ndarray = []
        self._offsets: list[int] | np.ndarray = [0]
        self.expected, self.is_whole = 0, False
        self._draft: pathlib.Path | None = None
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of pictures that are there."""
        return len(self._offsets) - 1

    @property
    def num_bytes(self) -> int:
        """How much disk it takes."""
        return int(self._offsets[-1])

    def load(self) -> bool:
        """Opens what an earlier server has made; returns whether it is there."""
        data = self.path.with_suffix(_DATA)
        try:
            index = read_npz(self.path.with_suffix(_INDEX))
            times_s, offsets = index["times_s"], index["offsets"]
            file = data.open("rb")
        except (OSError, ValueError, KeyError):
            return False
        size = os.fstat(file.fileno()).st_size
        if size != offsets[-1] or len(offsets) != len(times_s) + 1:
            file.close()
            return False
        with contextlib.suppress(OSError):
            os.utime(data)  # the least recently used ones go first
        self.times_s, self._offsets, self._file = times_s, offsets, file
        self.expected, self.is_whole = len(times_s), True
        return True

    def begin(self) -> None:
        """Opens a file for pictures to come.

        Raises:
            InputError: if it cannot be written.
        """
        self._draft = draft_of(self.path.with_suffix(_DATA))
        with writing(self._draft, option="XDG_CACHE_HOME"):
            self._draft.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._draft.open("x+b")

    def add(self, jpeg: bytes, time_s: float) -> None:
        """Adds the picture of the next frame.

        Raises:
            InputError: if it cannot be written.
        """
        assert isinstance(self.times_s, list) and isinstance(self._offsets, list)
        with writing(self.path, option="XDG_CACHE_HOME"):
            with self._lock:
                if self._file is None:
                    raise InputError(f"{self.path} was closed while it was written.")
                self._file.seek(self._offsets[-1])
                self._file.write(jpeg)
        self.times_s.append(time_s)
        self._offsets.append(self._offsets[-1] + len(jpeg))

    def finish(self) -> None:
        """Keeps the pictures for later servers.

        Raises:
            InputError: if they cannot be written.
        """
        stored = io.BytesIO()
        np.savez(stored, times_s=self.times_s, offsets=self._offsets)
        data = self.path.with_suffix(_DATA)
        with writing(self.path, option="XDG_CACHE_HOME"), self._lock:
            if self._file is None or self._draft is None:
                raise InputError(f"{self.path} was closed while it was written.")
            self._file.close()
            os.replace(self._draft, data)
            self._file = data.open("rb")
        write_atomic(self.path.with_suffix(_INDEX), stored.getvalue())
        self._draft, self.expected, self.is_whole = None, len(self), True

    def read(self, first: int, count: int) -> list[bytes]:
        """Returns pictures as JPEG: those of `count` that are there."""
        with self._lock:
            last = min(first + count, len(self))
            if first >= last or self._file is None:
                return []
            offsets = [int(offset) for offset in self._offsets[first : last + 1]]
            self._file.seek(offsets[0])
            data = self._file.read(offsets[-1] - offsets[0])
        starts = [offset - offsets[0] for offset in offsets]
        return [data[a:b] for a, b in zip(starts, starts[1:], strict=False)]

    def close(self) -> None:
        """Closes the file; removes it if it is not whole."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)
            self._draft = None


def pack_of(cache: pathlib.Path, path: os.PathLike) -> Pack:
    """Returns the empty pack of a video.

    Raises:
        MissingInputError: if there is no such video.
    """
    identity = f"{_MEANING} {MOST_SIDE} {QUALITY}\n{video.file_identity(path)}"
    return Pack(cache / hashlib.sha256(identity.encode()).hexdigest()[:32])


def make(path: os.PathLike, pack: Pack) -> Iterator[None]:
    """Fills a pack with the frames of a video; goes on a frame at every step.

    Raises:
        InputError: if the video is damaged, or the pack cannot be written.
    """
    pack.begin()
    with contextlib.closing(video.open_film(path)) as decoder:
        pack.expected, _ = video.promised_frames(decoder)
        clock = clock_of(decoder.stream, video.film_rate(decoder))
        shrink = None
        try:
            for frame in decoder.frames():
                shrink = shrink or _Shrinker(decoder, frame)
                pack.add(shrink(frame), clock.time_of(frame))
                yield
        except DecodingError as error:
            raise video.damaged(path, len(pack), pack.expected, str(error)) from error
        except av.FFmpegError as error:
            raise video.damaged(
                path, len(pack), pack.expected, reason_of(error)
            ) from error
    if not len(pack):
        raise video.damaged(path, 0, None)
    video.remember_times(path, np.asarray(pack.times_s))
    pack.finish()


class _Shrinker:
    """Turns frames into small upright JPEG pictures."""

    def __init__(self, decoder: Decoder, first: av.VideoFrame) -> None:
        self._decoder, self._converter = decoder, VideoReformatter()
        self._turn = turn_of(first)
        self._size = _small(first.width, first.height)

    def __call__(self, frame: av.VideoFrame) -> bytes:
        try:
            small = self._converter.reformat(
                frame,
                width=self._size[0],
                height=self._size[1],
                format="bgr24",
                interpolation=Interpolation.AREA,
                threads=1,
            ).to_ndarray()
            picture = turned(small, self._turn)
        except (av.FFmpegError, ValueError):  # rare pixels, which `picture` knows
            full = self._decoder.picture(frame)
            size = _small(full.shape[1], full.shape[0])
            picture = cv2.resize(full[..., ::-1], size, interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        return jpeg.tobytes()


def _small(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MOST_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def join(pictures: Sequence[bytes]) -> bytes:
    """Returns pictures as one answer: their number and their sizes (uint32,
    little-endian), then the pictures."""
    head = np.array([len(pictures), *map(len, pictures)], "<u4").tobytes()
    return head + b"".join(pictures)
