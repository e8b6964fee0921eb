"""Cameras on the loopback interface that do what a test's script says."""

import contextlib
import http.server
import threading
import time

import cv2
from filming import picture

FPS = 50
HEAD = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\n"
    b"Content-Type: multipart/x-mixed-replace; boundary=xx\r\n\r\n"
)


class Connection:
    """What a script of the camera does to one client."""

    def __init__(self, stream, stop, sent):
        self._stream, self._stop, self._sent = stream, stop, sent

    def send(self, data):
        self._stream.write(data)

    def pictures(self, numbers):
        for number in numbers:
            image = cv2.cvtColor(picture(number), cv2.COLOR_RGB2BGR)
            self._sent[number] = time.monotonic()
            self.part(cv2.imencode(".jpg", image)[1].tobytes())

    def garbage(self, count):
        for _ in range(count):
            self.part(b"\xff\xd8 this is no picture \xff\xd9")

    def part(self, data):
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        self.send(b"--xx\r\n" + head.encode() + data + b"\r\n")
        if self._stop.wait(1 / FPS):
            raise OSError("the test is over")

    def stall(self):
        self._stop.wait(60)


class Cameras:
    """Servers; each runs one script a connection, and refuses further ones."""

    def __init__(self):
        self._stop, self._servers = threading.Event(), []

    def start(self, *scripts):
        """Returns the address of a new one, and when it sent each picture."""
        stop, remaining, sent = self._stop, iter(scripts), {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                script = next(remaining, lambda client: None)
                with contextlib.suppress(OSError):
                    script(Connection(self.wfile, stop, sent))

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/", sent

    def close(self):
        """Ends all of them."""
        self._stop.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


def plays(numbers, then=None):
    """Returns a script that shows pictures."""

    def script(client):
        client.send(HEAD)
        client.pictures(numbers)
        if then is not None:
            then(client)

    return script
