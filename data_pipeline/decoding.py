"""Decodes the film of one container through PyAV, forward, as a player shows it.

Frame n is the n-th frame that a player shows: what an edit list hides does not count,
a cover picture is not the film, and the display matrix is applied. The sample aspect
ratio is not: pixels stay as they are stored, as OpenCV gives them.
"""

import collections
import errno
import itertools
import math
import re
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, Protocol

import av
import numpy as np
from av.stream import Discard, Disposition

from data_pipeline.pictures import Pictures
from svtas_jax.errors import InputError

_LOG_LOCK = threading.Lock()  # the log level is one for the whole process
_LAST_FRAMES = 16  # the longest reordering: fewer after a damage are a cut-off end
STILL_CODECS = ("mjpeg", "png", "bmp", "gif", "tiff", "webp", "jpeg2000", "jpegls")
# Where a packet marked as corrupt may be whole: recordings are joined in the middle.
_JOINED_FORMATS = ("mpegts", "mpeg")
_TEXT_FORMATS = ("tty",)  # shows any text file as a film
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_MOST_UNREADABLE = 10  # times in a row that what a tolerant reader reads is nonsense
_COVER_SEARCH = 100  # packets in which a film beside a still picture shows itself


class BinaryFile(Protocol):
    """What FFmpeg asks of a file: a video's bytes, from any place."""

    def read(self, size: int = -1, /) -> bytes:
        """Returns the next bytes, none at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves, and returns the position."""
        ...

    def tell(self) -> int:
        """Returns the position."""
        ...


class DecodingError(Exception):
    """The film cannot be decoded any further; the text says why."""


class NoFilmError(InputError):
    """There is no film in a container, or no decoder for it."""


def open_container(
    source: str | BinaryFile,
    *,
    timeout_s: tuple[float, float] | None = None,
    options: dict[str, str] | None = None,
) -> av.container.InputContainer:
    """Opens an address of FFmpeg's or a file object.

    Args:
        source: such as "file:a.mp4", "rtsp://...", or a binary file that can seek.
        timeout_s: for opening, and for every reading.
        options: of FFmpeg's.

    Raises:
        av.FFmpegError: if that fails.
    """
    if str(source).startswith("rtsp:"):
        options = {"rtsp_transport": "tcp"} | (options or {})
    container = av.open(
        source, "r", options=options, timeout=timeout_s, **_tolerant_of_metadata()
    )
    # FFmpeg's guesses where a container has decoding times only are wrong for H.264.
    container.flags &= ~av.container.Flags.gen_pts.value
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise av.error.InvalidDataError(errno.EILSEQ, "it is text")
    return container


def _tolerant_of_metadata() -> dict[str, Any]:
    """Returns what keeps a title that is not UTF-8 from making a file unreadable.

    PyAV 19 takes any bytes and knows no such argument; PyAV 18 needs it.
    """
    major = int(av.__version__.split(".")[0])
    return {"metadata_errors": "replace"} if major < 19 else {}


def reason_of(error: av.FFmpegError) -> str:
    """Returns FFmpeg's words for an error."""
    return error.strerror or str(error)


class Decoder:
    """The film of an open container.

    Attributes:
        container: `close` closes it.
        stream: the film.
        arrived_s: when the packet came that completed the last frame, in seconds of
            the monotonic clock.
        num_damaged: packets and frames so far that could not be decoded as they were.
        last_stamp: the largest time stamp of the packets decoded so far.
    """

    def __init__(
        self, container: av.container.InputContainer, name: str, *, tolerant: bool
    ) -> None:
        """Chooses the film.

        Args:
            container: nothing has been read from it yet.
            name: for messages.
            tolerant: goes on after damage, as players do.

        Raises:
            NoFilmError: if there is none that can be decoded.
            av.error.InvalidDataError: if there is neither picture nor sound.
        """
        self.container, self._tolerant = container, tolerant
        self.arrived_s, self.num_damaged, self.last_stamp = 0.0, 0, -math.inf
        self._ahead: collections.deque[tuple[av.Packet, float]] = collections.deque()
        self._pictures: Pictures | None = None
        self._has_begun = False
        self._failure: av.FFmpegError | None = None
        self._choose(name)
        self.stream.thread_type = "NONE"  # several videos are read side by side
        self.stream.codec_context.thread_count = 1
        if self.stream.codec_context.name == "mjpeg" and not tolerant:
            # By default a picture whose data go wrong or end early is no error.
            self.stream.codec_context.options = {"err_detect": "explode"}

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields the frames that are shown, in order.

        Raises:
            DecodingError: at damage inside the film, unless tolerant. A film that is
                cut off ends before its damaged frame.
            av.FFmpegError: if reading fails.
        """
        frames = self._any_frames() if self._tolerant else self._whole_frames()
        for frame in frames:
            if self._pictures is None:
                self._pictures = Pictures(frame)
            yield frame

    def look_ahead(
        self, num_packets: int, *, limit_s: float
    ) -> list[tuple[av.Packet, float]]:
        """Returns the first packets, which `frames` will decode, and when they came."""
        end = time.monotonic() + limit_s
        while len(self._ahead) < num_packets and time.monotonic() < end:
            try:
                packet = self._read()
            except av.FFmpegError as error:
                self._failure = error  # `frames` raises it when it gets there
                break
            if packet is None:
                break
            self._ahead.append((packet, time.monotonic()))
        return list(self._ahead)

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns a frame as (H, W, 3) uint8 RGB, all of them in the first one's size.

        Raises:
            DecodingError: if its kind of pixels cannot be converted.
        """
        assert self._pictures is not None  # `frames`, where it is from, made them
        try:
            return self._pictures.convert(frame)
        except (av.FFmpegError, ValueError) as error:
            raise DecodingError(
                f"pixels of format {frame.format.name} and colours of matrix "
                f"{frame.colorspace} cannot be converted"
            ) from error

    def interrupt(self) -> None:
        """Makes `frames` raise an error at the next packet; from any thread."""
        self._failure = av.error.ExitError(errno.EINTR, "it was interrupted")

    def close(self) -> None:
        """Closes the container."""
        self._packets.close()
        self._ahead.clear()
        self.container.close()

    def _any_frames(self) -> Iterator[av.VideoFrame]:
        for item in self._decoded():
            if isinstance(item, av.VideoFrame):
                self.num_damaged += item.is_corrupt
                yield item

    def _whole_frames(self) -> Iterator[av.VideoFrame]:
        damage, num_after = None, 0
        for item in self._decoded():
            if isinstance(item, _Damage):
                damage = damage or item
            elif item.is_corrupt:
                self.num_damaged += 1
                damage = damage or _Damage("a frame has damaged data", item.pts)
            elif damage is None or damage.follows(item):
                yield item
                continue
            num_after += 1
            if num_after > _LAST_FRAMES:
                raise DecodingError(damage.reason)

    def _decoded(self) -> "Iterator[av.VideoFrame | _Damage]":
        """Yields frames, and what went wrong between them."""
        is_joined = self.container.format.name in _JOINED_FORMATS
        decode = self.stream.codec_context.decode
        while (packet := self._next()) is not None:
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None and stamp > self.last_stamp:
                self.last_stamp = stamp
            try:
                frames = decode(packet)
            except av.FFmpegError as error:
                # A recording that begins between key frames is shown from the first.
                if self._has_begun or packet.is_keyframe:
                    self.num_damaged += 1
                    yield _Damage(reason_of(error), packet.pts)
                continue
            if packet.is_corrupt and not is_joined:
                self.num_damaged += 1
                yield _Damage("a packet is cut off", packet.pts)
            self._has_begun = True
            yield from frames
        yield from self._flush()

    def _flush(self) -> list[av.VideoFrame]:
        try:
            return self.stream.codec_context.decode(None)
        except av.FFmpegError:  # what is wrong was reported at the packets
            return []

    def _next(self) -> av.Packet | None:
        if self._ahead:
            packet, self.arrived_s = self._ahead.popleft()
            return packet
        if self._failure is not None:
            raise self._failure
        packet = self._read()
        self.arrived_s = time.monotonic()
        return packet

    def _read(self) -> av.Packet | None:
        """Returns the film's next packet, None at the end."""
        for packet in self._packets:
            # An empty one, which repeats a picture in AVI, would end the decoding.
            if packet.size and packet.stream is self.stream:
                return packet
        return None

    def _demux(
        self, streams: list[av.video.stream.VideoStream]
    ) -> Generator[av.Packet]:
        """Goes on where a tolerant reader meets nonsense, up to a limit in a row."""
        num_unreadable = 0
        while True:
            try:
                for packet in self.container.demux(streams):
                    num_unreadable = 0
                    yield packet
                return
            except av.error.InvalidDataError:
                num_unreadable += 1
                self.num_damaged += 1
                if not self._tolerant or num_unreadable > _MOST_UNREADABLE:
                    raise

    def _choose(self, name: str) -> None:
        """Finds the film: one still picture beside another stream is a cover."""
        streams = _films(self.container, name)
        for stream in self.container.streams:
            stream.discard = Discard.default if stream in streams else Discard.all
        self._packets = self._demux(streams)
        best = self.container.streams.best("video")
        self.stream = best if best in streams else streams[0]
        if len(streams) > 1 and self.stream.codec_context.name in STILL_CODECS:
            first = [
                p for p in itertools.islice(self._packets, _COVER_SEARCH) if p.size
            ]
            counts = collections.Counter(packet.stream.index for packet in first)
            if counts[self.stream.index] < 2:
                self.stream = max(streams, key=lambda s: counts[s.index])
            now_s = time.monotonic()
            self._ahead.extend((p, now_s) for p in first if p.stream is self.stream)
        for stream in streams:
            stream.discard = Discard.default if stream is self.stream else Discard.all


class _Damage:
    """What went wrong, and at which time stamp."""

    def __init__(self, reason: str, stamp: int | None) -> None:
        self.reason, self._stamp = reason, stamp

    def follows(self, frame: av.VideoFrame) -> bool:
        """Whether a frame that was decoded later is shown earlier."""
        if self._stamp is None or frame.pts is None:
            return False
        return frame.pts < self._stamp


def _films(
    container: av.container.InputContainer, name: str
) -> list[av.video.stream.VideoStream]:
    """Returns the streams that may be the film."""
    streams = container.streams.video
    kept = [s for s in streams if not s.disposition & _PICTURES]
    decodable = [s for s in kept if s.codec_context is not None]
    if decodable:
        return decodable
    if kept:
        raise NoFilmError(
            f"{name} cannot be decoded: this build of FFmpeg has no decoder for its "
            f"codec{_codec_name(container)}. Re-encode it elsewhere: ffmpeg -i INPUT "
            "-c:v libx264 OUTPUT.mp4"
        )
    if not container.streams.audio:
        raise av.error.InvalidDataError(errno.EILSEQ, "it holds no film")
    cover = " and a cover picture" if streams else ""
    raise NoFilmError(f"{name} holds no video, only sound{cover}; name another file.")


def _codec_name(container: av.container.InputContainer) -> str:
    """Returns FFmpeg's name of an unknown codec, in brackets, from its log."""
    with _LOG_LOCK:
        av.logging.set_level(av.logging.INFO)
        try:
            # pyrefly: ignore[missing-attribute]  PyAV has it, and its types do not
            listing = container.dumps_format()
        finally:
            av.logging.set_level(None)
    match = re.search(r"Video: (\w+(?: \([^)/]*)?)", listing)
    return f" ({match[1].replace(' (', ', tag ').strip()})" if match else ""
