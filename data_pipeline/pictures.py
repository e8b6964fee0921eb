"""Converts decoded frames to upright RGB pictures of one size."""

from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

# Pixel formats whose conversions to RGB and to BGR agree to the bit. Others are
# converted to BGR first, as in OpenCV.
_DIRECT = tuple(
    f"{kind}{layout}p" for kind in ("yuv", "yuvj") for layout in (420, 422, 444)
) + ("gray", "rgb24")
# Colour matrix tags and their replacements: "reserved" counts as unspecified; BT.2020
# with constant luminance cannot be converted and counts as BT.2020 without.
_RETAGGED = {3: 2, 10: 9}
_RATIO = 50  # between matrix entries, from which a rotation counts as a right angle


class Pictures:
    """Converts the frames of a video to the size and orientation of its first one.

    The colours equal OpenCV's, to the bit: range and matrix follow the video's tags, or
    are limited range and BT.601 where tags are missing.
    """

    def __init__(self, first: av.VideoFrame) -> None:
        self._converter = VideoReformatter()
        self._width, self._height = first.width, first.height
        self._turn = turn_of(first)

    def convert(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns a frame as (H, W, 3) uint8 RGB.

        Raises:
            av.FFmpegError: if its pixel format cannot be converted.
            ValueError: in the same case.
        """
        frame.colorspace = _RETAGGED.get(frame.colorspace, frame.colorspace)
        order = "rgb24" if frame.format.name in _DIRECT else "bgr24"
        image = self._converter.reformat(
            frame,
            width=self._width,
            height=self._height,
            format=order,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        ).to_ndarray()
        if order == "bgr24":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return turned(image, self._turn)


def turn_of(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Returns how the display matrix turns a frame: whether to transpose it, then
    whether to reverse its columns, and its rows.

    The matrix (a b u; c d v; x y w) maps the point (p, q) to (ap + cq, bp + dq).
    Rotations by other than right angles are ignored.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if abs(a) > _RATIO * abs(b) and abs(d) > _RATIO * abs(c):
        return False, a < 0, d < 0
    if abs(b) > _RATIO * abs(a) and abs(c) > _RATIO * abs(d):
        return True, c < 0, b < 0
    return False, False, False


def turned(image: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Returns an image (H, W, 3) turned by the result of `turn_of`."""
    is_transposed, flips_columns, flips_rows = turn
    if is_transposed:
        image = image.swapaxes(0, 1)
    if flips_columns:
        image = image[:, ::-1]
    if flips_rows:
        image = image[::-1]
    return np.ascontiguousarray(image)
