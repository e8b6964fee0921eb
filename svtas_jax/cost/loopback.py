"""Cameras on this machine's loopback interface, played in a process of their own.

Each sends pictures as MJPEG over HTTP at an even rate, and notes when it sent each.
"""

import contextlib
import http.server
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Sequence
from typing import Any

_HEAD = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\n"
    b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
)


class Cameras:
    """Cameras that run while it is entered.

    Args:
        jpegs: encoded pictures, shown in turns.
        fps: pictures a second.
        num_pictures: of each camera, after which it closes the connection.
        num_cameras: how many there are.
    """

    def __init__(
        self,
        jpegs: Sequence[bytes],
        *,
        fps: float,
        num_pictures: int,
        num_cameras: int,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._num_pictures, self._num_cameras = num_pictures, num_cameras
        self._sent = context.Array("d", num_cameras * num_pictures, lock=False)
        self._ports, self._theirs = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_serve,
            args=(list(jpegs), fps, num_pictures, self._sent, self._theirs),
            daemon=True,
        )

    def __enter__(self) -> "Cameras":
        """Starts the process."""
        self._process.start()
        self._theirs.close()  # so that a process that dies is an error, not a silence
        self._port = self._ports.recv()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.join()

    @property
    def addresses(self) -> list[str]:
        """The address of each camera."""
        root = f"http://127.0.0.1:{self._port}"
        return [f"{root}/{number}" for number in range(self._num_cameras)]

    def sent_s(self, camera: int, picture: int) -> float:
        """Returns when a picture was sent, in seconds of the monotonic clock."""
        return self._sent[camera * self._num_pictures + picture]


def _serve(
    jpegs: list[bytes],
    fps: float,
    num_pictures: int,
    sent: Any,
    port: multiprocessing.connection.Connection,
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = int(self.path.strip("/")) * num_pictures
            with contextlib.suppress(OSError):
                self.wfile.write(_HEAD)
                self._play(first)

        def _play(self, first: int) -> None:
            begin_s = time.monotonic()
            for number in range(num_pictures):
                time.sleep(max(0.0, begin_s + number / fps - time.monotonic()))
                jpeg = jpegs[number % len(jpegs)]
                length = f"Content-Length: {len(jpeg)}\r\n\r\n".encode()
                sent[first + number] = time.monotonic()
                head = b"--frame\r\nContent-Type: image/jpeg\r\n" + length
                self.wfile.write(head + jpeg + b"\r\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port.send(server.server_address[1])
    server.serve_forever()
