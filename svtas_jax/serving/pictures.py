"""The pictures of one source as JPEG, made only while somebody looks."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator

import cv2
import numpy as np

from svtas_jax.structs import Array

MOST_WIDTH, QUALITY = 960, 80
_LEAST_S = 0.04  # between two pictures: files are read faster than they play
_AGAIN_S = 5.0  # after which the same one is sent again
BOUNDARY = "frame"
_BORDER = f"--{BOUNDARY}\r\n".encode()


def encode(picture: np.ndarray) -> bytes:
    """Returns a picture (H, W, 3) uint8 RGB as JPEG, at most `MOST_WIDTH` wide."""
    height, width = picture.shape[:2]
    if max(height, width) > MOST_WIDTH:
        scale = MOST_WIDTH / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return jpeg.tobytes()


def part(jpeg: bytes) -> bytes:
    """Returns a picture as a part of multipart/x-mixed-replace, and the border after
    it: browsers show a picture only then."""
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n" + _BORDER


class Pictures:
    """The newest picture of a source, for any number of viewers.

    Args:
        pool: in which pictures are encoded.
    """

    def __init__(self, pool: concurrent.futures.Executor) -> None:
        self._pool = pool
        self._newest: np.ndarray | None = None
        self._jpeg = b""
        self._jpeg_of: np.ndarray | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._encoding: asyncio.Future[None] | None = None
        self.num_viewers, self._is_closed = 0, False

    def put(self, picture: Array | None) -> None:
        """Takes the next picture (H, W, 3) uint8 RGB; from any thread."""
        self._newest = None if picture is None else np.asarray(picture)
        if self.num_viewers and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._changed.set)

    def close(self) -> None:
        """Ends what all viewers see."""
        self._is_closed = True
        self._changed.set()

    async def newest(self) -> bytes:
        """Returns the newest picture as JPEG, empty if there is none."""
        picture = self._newest
        if picture is None:
            return b""
        if self._jpeg_of is not picture:
            if self._encoding is None:
                self._encoding = asyncio.ensure_future(self._encode(picture))
            await asyncio.shield(self._encoding)
        return self._jpeg

    async def watch(self) -> AsyncIterator[bytes]:
        """Yields multipart/x-mixed-replace; a slow viewer misses some pictures."""
        self._loop = asyncio.get_running_loop()
        self.num_viewers += 1
        try:
            yield _BORDER
            while not self._is_closed:
                seen = self._newest
                if jpeg := await self.newest():
                    yield part(jpeg)
                await asyncio.sleep(_LEAST_S)
                if self._newest is seen:
                    await self._change()
        finally:
            self.num_viewers -= 1

    async def _change(self) -> None:
        self._changed.clear()
        if not self._is_closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _AGAIN_S)

    async def _encode(self, picture: np.ndarray) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._jpeg = await loop.run_in_executor(self._pool, encode, picture)
            self._jpeg_of = picture
        finally:
            self._encoding = None
