"""Decoded frames -> RGB pictures of one size, the right way up."""

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

# Converted to RGB and to BGR alike, to the bit. Others go by way of BGR as in OpenCV.
_ALIKE = tuple(
    f"{kind}{layout}p" for kind in ("yuv", "yuvj") for layout in (420, 422, 444)
) + ("gray", "rgb24")
# Tags of the colours' matrix: "reserved" means nothing, and of the two of BT.2020 only
# the one without constant luminance can be computed.
_RETAGGED = {3: 2, 10: 9}
_ALMOST = 50  # numbers of a matrix this many times larger than others: a right angle


class Pictures:
    """Converts the frames of a film to the size and direction of its first one.

    The colours are those of OpenCV, to the bit: range and matrix as the film is tagged;
    of limited range and by BT.601 where it is not.
    """

    def __init__(self, first: av.VideoFrame) -> None:
        self._converter = VideoReformatter()
        self._width, self._height = first.width, first.height
        self._turn = turn_of(first)

    def convert(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns a frame as (H, W, 3) uint8 RGB.

        Raises:
            av.FFmpegError: if its kind of pixels cannot be converted.
            ValueError: likewise.
        """
        frame.colorspace = _RETAGGED.get(frame.colorspace, frame.colorspace)
        order = "rgb24" if frame.format.name in _ALIKE else "bgr24"
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
    """Returns how the display matrix turns a frame: whether rows become columns, and
    whether columns and rows are reversed after that.

    Of a point of the picture, matrix (a b u; c d v; x y w) makes (ax + cy, bx + dy).
    Angles that are not right ones are left alone.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if abs(a) > _ALMOST * abs(b) and abs(d) > _ALMOST * abs(c):
        return False, a < 0, d < 0
    if abs(b) > _ALMOST * abs(a) and abs(c) > _ALMOST * abs(d):
        return True, c < 0, b < 0
    return False, False, False


def turned(image: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Returns an image (H, W, 3) as `turn_of` says."""
    is_transposed, flips_columns, flips_rows = turn
    if is_transposed:
        image = image.swapaxes(0, 1)
    if flips_columns:
        image = image[:, ::-1]
    if flips_rows:
        image = image[::-1]
    return np.ascontiguousarray(image)
