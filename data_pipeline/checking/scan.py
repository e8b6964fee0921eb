"""Decodes a video to its end, once, and notes all that a check wants to know of it."""

import concurrent.futures
import contextlib
import dataclasses
import fractions
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from data_pipeline import video
from data_pipeline.checking import fingerprints
from data_pipeline.checking.watch import GRAY, Watch
from data_pipeline.decoding import (
    STILL_CODECS,
    Decoder,
    DecodingError,
    NoFilmError,
    reason_of,
)
from data_pipeline.pictures import turn_of, turned
from data_pipeline.prepared import reader as prepared
from data_pipeline.stamps import clock_of
from data_pipeline.video import VideoInfo
from svtas_jax.errors import InputError
from svtas_jax.structs import VideoRecord


@dataclasses.dataclass(frozen=True)
class Job:
    """A video to look at.

    Attributes:
        name: of the video.
        path: of its file.
        num_frames: that it should have, 0 if unknown; tells how far the work is.
        thumbs: frames of which a small picture is wanted.
        record: of a prepared video, which has no file of its own.
    """

    name: str
    path: str
    num_frames: int = 0
    thumbs: tuple[int, ...] = ()
    record: VideoRecord | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """What one pass through a video found.

    Attributes:
        info: its header; None if it could not be opened.
        times: (num_frames,) seconds of the frames that could be read.
        failure: kind and text of what ended the reading, None if nothing did.
        step: frames of the video from one that was looked at to the next.
        num_damaged: packets at the end that were cut off.
        plain: runs of frames of one colour, as first and last + 1 and whether black.
        frozen: runs of equal frames.
        num_repeats: frames that repeat the one before, while others move.
        sizes: (frame, width, height) of the first frame, and wherever they change.
        turn: see `pictures.turn_of`.
        pixel_shape: width to height of a pixel.
        is_interlaced: whether any frame is.
        num_films: streams of pictures that may be the film.
        num_covers: attached pictures.
        num_back: frames whose time stamp is not later than the one before.
        stated_fps: the header's frame rate, 0.0 if it has none.
        prints: (T, 8, 8) uint8, see `fingerprints`.
        thumbs: JPEG files, by frame.
    """

    info: VideoInfo | None = None
    times: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    failure: tuple[str, str] | None = None
    step: int = 1
    num_damaged: int = 0
    plain: tuple[tuple[int, int, bool], ...] = ()
    frozen: tuple[tuple[int, int], ...] = ()
    num_repeats: int = 0
    sizes: tuple[tuple[int, int, int], ...] = ()
    turn: tuple[bool, bool, bool] = (False, False, False)
    pixel_shape: fractions.Fraction = fractions.Fraction(1)
    is_interlaced: bool = False
    num_films: int = 1
    num_covers: int = 0
    num_back: int = 0
    stated_fps: float = 0.0
    prints: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, fingerprints.SIZE, fingerprints.SIZE))
    )
    thumbs: Mapping[int, bytes] = dataclasses.field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Frames that could be read."""
        return len(self.times)

    @property
    def length(self) -> int:
        """Frames of the video up to the last one that could be read."""
        if self.step == 1 or self.info is None:
            return self.num_frames
        return min(self.step * self.num_frames, self.info.num_frames)


Scanner = Callable[[Sequence[Job]], Iterable[tuple[Job, Scan]]]


Tick = Callable[[int], None]


def _no_tick(num_frames: int) -> None:
    """Tells nobody."""


def in_threads(num_threads: int, tick: Tick = _no_tick) -> Scanner:
    """Returns what scans videos side by side: PyAV decodes without Python's lock.

    Args:
        num_threads: videos at a time.
        tick: is called in any thread with the number of frames that were decoded.
    """

    def scan_all(jobs: Sequence[Job]) -> Iterator[tuple[Job, Scan]]:
        stopped = threading.Event()

        def tick_or_stop(num_frames: int) -> None:
            if stopped.is_set():
                raise _StoppedError
            tick(num_frames)

        with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            tasks = {pool.submit(scan, job, tick_or_stop): job for job in jobs}
            try:
                for task in concurrent.futures.as_completed(tasks):
                    yield tasks[task], task.result()
            finally:  # also where the user interrupts: nobody waits for long films
                stopped.set()
                pool.shutdown(cancel_futures=True)

    return scan_all


class _StoppedError(Exception):
    """Nobody wants the result any more."""


def scan(job: Job, tick: Tick = _no_tick) -> Scan:
    """Looks at every frame of a video; what is wrong with it is in the result."""
    if job.record is not None:
        return _scan_prepared(job, job.record, tick)
    try:
        decoder = video.open_film(job.path)
    except NoFilmError as error:
        return Scan(failure=("no_film", str(error)))
    except InputError as error:
        return Scan(failure=("unreadable_video", str(error)))
    with contextlib.closing(decoder):
        return _scan_film(job, decoder, tick)


def _scan_film(job: Job, decoder: Decoder, tick: Tick) -> Scan:
    watch, pictures, wanted = Watch(), _Pictures(), frozenset(job.thumbs)
    header, failure = None, None
    try:
        header = *video.promised_frames(decoder), video.film_rate(decoder)
        clock = clock_of(decoder.stream, header[-1])
        for index, frame in enumerate(decoder.frames()):
            pictures.add(index, frame)
            watch.add(_gray(frame, decoder, pictures), clock.time_of(frame))
            tick(1)
            if index in wanted:
                watch.keep(index, decoder.picture(frame))
    except DecodingError as error:
        failure = _failure(len(watch.times), str(error))
    except av.FFmpegError as error:
        failure = _failure(len(watch.times), reason_of(error))
    if header is None or not pictures.sizes:
        return Scan(failure=failure or ("unreadable_video", "it holds no frame"))
    num_promised, num_hidden, fps = header
    info = VideoInfo(num_promised, fps, *pictures.shown_size, num_hidden)
    return Scan(
        info=info,
        times=np.asarray(watch.times),
        failure=failure,
        num_damaged=decoder.num_damaged,
        sizes=tuple(pictures.sizes),
        turn=pictures.turn,
        num_back=pictures.num_back,
        is_interlaced=pictures.is_interlaced,
        num_repeats=watch.num_repeats,
        prints=watch.prints,
        thumbs=watch.thumbs,
        **_of_container(decoder),
        **watch.long_runs(fps),
    )


class _Pictures:
    """What the frames say of themselves, as they come; see `Scan`."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int, int]] = []
        self.turn = (False, False, False)
        self.is_interlaced = False
        self.num_back = 0
        self.converter = VideoReformatter()
        self._last: int | None = None

    def add(self, index: int, frame: av.VideoFrame) -> None:
        """Looks at the next frame."""
        if not self.sizes:
            self.turn = turn_of(frame)
        if not self.sizes or self.sizes[-1][1:] != (frame.width, frame.height):
            self.sizes.append((index, frame.width, frame.height))
        self.is_interlaced |= frame.interlaced_frame
        if frame.pts is not None and self._last is not None:
            self.num_back += frame.pts <= self._last
        self._last = frame.pts

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height of the first frame, as it is shown."""
        _, width, height = self.sizes[0]
        return (height, width) if self.turn[0] else (width, height)


def _scan_prepared(job: Job, record: VideoRecord, tick: Tick) -> Scan:
    assert record.prepared is not None
    step = record.prepared.frame_stride or 1
    watch, info, failure = Watch(), None, None
    wanted = frozenset(job.thumbs)
    fps = record.fps or 25.0  # only for seconds of stretches
    reader = prepared.open_reader(record, record.prepared)
    try:
        for index in range(0, record.num_frames, step):
            picture = reader.frame(index)
            if info is None:
                height, width, _ = picture.shape
                info = VideoInfo(record.num_frames, record.fps, width, height)
            watch.add(_gray_of(picture), index / fps)
            tick(step)
            if index in wanted:
                watch.keep(index, picture)
    except InputError as error:
        failure = ("damaged_video", str(error))
    finally:
        reader.close()
    return Scan(
        info=info,
        times=np.asarray(watch.times),
        failure=failure,
        step=step,
        num_repeats=watch.num_repeats,
        prints=watch.prints,
        thumbs=watch.thumbs,
        **watch.long_runs(fps / step),
    )


def _of_container(decoder: Decoder) -> dict[str, Any]:
    streams = decoder.container.streams.video
    covers = sum(_is_cover(stream, decoder) for stream in streams)
    stated = decoder.stream.average_rate
    return {
        "num_films": len(streams) - covers,
        "num_covers": covers,
        "pixel_shape": decoder.stream.sample_aspect_ratio or fractions.Fraction(1),
        "stated_fps": float(stated or 0),
    }


def _is_cover(stream: av.video.stream.VideoStream, decoder: Decoder) -> bool:
    if stream is decoder.stream:
        return False
    context = stream.codec_context
    is_still = context is not None and context.name in STILL_CODECS
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return is_still or bool(stream.disposition & pictures)


def _gray(frame: av.VideoFrame, decoder: Decoder, pictures: _Pictures) -> np.ndarray:
    """Returns a frame as it is shown, (GRAY, GRAY) uint8."""
    try:
        gray = pictures.converter.reformat(
            frame,
            width=GRAY,
            height=GRAY,
            format="gray",
            interpolation=Interpolation.AREA,
            threads=1,
        ).to_ndarray()
    except (av.FFmpegError, ValueError):
        return _gray_of(decoder.picture(frame))
    return turned(gray, pictures.turn)


def _gray_of(picture: np.ndarray) -> np.ndarray:
    small = cv2.resize(picture, (GRAY, GRAY), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def _failure(num_read: int, reason: str) -> tuple[str, str]:
    return "damaged_video", f"after {num_read} frames: {reason}"
