"""Cameras of browsers: pictures over a WebSocket, answers back."""

import concurrent.futures
import contextlib
import json
import struct

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from svtas_jax.serving.checking import jpeg_size


def jpeg(seed=0, size=(48, 64)):
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


LARGE = cv2.imencode(".jpg", np.zeros((2100, 2100, 3), np.uint8))[1].tobytes()


def message(time_s, data):
    return struct.pack("<d", time_s) + data


def address(client, path="/live"):
    return f"ws://{client.base_url.host}:{client.base_url.port}{path}"


def answered(socket, time_s, data):
    socket.send(message(time_s, data))
    return json.loads(socket.recv(timeout=20))


def test_answers_are_those_of_the_library(client, run):
    pictures = [jpeg(seed) for seed in range(6)]
    with connect(address(client)) as socket:
        answers = [
            answered(socket, 100 + n / 15, data) for n, data in enumerate(pictures)
        ]
    assert [a["frame"] for a in answers] == list(range(6))
    assert answers[3]["time_s"] == pytest.approx(0.2)
    found = [step for answer in answers for step in answer["steps"]]
    decoded = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        for data in pictures
    ]
    with run.open_stream(fps=15) as session:
        expected = session.push(np.array(decoded))
    assert [step["frame"] for step in found] == [0, 2, 4]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours["scores"], theirs.scores, atol=1e-4)
        assert ours["label"] == theirs.label


def test_a_place_is_used_again_from_the_beginning(client):
    first, second = [], []
    for found in (first, second):
        with connect(address(client)) as socket:
            for n in range(5):
                steps = answered(socket, n / 7.5, jpeg(n))["steps"]
                found += [step["scores"] for step in steps]
    assert first == second and len(first) == 5


def test_browsers_side_by_side_get_what_one_alone_gets(client):
    def scores_of(seed):
        with connect(address(client)) as socket:
            answers = [answered(socket, n / 7.5, jpeg(seed + n)) for n in range(8)]
        return [step["scores"] for answer in answers for step in answer["steps"]]

    alone = [scores_of(seed) for seed in (0, 100, 200)]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        together = list(pool.map(scores_of, (0, 100, 200)))
    np.testing.assert_allclose(together, alone, atol=2e-4)


def test_places_are_limited(client, tools):
    tools.until(lambda: client.state.seats.num_taken == 0)
    with contextlib.ExitStack() as stack:
        for n in range(4):
            socket = stack.enter_context(connect(address(client)))
            assert answered(socket, 0, jpeg(n))["frame"] == 0
        late = stack.enter_context(connect(address(client)))
        assert "places" in json.loads(late.recv(timeout=20))["error"]
        with pytest.raises(ConnectionClosed):
            late.recv(timeout=20)
    tools.until(lambda: client.state.seats.num_taken == 0)


@pytest.mark.parametrize(
    "data, text",
    [
        ("hello", "no text"),
        (b"", "no picture"),
        (message(0, b"nonsense"), "not a JPEG"),
        (message(0, jpeg()[:20]), "no frame header"),
        (message(0, jpeg()[:-200]), "damaged JPEG"),
        (message(float("nan"), jpeg()), "not finite"),
        (message(0, LARGE), "at most 4.2 megapixels"),
    ],
)
def test_wrong_messages_end_the_connection(client, data, text):
    with connect(address(client)) as socket:
        socket.send(data)
        assert text in json.loads(socket.recv(timeout=20))["error"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
    assert closed.value.rcvd.code == 1007


def test_time_only_goes_on(client):
    with connect(address(client)) as socket:
        answered(socket, 5.0, jpeg())
        assert "runs back" in answered(socket, 4.0, jpeg())["error"]


def test_large_messages_end_the_connection(client):
    with connect(address(client)) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            socket.send(bytes(3_000_000))
            socket.recv(timeout=20)
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_pages_of_other_sites_are_refused(client, origin):
    with pytest.raises(InvalidStatus) as refused:
        connect(address(client), origin=origin)
    assert refused.value.response.status_code == 403
    assert "another site" in json.loads(refused.value.response.body)["error"]


def test_a_token_is_needed_here_too(run, tools):
    with tools.serving(run, token="a-long-secret") as client:
        with pytest.raises(InvalidStatus) as refused:
            connect(address(client))
        assert refused.value.response.status_code == 401
        with connect(address(client, "/live?token=a-long-secret")) as socket:
            assert answered(socket, 0, jpeg())["frame"] == 0


@pytest.mark.parametrize("size", [(1, 1), (48, 64), (700, 3)])
def test_the_size_is_read_from_the_header(size):
    assert jpeg_size(jpeg(size=size)) == size[::-1]


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x02", b"PNG"])
def test_a_size_that_is_not_there_is_an_error(data):
    with pytest.raises(ValueError, match="it "):
        jpeg_size(data)
