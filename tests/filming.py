"""Films of numbered frames in many codecs and containers."""

import fractions
import pathlib
from collections.abc import Callable, Sequence

import av
import numpy as np

NUM_BITS = 8


def picture(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Draws a number as bars in the upper half; the lower half is red at its left."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[height // 2 :, : width // 2] = 220, 40, 40
    edges = np.linspace(0, width, NUM_BITS + 1).astype(int)
    for bit, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        image[: height // 2, left:right] = 235 if number >> bit & 1 else 16
    return image


def number_of(image: np.ndarray) -> int:
    """Reads the bars of a picture (H, W, 3)."""
    height, width, _ = image.shape
    edges = np.linspace(0, width, NUM_BITS + 1).astype(int)
    bars = [
        image[height // 8 : height // 2 - height // 8, left + 2 : right - 2].mean()
        for left, right in zip(edges, edges[1:], strict=False)
    ]
    return sum(int(bar > 125) << bit for bit, bar in enumerate(bars))


def write_film(
    path: pathlib.Path,
    numbers: Sequence[int],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 96),
    rate: fractions.Fraction | int = 25,
    stamps: Sequence[int] | None = None,
    time_base: fractions.Fraction | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    turn: tuple[float, bool, bool] | None = None,
    interlaced: bool = False,
    sound: bool = False,
    draw: Callable[..., np.ndarray] = picture,
) -> pathlib.Path:
    """Encodes numbered frames.

    Args:
        path: of the file; its ending chooses the container.
        numbers: of the frames.
        codec: an encoder of FFmpeg.
        pix_fmt: of the encoded frames.
        size: height and width.
        rate: frames a second.
        stamps: of the frames, in units of `time_base`.
        time_base: of the encoder; one frame where None.
        options: of the encoder.
        muxer: options of the container.
        turn: degrees counter-clockwise, horizontal and vertical flip for showing.
        interlaced: marks the frames so.
        sound: adds a track of silence.
        draw: makes the picture of a number, height and width.
    """
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        if interlaced:
            stream.codec_context.flags |= int(av.codec.context.Flags.interlaced_dct)
            stream.codec_context.flags |= int(av.codec.context.Flags.interlaced_me)
        track = container.add_stream("aac", rate=8000) if sound else None
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = place if stamps is None else stamps[place]
            frame.time_base = time_base or 1 / fractions.Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            write_silence(container, track, len(numbers) / float(rate))
    return path


def garble_tag(path: pathlib.Path) -> pathlib.Path:
    """Makes the tag that names the writing program no UTF-8, in place."""
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"La\xfff"))
    return path


def write_silence(container, track, seconds: float) -> None:
    """Adds silence to an open container."""
    for begin in range(0, int(seconds * 8000), 1024):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 8000, begin
        container.mux(track.encode(frame))
    container.mux(track.encode(None))
