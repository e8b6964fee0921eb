"""Looks at every frame of a video file, and at its container."""

import fractions
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from data_pipeline import video
from data_pipeline.checking.facts import Job, Scan, Tick
from data_pipeline.checking.watch import GRAY, Watch, gray_of
from data_pipeline.decoding import STILL_CODECS, Decoder, DecodingError, reason_of
from data_pipeline.pictures import turn_of, turned
from data_pipeline.stamps import clock_of
from data_pipeline.video import VideoInfo


def scan_film(job: Job, decoder: Decoder, tick: Tick) -> Scan:
    """Decodes a film to its end, or to where it is damaged."""
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


def _of_container(decoder: Decoder) -> dict[str, Any]:
    streams = decoder.container.streams.video
    covers = sum(_is_cover(stream, decoder) for stream in streams)
    stated = decoder.stream.average_rate
    shape = decoder.stream.sample_aspect_ratio or fractions.Fraction(1)
    return {
        "num_films": len(streams) - covers,
        "num_covers": covers,
        "pixel_shape": fractions.Fraction(shape.numerator, shape.denominator),
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
        return gray_of(decoder.picture(frame))
    return turned(gray, pictures.turn)


def _failure(num_read: int, reason: str) -> tuple[str, str]:
    return "damaged_video", f"after {num_read} frames: {reason}"
