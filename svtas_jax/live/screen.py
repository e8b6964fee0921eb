"""Shows the pictures that come on standard input in a window, in a process of its own.

`OverlayWindow` starts this file, which must not import PyAV: OpenCV's windows hang in a
process that has loaded it, since each brings libraries of X11. And where a display does
not answer, OpenCV aborts its process.
"""

import struct
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

import cv2
import numpy as np

HEADER = struct.Struct(">II")  # height, width; then follow the pixels, uint8 BGR
READY = b"open\n"
_WAIT_MS = 20
_QUIT = (ord("q"), ord("Q"))


def show(title: str, pictures: BinaryIO, out: BinaryIO) -> None:
    """Shows the newest picture until they end, or the key q or the cross closes it.

    Args:
        title: of the window.
        pictures: a `HEADER` and the pixels of each.
        out: gets `READY` when the window is open.
    """
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    cv2.waitKey(1)
    out.write(READY)
    out.flush()
    newest: deque[np.ndarray | None] = deque(maxlen=1)
    threading.Thread(target=_keep_newest, args=(pictures, newest), daemon=True).start()
    has_shown = False
    while cv2.waitKey(_WAIT_MS) & 0xFF not in _QUIT:
        if has_shown and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return
        if newest:
            picture = newest.pop()
            if picture is None:
                return
            cv2.imshow(title, picture)
            has_shown = True


def read_pictures(pictures: BinaryIO) -> Iterator[np.ndarray]:
    """Yields (H, W, 3) uint8 BGR until they end, or one is cut off."""
    while len(header := pictures.read(HEADER.size)) == HEADER.size:
        height, width = HEADER.unpack(header)
        pixels = pictures.read(3 * height * width)
        if len(pixels) < 3 * height * width:
            return
        yield np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def _keep_newest(pictures: BinaryIO, newest: deque) -> None:
    newest.extend(read_pictures(pictures))
    newest.append(None)


if __name__ == "__main__":
    show(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
