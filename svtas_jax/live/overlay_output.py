"""Where pictures with labels go: a video file, or a window."""

import contextlib
import fractions
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import av
import cv2
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.live import screen
from svtas_jax.live.overlay import History, draw_overlay
from svtas_jax.live.results import StepResult
from svtas_jax.runtime.files import draft_of, writing

OPTION = "--overlay"
FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}

_TICKS = 60_000  # a second; MPEG-4 allows up to 65,535
_STEP_S = 0.1  # of a video with one picture
# Quick rather than small; no picture waits for later ones. 118 is FFmpeg's unit of
# quality, of which 4 is good.
_CODECS = {
    "libx264": {"preset": "superfast", "crf": "26", "bf": "0", "rc-lookahead": "0"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(4 * 118), "bf": "0"},
}
_SCREEN = str(pathlib.Path(screen.__file__))
_OPENS_WITHIN_S, _CLOSES_WITHIN_S = 30, 5


class OverlayWriter:
    """Writes a video of one source's steps with what `draw_overlay` draws on them.

    Every picture is shown at the time of its step. All have the size of the first one,
    cut to even numbers; later ones of another size are resized. The video goes to a
    hidden file beside the path; `close` gives it its name. After an error it is gone.

    Args:
        path: ends in one of `FORMATS`; an older file is replaced by `close`.
        colours: see `pages.colours.class_colours`.

    Raises:
        InputError: if the path cannot be written, here and from `add` and `close`, if
            its ending is another, or if the folder does not exist.
    """

    def __init__(self, path: str | os.PathLike, colours: np.ndarray) -> None:
        self.path = _checked(pathlib.Path(path))
        self._draft = draft_of(self.path)
        self._colours, self._history = colours, History()
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)  # height, width
        self._ticks, self._duration = -1, round(_STEP_S * _TICKS)
        with writing(self.path, option=OPTION):
            self._draft.touch()

    def add(self, step: StepResult) -> np.ndarray:
        """Adds the source's next step; returns its picture as drawn, (H, W, 3) uint8.

        Raises:
            InputError: if the step has no picture.
        """
        if step.picture is None:
            raise InputError(
                "a step has no picture to draw on; keep the pictures of the session."
            )
        given = np.asarray(step.picture)
        with self._discarding():
            if self._container is None:
                self._open(given)
            self._history.add(step)
            picture = _resized(given, self._size)
            drawn = draw_overlay(picture, step, self._history, self._colours)
            frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
            frame.pts, frame.time_base = self._tick(step.time_s), self._time_base
            self._mux(frame)
        return drawn

    def close(self) -> pathlib.Path | None:
        """Completes the video; returns its path, or None if it would have no picture.

        Does nothing after `discard`.
        """
        if self._container is None:
            self.discard()
            return None
        with self._discarding():
            self._mux(None)
            container, self._container = self._container, None
            container.close()
            self._draft.replace(self.path)
        return self.path

    def discard(self) -> None:
        """Removes what is not complete; does nothing after `close`."""
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(OSError, av.FFmpegError):
                container.close()
        self._draft.unlink(missing_ok=True)

    def __enter__(self) -> "OverlayWriter":
        """Returns the writer."""
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the video unless `close` completed it."""
        self.discard()

    @property
    def _time_base(self) -> fractions.Fraction:
        return fractions.Fraction(1, _TICKS)

    def _open(self, picture: np.ndarray) -> None:
        height, width = (max(2, n - n % 2) for n in picture.shape[:2])
        self._size = (height, width)
        name = FORMATS[self.path.suffix.lower()]
        self._container = av.open(str(self._draft), "w", format=name)
        codec = next(codec for codec in _CODECS if _has(codec))
        options = _CODECS[codec]
        stream: Any = self._container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = self._time_base
        self._stream = stream

    def _tick(self, time_s: float) -> int:
        """Returns the time in ticks; it is later than the one before in any case."""
        ticks = max(round(time_s * _TICKS), self._ticks + 1)
        if self._ticks >= 0:
            self._duration = ticks - self._ticks
        self._ticks = ticks
        return ticks

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._duration  # counts for the last one
            self._container.mux(packet)

    @contextlib.contextmanager
    def _discarding(self) -> Iterator[None]:
        """Removes the draft after an error; reports one of the encoder or the disk."""
        try:
            with writing(self.path, option=OPTION):
                yield
        except av.FFmpegError as error:
            self.discard()
            raise InputError(
                f"{self.path} cannot be written: {error.strerror}; choose another "
                f"{OPTION}."
            ) from error
        except BaseException:
            self.discard()
            raise


class OverlayWindow:
    """A window that shows pictures; the key q and its cross close it.

    Args:
        title: of the window.

    Raises:
        InputError: if there is no display, or OpenCV cannot show windows.
    """

    def __init__(self, title: str) -> None:
        command = [sys.executable, "-P", _SCREEN, title]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        # In a session of its own Ctrl-C does not reach it; `close` ends it.
        self._process: Any = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=nothing, start_new_session=True
        )
        timer = threading.Timer(_OPENS_WITHIN_S, self._process.kill)
        timer.start()
        output: Any = self._process.stdout
        is_ready = output.readline() == screen.READY
        timer.cancel()
        if not is_ready:
            self.close()
            raise InputError(
                "--window needs a display, and OpenCV with windows (opencv-python, not "
                f"opencv-python-headless); write a video with {OPTION}=labels.mp4 "
                "instead."
            )

    @property
    def is_open(self) -> bool:
        """Whether it is still there."""
        return self._process.poll() is None

    def show(self, picture: np.ndarray) -> None:
        """Shows a picture (H, W, 3) uint8 RGB; does nothing once it is closed."""
        height, width = picture.shape[:2]
        pixels = np.ascontiguousarray(picture[..., ::-1])  # OpenCV's order is BGR
        try:
            self._process.stdin.write(screen.HEADER.pack(height, width))
            self._process.stdin.write(pixels.data)
            self._process.stdin.flush()
        except (OSError, ValueError):  # the user, or `close`, has closed it
            self.close()

    def close(self) -> None:
        """Closes the window."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSES_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _has(codec: str) -> bool:
    return codec in av.codecs_available and av.Codec(codec, "w").is_encoder


def _checked(path: pathlib.Path) -> pathlib.Path:
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{OPTION}={path} does not end in {', '.join(FORMATS)}; the ending says "
            "which kind of video is written."
        )
    if not path.parent.is_dir():
        raise InputError(
            f"{OPTION}={path}: the folder {path.parent} does not exist; create it, or "
            "choose another."
        )
    if path.is_dir():
        raise InputError(f"{OPTION}={path} is a folder; name a file.")
    return path


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture of this height and width."""
    height, width = size
    given = picture.shape[:2]
    if all(0 <= n - m <= 1 for n, m in zip(given, size, strict=True)):
        return picture[:height, :width]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
