"""Reading video files and cameras through OpenCV, always forward, always exact frames.

Seeking by `CAP_PROP_POS_FRAMES` lands on a wrong frame in files of variable frame rate,
so a reader grabs the frames it skips (which is also cheaper than seeking for every
window) and reopens the file to go back.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import pathlib
import threading
import time
from collections.abc import Generator, Iterable, Iterator

import cv2
import numpy as np
from absl import logging

from svtas_jax.errors import DamagedVideoError, InputError, MissingInputError
from svtas_jax.runtime.files import write_atomic

_OPEN_LOCK = threading.Lock()  # OpenCV's log level is one for the whole process
_MAX_FPS = 1000.0  # more is a container's time base, not a rate


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says. `num_frames` may be wrong: see `count_frames`.

    `fps` is 0.0 where the header does not tell.
    """

    num_frames: int
    fps: float
    width: int
    height: int


@dataclasses.dataclass
class FrameReader:
    """Gives frames of one file in rising order; going back reopens the file.

    Attributes:
        path: of the video.
        expected_frames: how many the caller counts on, for the message when the file
            ends early; None if unknown.
    """

    path: str
    expected_frames: int | None = None
    _capture: cv2.VideoCapture | None = dataclasses.field(default=None, init=False)
    _position: int = dataclasses.field(default=-1, init=False)  # frame last grabbed
    _last: np.ndarray | None = dataclasses.field(default=None, init=False)

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index` as (H, W, 3) uint8 RGB."""
        if index < 0:
            raise InputError(f"Frame {index} of {self.path} does not exist.")
        if index == self._position and self._last is not None:
            return self._last
        if self._capture is None or index <= self._position:
            self._reopen()
        while self._position < index:
            if not self._capture.grab():
                raise self._ended_early()
            self._position += 1
        ok, image = self._capture.retrieve()
        if not ok or image is None:
            raise self._ended_early()
        self._last = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return self._last

    def frames(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """Yields the frames at `indices`, one by one: memory is that of one frame."""
        for index in indices:
            yield self.frame(int(index))

    def close(self) -> None:
        """Frees the decoder; the next read opens the file again."""
        if self._capture is not None:
            self._capture.release()
        self._capture, self._position, self._last = None, -1, None

    def _reopen(self) -> None:
        self.close()
        self._capture = _open_file(self.path)

    def _ended_early(self) -> InputError:
        expected = self.expected_frames
        if expected is None:
            expected = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return damaged(self.path, self._position + 1, expected)


def probe_video(path: str | os.PathLike) -> VideoInfo:
    """Reads the header of a video and decodes its first frame.

    Raises:
        MissingInputError: if the file does not exist.
        InputError: if it is empty or no frame can be decoded.
    """
    capture = _open_file(path)
    try:
        ok, image = capture.read()
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if not ok or image is None:
            raise damaged(path, 0, int(count))
        return VideoInfo(
            num_frames=max(0, int(count)),
            fps=_fps(capture),
            width=image.shape[1],
            height=image.shape[0],
        )
    finally:
        capture.release()


def count_frames(path: str | os.PathLike) -> int:
    """Counts the frames that can be decoded, by decoding them all.

    Raises:
        InputError: if there is none.
    """
    capture = _open_file(path)
    try:
        num_frames = 0
        while capture.grab():
            num_frames += 1
    finally:
        capture.release()
    if not num_frames:
        raise damaged(path, 0, None)
    return num_frames


def remembered_count(path: str | os.PathLike) -> int:
    """Returns `count_frames`, kept between runs as long as the file is the same.

    Decoding a data set once to count takes minutes; the counts lie in the user's cache
    folder, one small file a video.
    """
    identity = file_identity(path)
    entry = _cache_folder() / hashlib.sha256(identity.encode()).hexdigest()
    with contextlib.suppress(OSError, ValueError):
        return int(entry.read_text())
    logging.info("Counting the frames of %s (once).", path)
    num_frames = count_frames(path)
    with contextlib.suppress(InputError):  # not an error: a cache
        write_atomic(entry, str(num_frames))
    return num_frames


def file_identity(path: str | os.PathLike) -> str:
    """Returns a text that changes when a file is moved or written again.

    Raises:
        MissingInputError: if there is none.
    """
    path = _existing(path).resolve()
    status = path.stat()
    return f"{path}\n{status.st_size}\n{status.st_mtime_ns}"


def tail_is_readable(path: str | os.PathLike) -> bool:
    """Tells quickly whether the end of a file seems to be there, by seeking to it.

    Seeking is inexact, so False means only that the frames should be counted.
    """
    capture = _open_file(path)
    try:
        last = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) - 1
        return (
            last >= 0
            and capture.set(cv2.CAP_PROP_POS_FRAMES, last)
            and bool(capture.grab())
        )
    finally:
        capture.release()


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


def source_fps(source: str) -> float:
    """Returns the frame rate of a file, address or camera; 0.0 if it tells none."""
    capture = _open_source(source)
    try:
        return _fps(capture)
    finally:
        capture.release()


def iter_frames(
    source: str, stride: int = 1
) -> Generator[tuple[int, float, np.ndarray], None, int]:
    """Yields every `stride`-th frame of a file, an address or a camera as it comes.

    Args:
        source: a path, an URL, or the number of a camera as text.
        stride: the frames between are grabbed and dropped.

    Yields:
        frame index, its time in seconds since the first frame, and (H, W, 3) uint8 RGB.

    Returns:
        The number of frames seen, skipped ones included.
    """
    if stride < 1:
        raise InputError(f"stride={stride} must be at least 1.")
    capture = _open_source(source)
    try:
        return (yield from _iter_capture(capture, source, stride))
    finally:
        capture.release()


def damaged(
    path: str | os.PathLike, num_read: int, num_expected: int | None
) -> DamagedVideoError:
    """Returns the error for a file of which only `num_read` frames could be read."""
    expected = f" of {num_expected} expected" if num_expected else ""
    return DamagedVideoError(
        f"Video {path} is damaged, cut off or not a video: {num_read} frames"
        f"{expected} could be read. Download or copy it again, or re-encode it: "
        f"ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"
    )


def _cache_folder() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "svtas_jax" / "frame_counts"


def _iter_capture(
    capture: cv2.VideoCapture, source: str, stride: int
) -> Generator[tuple[int, float, np.ndarray], None, int]:
    is_file, fps = _is_file(source), _fps(capture)
    index, started = 0, None
    while capture.grab():
        now = time.monotonic()
        started = now if started is None else started
        if index % stride == 0:
            ok, image = capture.retrieve()
            if not ok or image is None:
                break
            time_s = _file_time_s(capture, index, fps) if is_file else now - started
            yield index, time_s, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        index += 1
    promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if is_file else None
    if not index:
        raise damaged(source, 0, promised) if is_file else _no_signal(source)
    if is_file and index < promised:
        logging.warning(
            "%s ended after %d frames although its header promises %d.",
            *(source, index, promised),
        )
    return index


def _file_time_s(capture: cv2.VideoCapture, index: int, fps: float) -> float:
    """The frame's own time stamp where the file has one (variable frame rates)."""
    time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if index and not time_s > 0:
        return index / fps if fps > 0 else 0.0
    return max(0.0, time_s)


def _fps(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else 0.0


def _is_file(source: str) -> bool:
    return not (source.isdecimal() or "://" in source)


def _open_source(source: str) -> cv2.VideoCapture:
    return _open_file(source) if _is_file(source) else _open_live(source)


def _open_file(path: str | os.PathLike) -> cv2.VideoCapture:
    path = _existing(path)
    if not path.stat().st_size:
        raise InputError(f"Video {path} is empty (0 bytes); download or copy it again.")
    # One decoding thread: the pipeline reads several videos side by side.
    capture = _quiet_open(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        capture = _quiet_open(str(path), cv2.CAP_ANY, [])
    if not capture.isOpened():
        raise damaged(path, 0, None)
    return capture


def _existing(path: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(
            f"Video {path} does not exist; check the path, or put the file there."
        )
    return path


def _open_live(source: str) -> cv2.VideoCapture:
    if source.isdecimal():
        capture = _quiet_open(int(source), cv2.CAP_ANY, [])
    else:
        capture = _quiet_open(source, cv2.CAP_ANY, [])
    if not capture.isOpened():
        raise _no_signal(source)
    return capture


def _quiet_open(source: str | int, api: int, params: list[int]) -> cv2.VideoCapture:
    """Opens without OpenCV's and FFmpeg's own messages: ours says what is wrong."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, by FFmpeg
    with _OPEN_LOCK:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            return cv2.VideoCapture(source, api, params)
        finally:
            cv2.utils.logging.setLogLevel(level)


def _no_signal(source: str) -> InputError:
    kind = "Camera" if source.isdecimal() else "Stream"
    return InputError(
        f"{kind} {source} gives no pictures. Check that it is connected, not in use by "
        f"another program, and that its number or address is right."
    )
