"""Reading video files, always forward, always exact frames.

Seeking lands on a wrong frame in files of variable frame rate, so a reader decodes the
frames it skips, without converting them, and opens the file again to go back.
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Generator, Iterable, Iterator

import av
import numpy as np
from absl import logging

from data_pipeline.decoding import (
    BinaryFile,
    Decoder,
    DecodingError,
    open_container,
    reason_of,
)
from data_pipeline.stamps import clock_of, frame_rate, time_base_of
from svtas_jax.errors import DamagedVideoError, InputError, MissingInputError
from svtas_jax.runtime.arrays import read_npy
from svtas_jax.runtime.files import write_atomic

_CACHE = "frame_times"  # a new name for a new meaning: old entries must not be believed
_PROBED_PACKETS = 64  # whose time stamps check the header's frame rate


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says.

    Attributes:
        num_frames: that players show, if the header is right; 0 if it does not say.
            See `count_frames`.
        fps: frames a second, checked by time stamps; 0.0 if unknown.
        width: of the pictures as they are shown.
        height: likewise.
        hidden_frames: that the file holds besides, and an edit list hides.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    hidden_frames: int = 0


@dataclasses.dataclass
class FrameReader:
    """Gives frames of one file in rising order; going back reopens the file.

    Attributes:
        path: of the video.
        expected_frames: how many the caller counts on, for the message when the file
            ends early; None if unknown.
        open_file: opens what is read instead of the file at `path`.
    """

    path: str
    expected_frames: int | None = None
    open_file: Callable[[], BinaryFile] | None = None
    _decoder: Decoder | None = dataclasses.field(default=None, init=False)
    _frames: Iterator[av.VideoFrame] = dataclasses.field(default=iter(()), init=False)
    _position: int = dataclasses.field(default=-1, init=False)  # frame last decoded
    _last: np.ndarray | None = dataclasses.field(default=None, init=False)

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index` as (H, W, 3) uint8 RGB.

        Raises:
            MissingInputError: if the file does not exist.
            DamagedVideoError: if it ends, or is damaged, before that frame.
        """
        if index < 0:
            raise InputError(f"Frame {index} of {self.path} does not exist.")
        if index == self._position and self._last is not None:
            return self._last
        decoder = self._decoder
        if decoder is None or index <= self._position:
            decoder = self._reopen()
        for frame in self._frames:
            self._position += 1
            if self._position == index:
                self._last = _picture(decoder, frame, self.path)
                return self._last
        raise damaged(self.path, self._position + 1, self.expected_frames)

    def frames(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """Yields the frames at `indices`, one by one: memory is that of one frame."""
        for index in indices:
            yield self.frame(int(index))

    def close(self) -> None:
        """Frees the decoder; the next read opens the file again."""
        if self._decoder is not None:
            self._decoder.close()
        self._decoder, self._position, self._last = None, -1, None
        self._frames = iter(())

    def __del__(self) -> None:
        # Decoders refer to themselves: forgotten ones would stay open for long.
        self.close()

    def _reopen(self) -> Decoder:
        self.close()
        file = self.open_file() if self.open_file else None
        self._decoder = decoder = open_film(self.path, file)
        self._frames = _shown(decoder, self.path, self.expected_frames)
        return decoder


def open_film(
    path: str | os.PathLike, file: BinaryFile | None = None, *, tolerant: bool = False
) -> Decoder:
    """Opens the film of a video file.

    Args:
        path: of the file, or its name if `file` is what to read.
        file: can seek.
        tolerant: goes on after damage.

    Raises:
        MissingInputError: if the file does not exist.
        InputError: if it is empty, damaged, or holds no film that can be decoded.
    """
    if file is None:
        path = _existing(path)
        if not path.stat().st_size:
            raise InputError(
                f"Video {path} is empty (0 bytes); download or copy it again."
            )
    try:
        # Without "file:", a name with a colon would be an address.
        container = open_container(f"file:{path}" if file is None else file)
        try:
            return Decoder(container, f"Video {path}", tolerant=tolerant)
        except BaseException:
            container.close()
            raise
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise damaged(path, 0, None) from error
    except av.FFmpegError as error:
        raise InputError(
            f"Video {path} cannot be opened: {reason_of(error)}."
        ) from error


def probe_video(path: str | os.PathLike) -> VideoInfo:
    """Reads the header of a video, some time stamps, and decodes its first frame.

    Raises:
        MissingInputError: if the file does not exist.
        InputError: if it is empty or no frame can be decoded.
    """
    with contextlib.closing(open_film(path)) as decoder:
        num_frames, hidden = promised_frames(decoder)
        fps = film_rate(decoder)
        for frame in _shown(decoder, path, num_frames):
            height, width, _ = _picture(decoder, frame, path).shape
            return VideoInfo(num_frames, fps, width, height, hidden)
    raise damaged(path, 0, num_frames)


def promised_frames(decoder: Decoder) -> tuple[int, int]:
    """Returns how many frames the header says that players show, 0 if it does not, and
    how many more an edit list hides."""
    promised = decoder.stream.frames
    entries = decoder.stream.index_entries
    if (
        not promised or len(entries) < promised
    ):  # of other formats, some key frames only
        return promised, 0
    hidden = sum(entry.is_discard for entry in entries)
    empty = sum(not entry.size for entry in entries)  # repeats a picture in AVI
    return len(entries) - hidden - empty, hidden


def film_rate(decoder: Decoder, *, num_packets: int = _PROBED_PACKETS) -> float:
    """Returns the frame rate of a film from which no frame has been read yet.

    Without an index, the time stamps of the first `num_packets` check it.
    """
    stream = decoder.stream
    if 1 < stream.frames <= len(stream.index_entries):
        stamps = [entry.timestamp for entry in stream.index_entries]
    else:
        packets = decoder.look_ahead(num_packets, limit_s=5)
        stamps = [p.dts if p.pts is None else p.pts for p, _ in packets]
    unit = float(time_base_of(stream))
    return frame_rate(stream, [stamp * unit for stamp in stamps if stamp is not None])


def count_frames(path: str | os.PathLike) -> int:
    """Counts the frames that can be decoded, by decoding them all.

    Raises:
        InputError: if there is none, or the file is damaged in the middle.
    """
    return len(_read_times(path))


def frame_times(path: str | os.PathLike) -> np.ndarray:
    """Returns when frames are shown: (num_frames,) seconds since the first one.

    Decoding a data set once takes minutes, so times are kept between runs as long as
    the file is the same: in the user's cache folder, one small file a video.

    Raises:
        InputError: if no frame can be decoded, or the file is damaged in the middle.
    """
    entry = _cache_entry(path)
    with contextlib.suppress(OSError, ValueError):
        return read_npy(entry)
    logging.info("Counting the frames of %s (once).", path)
    times = _read_times(path)
    remember_times(path, times)
    return times


def remember_times(path: str | os.PathLike, times: np.ndarray) -> None:
    """Keeps what `frame_times` shall return, for whoever decoded the whole file."""
    stored = io.BytesIO()
    np.save(stored, times)
    with contextlib.suppress(InputError):  # not an error: a cache
        write_atomic(_cache_entry(path), stored.getvalue())


def is_counted(path: str | os.PathLike) -> bool:
    """Whether `frame_times` knows the times already."""
    return _cache_entry(path).is_file()


def remembered_count(path: str | os.PathLike) -> int:
    """Returns `count_frames`, kept between runs like `frame_times`."""
    return len(frame_times(path))


def file_identity(path: str | os.PathLike) -> str:
    """Returns a text that changes when a file is moved or written again.

    Raises:
        MissingInputError: if there is none.
    """
    path = _existing(path).resolve()
    status = path.stat()
    return f"{path}\n{status.st_size}\n{status.st_mtime_ns}"


def tail_is_readable(path: str | os.PathLike) -> bool:
    """Returns quickly whether the end of a file seems to be there, by seeking to it.

    Seeking is inexact, so False means only that the frames should be counted.
    """
    with contextlib.closing(open_film(path)) as decoder:
        last = _last_stamp(decoder)
        if last is None:
            return False
        try:
            decoder.container.seek(last, stream=decoder.stream)
            collections.deque(decoder.frames(), maxlen=0)
        except (DecodingError, av.FFmpegError):
            return False
        return decoder.last_stamp >= last and not decoder.num_damaged


def read_frames(path: str | os.PathLike, indices: Iterable[int]) -> np.ndarray:
    """Decodes the frames at `indices`, exactly these, in any order.

    Args:
        path: of the video.
        indices: (T,) raw frame indices; -1 gives a black frame.

    Returns:
        (T, H, W, 3) uint8 RGB.
    """
    indices = np.asarray(list(indices), dtype=np.int64)
    info = probe_video(path)
    frames = np.zeros((len(indices), info.height, info.width, 3), np.uint8)
    with contextlib.closing(FrameReader(os.fspath(path))) as reader:
        for place in np.argsort(indices, kind="stable"):
            if indices[place] != -1:
                frames[place] = reader.frame(int(indices[place]))
    return frames


def glance(path: str | os.PathLike, num_pictures: int) -> np.ndarray:
    """Returns pictures spread over a video, quickly: which frames they are is not said.

    Args:
        path: of the video.
        num_pictures: at most; fewer if the video has fewer key frames.

    Returns:
        (N, H, W, 3) uint8 RGB, N at least 1.

    Raises:
        InputError: if no frame can be decoded.
    """
    pictures: dict[int | None, np.ndarray] = {}
    with contextlib.closing(open_film(path)) as decoder:
        first, last = decoder.stream.start_time or 0, _last_stamp(decoder)
        for moment in np.linspace(first, last or first, num_pictures, endpoint=False):
            with contextlib.suppress(DecodingError, av.FFmpegError):
                if pictures:
                    decoder.container.seek(int(moment), stream=decoder.stream)
                frame = next(decoder.frames(), None)
                if frame is not None and frame.pts not in pictures:
                    pictures[frame.pts] = _picture(decoder, frame, path)
    if not pictures:
        raise damaged(path, 0, None)
    return np.stack(list(pictures.values()))


def damaged(
    path: str | os.PathLike,
    num_read: int,
    num_expected: int | None,
    reason: str = "",
) -> DamagedVideoError:
    """Returns the error for a file of which only `num_read` frames could be read."""
    expected = f" of {num_expected} expected" if num_expected else ""
    reason = f" ({reason})" if reason else ""
    return DamagedVideoError(
        f"Video {path} is damaged, cut off or not a video: {num_read} frames"
        f"{expected} could be read{reason}. Download or copy it again, or re-encode "
        "it: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"
    )


def _shown(
    decoder: Decoder, path: str | os.PathLike, num_expected: int | None
) -> Generator[av.VideoFrame]:
    """Yields the frames of a film; what ends it early is the user's error."""
    num_read = 0
    try:
        for frame in decoder.frames():
            yield frame
            num_read += 1
    except DecodingError as error:
        raise damaged(path, num_read, num_expected, str(error)) from error
    except av.FFmpegError as error:
        raise damaged(path, num_read, num_expected, reason_of(error)) from error


def _picture(
    decoder: Decoder, frame: av.VideoFrame, path: str | os.PathLike
) -> np.ndarray:
    try:
        return decoder.picture(frame)
    except DecodingError as error:
        raise InputError(
            f"Video {path}: {error}. Re-encode it: ffmpeg -i INPUT -vf format=yuv420p "
            "-c:v libx264 OUTPUT.mp4"
        ) from error


def _read_times(path: str | os.PathLike) -> np.ndarray:
    with contextlib.closing(open_film(path)) as decoder:
        clock = clock_of(decoder.stream, film_rate(decoder))
        times = [clock.time_of(frame) for frame in _shown(decoder, path, None)]
    if not times:
        raise damaged(path, 0, None)
    return np.asarray(times)


def _last_stamp(decoder: Decoder) -> int | None:
    """Returns a time stamp that the last frame must reach, None if unknown."""
    stream, unit = decoder.stream, time_base_of(decoder.stream)
    if 0 < stream.frames <= len(stream.index_entries):
        entries = [e for e in stream.index_entries if e.size and not e.is_discard]
        return max((entry.timestamp for entry in entries), default=None)
    duration = stream.duration
    if duration is None and decoder.container.duration is not None:
        duration = round(decoder.container.duration / av.time_base / unit)
    fps = film_rate(decoder)
    if duration is None or not fps:
        return None
    start = stream.start_time or 0
    return start + duration - round(2 / fps / unit)


def _cache_entry(path: str | os.PathLike) -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    name = hashlib.sha256(os.fsencode(file_identity(path))).hexdigest()
    return pathlib.Path(base) / "svtas_jax" / _CACHE / name


def _existing(path: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(path)
    if path.is_dir():
        raise InputError(f"Video {path} is a folder; name a file in it.")
    if not path.exists():
        raise MissingInputError(
            f"Video {path} does not exist; check the path, or put the file there."
        )
    return path
