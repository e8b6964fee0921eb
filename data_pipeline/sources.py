"""Frames of a file, an address, a pipe or a camera as they come, opened once.

A file keeps the time of its time stamps. A live source does so if it sends any; that of
one without them (raw pictures over HTTP, cameras) is when its frames arrive.
"""

import contextlib
import errno
import pathlib
import stat
from collections.abc import Generator, Iterator

import av
import numpy as np
from absl import logging

from data_pipeline import video
from data_pipeline.cameras import (
    CameraSource,
    Shot,
    Source,
    Wanted,
    no_signal,
)
from data_pipeline.decoding import Decoder, DecodingError, open_container, reason_of
from data_pipeline.sampling import WAITED_S
from data_pipeline.stamps import clock_of, rate_of
from svtas_jax.errors import InputError

TIMEOUT_S = (20.0, 20.0)  # for opening a live source, and for every reading
_WARN_EVERY = 100  # damaged packets
_STAMPED_PACKETS = 16  # whose stamps check the rate: a live source should not wait long
_FASTER = 1.25
_PACED_PACKETS, _PACED_S = 16, 1.0  # whose arrival tells a live pipe from a file
_CLOSED = "the other side closed the connection"


@contextlib.contextmanager
def open_source(
    source: str, *, timeout_s: tuple[float, float] = TIMEOUT_S
) -> Generator[Source]:
    """Opens a path, an address (URL), the number of a camera, or "-", standard input.

    Args:
        source: as the user names it.
        timeout_s: of an address, for opening and for every reading.

    Raises:
        MissingInputError: if a file does not exist.
        InputError: if it cannot be opened, with the reason.
    """
    opened = _open(source, timeout_s)
    try:
        yield opened
    finally:
        opened.close()


def _open(source: str, timeout_s: tuple[float, float]) -> Source:
    if not source:
        raise InputError("a source has no name; give a file, an address or a camera.")
    kind = kind_of(source)
    if kind == "file":
        return _FileSource(source)
    if kind == "camera":
        return CameraSource(source)
    address = {
        "stdin": "pipe:0",
        "pipe": f"file:{source}",
        "socket": f"unix:{source}",
    }.get(kind, source)
    return _LiveSource(source, address, timeout_s, may_end=kind in ("stdin", "pipe"))


def kind_of(source: str) -> str:
    """Returns file, stdin, pipe, socket, address or camera."""
    if source == "-":
        return "stdin"
    if source.isdecimal():
        return "camera"
    if "://" in source:
        return "address"
    with contextlib.suppress(OSError):
        mode = pathlib.Path(source).stat().st_mode
        if stat.S_ISFIFO(mode):
            return "pipe"
        if stat.S_ISSOCK(mode):
            return "socket"
        if stat.S_ISCHR(mode):
            return "camera"
    return "file"


class _FilmSource(Source):
    """What PyAV decodes."""

    def __init__(
        self, name: str, decoder: Decoder, fps: float, *, is_live: bool = False
    ) -> None:
        super().__init__(name, fps, is_live=is_live)
        self._decoder, self._num_warned = decoder, 0

    def shots(self, wanted: Wanted | None = None) -> Iterator[Shot]:
        for frame in self._frames():
            index, time_s = self.num_frames, self._time_of(frame)
            self.num_frames, self.arrived_s = index + 1, self._decoder.arrived_s
            self._warn_of_damage()
            if wanted is None or wanted(index, time_s):
                try:
                    yield Shot(index, time_s, self._decoder.picture(frame))
                except DecodingError as error:
                    raise InputError(f"{self.name}: {error}.") from error
        self._check_end()

    def interrupt(self) -> None:
        self._decoder.interrupt()

    def close(self) -> None:
        self._decoder.close()

    def _frames(self) -> Iterator[av.VideoFrame]:
        return self._decoder.frames()

    def _time_of(self, frame: av.VideoFrame) -> float:
        raise NotImplementedError

    def _check_end(self) -> None:
        raise NotImplementedError

    def _warn_of_damage(self) -> None:
        damaged = self._decoder.num_damaged
        if damaged > self._num_warned + (_WARN_EVERY if self._num_warned else 0):
            logging.warning(
                "%s: %d damaged packets or frames before frame %d; it goes on.",
                *(self.name, damaged, self.num_frames),
            )
            self._num_warned = damaged


class _FileSource(_FilmSource):
    """A file, whose time stamps are its time."""

    def __init__(self, path: str) -> None:
        decoder = video.open_film(path, tolerant=True)
        super().__init__(path, decoder, video.film_rate(decoder))
        self._promised, _ = video.promised_frames(decoder)
        self._clock = clock_of(decoder.stream, self.fps)

    def _frames(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._decoder.frames()
        except av.FFmpegError as error:
            raise video.damaged(
                self.name, self.num_frames, self._promised, reason_of(error)
            ) from error

    def _time_of(self, frame: av.VideoFrame) -> float:
        time_s = self._clock.time_of(frame)
        self.end_s = self._clock.end_s
        return time_s

    def _check_end(self) -> None:
        if not self.num_frames:
            raise video.damaged(self.name, 0, self._promised)
        if self.num_frames < self._promised:
            logging.warning(
                "%s ended after %d frames although its header promises %d.",
                *(self.name, self.num_frames, self._promised),
            )


class _LiveSource(_FilmSource):
    """An address or a pipe."""

    def __init__(
        self,
        source: str,
        address: str,
        timeout_s: tuple[float, float],
        *,
        may_end: bool,
    ) -> None:
        self._timeout_s = timeout_s
        try:
            container = open_container(address, timeout_s=timeout_s)
        except av.FFmpegError as error:
            raise no_signal(
                "Stream", source, _reason(error, timeout_s[0], has_begun=False)
            ) from error
        try:
            with _broken_off(source, 0, timeout_s[1]):
                decoder = Decoder(container, f"Stream {source}", tolerant=True)
                self._has_stamps, fps = _clocking(decoder, is_pipe=may_end)
        except BaseException:
            container.close()
            raise
        may_end = may_end or _is_file(container)
        super().__init__(source, decoder, fps, is_live=not may_end)
        self._clock = clock_of(decoder.stream, fps)
        self._began_s = 0.0

    def _frames(self) -> Iterator[av.VideoFrame]:
        frames = self._decoder.frames()
        while True:
            with _broken_off(self.name, self.num_frames, self._timeout_s[1]):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _time_of(self, frame: av.VideoFrame) -> float:
        if self._has_stamps:
            time_s = self._clock.time_of(frame)
            self.end_s = self._clock.end_s
            return time_s
        if not self.num_frames:
            self._began_s = self._decoder.arrived_s
        time_s = self._decoder.arrived_s - self._began_s
        if time_s > 0:
            self.fps = self.num_frames / time_s
        self.end_s = time_s + (1 / self.fps if self.fps else 0.0)
        return time_s

    def _check_end(self) -> None:
        if not self.num_frames:
            raise no_signal("Stream", self.name, "it ended before the first one")
        if self.is_live:
            raise InputError(
                f"Stream {self.name} broke off after {self.num_frames} frames: "
                f"{_CLOSED}. Start it again, then this command."
            )


def _is_file(container: av.container.InputContainer) -> bool:
    """Whether length or size is known, as of a file behind an address."""
    size = container.size  # unknown: None in PyAV 19, a negative number in PyAV 18
    return container.duration is not None or (size is not None and size > 0)


def _is_unstamped(container: av.container.InputContainer) -> bool:
    """Whether the format holds pictures only: FFmpeg then invents 25 a second."""
    flag = av.format.Flags.no_timestamps.value
    return container.format.name == "mpjpeg" or bool(container.format.flags & flag)


def _clocking(decoder: Decoder, *, is_pipe: bool) -> tuple[bool, float]:
    """Returns whether time stamps are to be believed, and the frame rate, 0.0 if it
    shows only as frames arrive.

    What comes through a pipe faster than it plays is a file.
    """
    if not _is_unstamped(decoder.container):
        return True, video.film_rate(decoder, num_packets=_STAMPED_PACKETS)
    if not is_pipe:
        return False, 0.0  # the first picture is to be answered, not held back
    pace = _pace(decoder)
    stamped = video.film_rate(decoder, num_packets=_STAMPED_PACKETS)
    is_file = stamped and (not pace or pace > _FASTER * stamped)
    return (True, stamped) if is_file else (False, pace)


def _pace(decoder: Decoder) -> float:
    """Returns how many packets a second arrive, those left out that had waited."""
    arrivals = [s for _, s in decoder.look_ahead(_PACED_PACKETS, limit_s=_PACED_S)]
    steps = np.diff(arrivals)
    waited = np.flatnonzero(steps > WAITED_S)
    return rate_of(arrivals[waited[0] + 1 :]) if len(waited) else 0.0


@contextlib.contextmanager
def _broken_off(source: str, num_frames: int, timeout_s: float) -> Iterator[None]:
    """Says what ended a live source in the middle."""
    try:
        yield
    except av.FFmpegError as error:
        reason = _reason(error, timeout_s, has_begun=num_frames > 0)
        if not num_frames:
            raise no_signal("Stream", source, reason) from error
        raise InputError(
            f"Stream {source} broke off after {num_frames} frames: {reason}. Start it "
            "again, then this command."
        ) from error


def _reason(error: av.FFmpegError, timeout_s: float, *, has_begun: bool) -> str:
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {timeout_s:g} s"
    no_video = "what it sends is no video, but perhaps a web page"
    if isinstance(error, av.error.InvalidDataError):
        return no_video
    if error.errno == errno.EIO:  # FFmpeg's word for names and for closed connections
        return _CLOSED if has_begun else f"the host is not known, or {no_video}"
    return reason_of(error)
