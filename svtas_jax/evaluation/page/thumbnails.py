"""Small pictures of single frames, to be part of a page."""

import base64
import contextlib
import os
import time
from collections.abc import Iterable

import av
import cv2
import numpy as np
from absl import logging

from data_pipeline.decoding import Decoder, DecodingError
from data_pipeline.video import open_film
from svtas_jax.errors import InputError
from svtas_jax.evaluation.details import VideoDetails

_WIDTH = 176
_QUALITY = 60
_MOST_BYTES = 16_000
_LIMIT_S = 8.0  # for all pictures of a page
_EACH_S = 2.0


def thumbnails(frames: Iterable[tuple[VideoDetails, int]]) -> list[str]:
    """Returns a picture of each frame as a data address, or "" where there is none:
    without a video file, if it cannot be read, or if reading takes too long.

    Args:
        frames: videos and numbers of frames.
    """
    end = time.monotonic() + _LIMIT_S
    found = []
    for video, frame in frames:
        left_s = min(_EACH_S, end - time.monotonic())
        found.append(_thumbnail(video, frame, left_s) if left_s > 0 else "")
    return found


def _thumbnail(video: VideoDetails, frame: int, limit_s: float) -> str:
    if not os.path.isfile(video.path):
        return ""
    # The middle of the frame, so that rounding finds no other one.
    moment_s = (video.time_of(frame) + video.time_of(frame + 1)) / 2
    try:
        with contextlib.closing(open_film(video.path)) as decoder:
            picture = _picture_at(decoder, moment_s, limit_s)
    except (InputError, DecodingError, av.FFmpegError, OSError) as error:
        logging.warning("no thumbnail of %s: %s", video.path, error)
        return ""
    return "" if picture is None else _encode(picture)


def _picture_at(decoder: Decoder, moment_s: float, limit_s: float) -> np.ndarray | None:
    """Returns the frame shown at a moment; None if it is not found in time."""
    stream, end = decoder.stream, time.monotonic() + limit_s
    unit = float(stream.time_base or 1)
    first = stream.start_time or 0
    target = first + moment_s / unit
    with contextlib.suppress(av.FFmpegError):  # then from the beginning
        decoder.container.seek(int(target), stream=stream)
    last = None
    for frame in decoder.frames():
        if frame.pts is None or time.monotonic() > end:
            return None
        if frame.pts > target:
            break
        last = frame
    return None if last is None else decoder.picture(last)


def _encode(picture: np.ndarray) -> str:
    height = max(1, round(_WIDTH * picture.shape[0] / picture.shape[1]))
    small = cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(
        ".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if len(data) > _MOST_BYTES:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
