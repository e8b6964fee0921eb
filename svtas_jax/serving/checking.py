"""Checks uploaded files before anything else reads them."""

import pathlib

import av
import numpy as np

from data_pipeline.decoding import open_container
from svtas_jax.serving.problems import ProblemError

# Only containers that hold everything themselves. FFmpeg also knows lists (HLS, DASH,
# concat, SDP) that would make it open other files and addresses.
_FORMATS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "flv"),
    *("asf", "ogg", "mpegvideo", "mxf"),
)
_OPTIONS = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "file"}
_MOST_PIXELS = 36_000_000  # 8K; a picture is held several times


def check_video(path: pathlib.Path) -> None:
    """Checks that a file is a video in a container of its own.

    Raises:
        ProblemError: with status 415.
    """
    try:
        with open_container(f"file:{path}", options=_OPTIONS) as film:
            streams = film.streams.video
            if not streams:
                raise ProblemError(415, "The file holds no video.")
            pixels = streams[0].width * streams[0].height
    except av.FFmpegError as error:
        raise ProblemError(
            415,
            "The file is not a video that can be read; MP4, MOV, MKV, WebM, AVI, MPEG "
            "and TS files can.",
        ) from error
    if pixels > _MOST_PIXELS:
        mega = _MOST_PIXELS / 1e6
        raise ProblemError(415, f"The pictures have more than {mega:g} megapixels.")


def read_labels(data: bytes, class_names: tuple[str, ...]) -> np.ndarray:
    """Reads the class names of all frames, one a line, into (num_labels,) int32.

    Raises:
        ProblemError: with status 422, and the line that is wrong.
    """
    try:
        lines = data.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ProblemError(
            422, f"The label file is not UTF-8 text (byte {error.start})."
        ) from error
    index_of = {name: index for index, name in enumerate(class_names)}
    labels = np.zeros(len(lines), np.int32)
    for number, line in enumerate(lines):
        index = index_of.get(line.strip())
        if index is None:
            raise ProblemError(
                422,
                f"Line {number + 1} of the label file, {line.strip()[:60]!r}, is no "
                f"class of this model; its classes are {', '.join(class_names)}.",
            )
        labels[number] = index
    if not lines:
        raise ProblemError(422, "The label file is empty; write a class name per line.")
    return labels


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Returns the width and height in a JPEG's frame header (ITU-T T.81, B.2.2).

    Raises:
        ValueError: if there is none.
    """
    at = 2
    if data[:2] != b"\xff\xd8":
        raise ValueError("it does not begin like one")
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(data[at + 5 : at + 7])
            return int.from_bytes(data[at + 7 : at + 9]), height
        at += 2 + length
    raise ValueError("it has no frame header")
