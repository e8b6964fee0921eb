"""Files, pipes and addresses as they come; the servers are on the loopback device."""

import contextlib
import functools
import os
import socket
import subprocess
import sys
import threading
import time
import types

import cv2
import numpy as np
import pytest

from data_pipeline import video
from data_pipeline.sources import _is_file, open_source
from svtas_jax.errors import InputError, MissingInputError

SHORT = (5.0, 0.5)  # seconds: to open, to read


def shots_of(source, stride=1, **options):
    """Returns what comes before the end, the source, and the error that ends it."""
    shots, error = [], None
    with open_source(source, **options) as opened:
        try:
            shots.extend(opened.shots(lambda index, _: index % stride == 0))
        except InputError as caught:
            error = str(caught)
        return shots, opened, error


@pytest.mark.parametrize("stride", [1, 4, 100])
def test_a_file_gives_every_stride_th_frame(tmp_path, numbered, stride):
    path = tmp_path / "clip one.mp4"
    numbered.write(path, 90)
    shots, source, error = shots_of(str(path), stride)
    assert error is None and (source.fps, source.num_frames) == (15.0, 90)
    assert source.end_s == pytest.approx(6.0)
    assert [shot.index for shot in shots] == list(range(0, 90, stride))
    for shot in shots:
        assert numbered.number(shot.frame) == shot.index
        assert shot.time_s == pytest.approx(shot.index / 15)
    pictures = video.read_frames(path, range(0, 90, stride))
    np.testing.assert_array_equal([shot.frame for shot in shots], pictures)


def test_a_variable_rate_keeps_its_seconds(cases):
    shots, source, _ = shots_of(str(cases / "vfr.mp4"), 8)
    assert shots[8].index == 64 and shots[8].time_s == pytest.approx(5.3)
    assert source.end_s == pytest.approx(10.5)


def test_damage_in_a_file_is_a_warning(tmp_path, films, caplog):
    path = films.write(
        tmp_path / "a.mov", range(30), codec="prores_ks", pix_fmt="yuv422p10le"
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    path.write_bytes(data)
    shots, _, error = shots_of(str(path))
    assert len(shots) in (29, 30) and error is None
    assert "1 damaged packets or frames" in caplog.text


def test_a_file_that_ends_early_is_a_warning(tmp_path, numbered, caplog):
    path = tmp_path / "a.avi"
    numbered.write(path, 60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    shots, _, error = shots_of(str(path))
    assert 20 < len(shots) < 35 and error is None
    assert f"ended after {len(shots)} frames although its header promises 60" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("no/where.mp4", MissingInputError, "no/where.mp4 does not exist"),
        ("97", InputError, "Camera 97 gives no pictures"),
        ("/dev/null", InputError, "Camera /dev/null gives no pictures"),
        ("rtsp://127.0.0.1:9/x", InputError, "rtsp://127.0.0.1:9/x .*refused"),
        ("tcp://127.0.0.1:9", InputError, "tcp://127.0.0.1:9 .*refused"),
        ("nonsense://x", InputError, "nonsense://x gives no pictures: Protocol not"),
        ("", InputError, "a source has no name"),
    ],
)
def test_what_cannot_be_opened_is_named_with_the_reason(source, error, message):
    with pytest.raises(InputError, match=message) as caught, open_source(source):
        raise AssertionError("it was opened")
    assert type(caught.value) is error


@contextlib.contextmanager
def serving(answer):
    """Serves one client, once, with what `answer` writes to its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def multipart(films, connection, *, count, fps, stall_s=0.0):
    """Sends JPEG pictures as network cameras do."""
    connection.recv(4096)
    connection.sendall(
        b"HTTP/1.0 200 OK\r\nConnection: close\r\n"
        b"Content-Type: multipart/x-mixed-replace; boundary=xx\r\n\r\n"
    )
    begin = time.monotonic()
    for number in range(count):
        image = cv2.cvtColor(films.picture(number), cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        connection.sendall(b"--xx\r\n" + head.encode() + jpeg + b"\r\n")
        time.sleep(max(0.0, begin + (number + 1) / fps - time.monotonic()))
    time.sleep(stall_s)


def test_pictures_over_http_have_the_rate_at_which_they_come(films):
    with serving(functools.partial(multipart, films, count=45, fps=15)) as address:
        shots, source, error = shots_of(f"http://{address}/", 4)
    assert source.fps == pytest.approx(15, rel=0.15)  # FFmpeg says 25
    assert [films.number(shot.frame) for shot in shots] == list(range(0, 45, 4))
    assert shots[-1].time_s == pytest.approx(44 / 15, rel=0.2)
    assert "broke off after 45 frames" in error


def test_the_first_pictures_over_http_are_not_held_back(films):
    answer = functools.partial(multipart, films, count=6, fps=100, stall_s=2)
    with serving(answer) as address, open_source(f"http://{address}/") as source:
        begin = time.monotonic()
        shot = next(source.shots())
        assert films.number(shot.frame) == 0
        assert time.monotonic() - begin < 1  # and not when the stall ends


def test_a_stall_is_no_end(films):
    answer = functools.partial(multipart, films, count=20, fps=40, stall_s=2)
    with serving(answer) as address:
        shots, _, error = shots_of(f"http://{address}/", timeout_s=SHORT)
    assert len(shots) == 20
    assert "broke off after 20 frames: nothing came for 0.5 s" in error


def _send(path, connection, share=1.0):
    data = path.read_bytes()
    connection.sendall(data[: int(share * len(data))])


def test_a_transport_stream_has_the_seconds_of_its_stamps(tmp_path, films):
    path = films.write(tmp_path / "a.ts", range(50), rate=10)
    with serving(functools.partial(_send, path)) as address:  # faster than it plays
        shots, source, error = shots_of(f"tcp://{address}")
    assert [films.number(shot.frame) for shot in shots] == list(range(50))
    times = [shot.time_s for shot in shots]
    np.testing.assert_allclose(times, np.arange(50) / 10, atol=1e-3)
    assert source.fps == pytest.approx(10)
    assert "broke off after 50 frames: the other side closed" in error


def test_a_file_behind_an_address_ends(tmp_path, films):
    path = films.write(tmp_path / "a.mkv", range(50))

    def answer(connection):
        connection.recv(4096)
        size = path.stat().st_size
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode() + path.read_bytes())

    with serving(answer) as address:
        shots, source, error = shots_of(f"http://{address}/a.mkv")
    assert (len(shots), source.end_s, error) == (50, pytest.approx(2.0), None)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "404 Not Found"),
        (
            b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n"
            + b"<html><body>hello</body></html>" * 500,
            "no video, but perhaps a web page",
        ),
    ],
)
def test_an_answer_without_video_is_named(answer, message):
    def answering(connection):
        connection.recv(4096)
        connection.sendall(answer)

    with serving(answering) as address:
        with pytest.raises(InputError, match=f"gives no pictures: .*{message}"):
            shots_of(f"http://{address}/")


def test_a_silent_address_is_named():
    with serving(lambda connection: connection.recv(1) or time.sleep(1)) as address:
        with pytest.raises(InputError, match="gives no pictures: nothing came for 0.5"):
            shots_of(f"tcp://{address}", timeout_s=(0.5, 0.5))


def test_a_named_pipe_is_read_to_its_end(tmp_path, films):
    path = films.write(tmp_path / "a.mkv", range(30))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    shots, _, error = shots_of(str(pipe))
    writer.join()
    assert [films.number(shot.frame) for shot in shots] == list(range(30))
    assert error is None


def test_standard_input_is_read(tmp_path, films):
    path = films.write(tmp_path / "a.ts", range(30))
    code = (
        "from data_pipeline.sources import open_source\n"
        "with open_source('-') as source:\n"
        "    print(len(list(source.shots())), source.fps)\n"
    )
    with path.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=stream, capture_output=True, check=True
        )
    assert done.stdout.split() == [b"30", b"25.0"]


def test_a_raw_stream_through_a_pipe_has_its_own_rate(tmp_path, films):
    path = films.write(tmp_path / "a.h264", range(30), rate=10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    shots, source, _ = shots_of(str(pipe))
    writer.join()
    assert (len(shots), source.fps) == (30, 10)
    assert shots[-1].time_s == pytest.approx(2.9)


@pytest.mark.parametrize(
    ("duration", "size", "expected"),
    [(None, None, False), (None, -78, False), (None, 9, True), (9, None, True)],
)
def test_what_has_a_length_or_a_size_is_a_file(duration, size, expected):
    container = types.SimpleNamespace(duration=duration, size=size)
    assert _is_file(container) is expected
