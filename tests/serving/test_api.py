"""Every route of a server of one file and of one source that cannot be reached."""

import json
import os
import socket
import threading

import cv2
import httpx
import jsonschema
import numpy as np
import pytest

from svtas_jax.serving import pictures
from svtas_jax.serving.app import build_app
from svtas_jax.serving.cameras import shown_name

PATHS = ("/", "/style.css", "/app.js", "/draw.js", "/icon.svg", "/docs")


@pytest.mark.parametrize("path", PATHS)
def test_the_page_loads_nothing_from_elsewhere(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    text = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text and "https:" not in text and "style=" not in text


def test_sources_are_described_without_their_secrets(client, run):
    answer = client.get("/sources")
    found = answer.json()
    assert [c["name"] for c in found["classes"]] == list(run.class_names)
    assert len({c["colour"] for c in found["classes"]}) == len(run.class_names)
    assert found["model"]["causal"] and found["model"]["steps_per_answer"] == 1
    film, nobody = found["sources"]
    assert (film["name"], film["state"]) == ("film <b>1.avi", "ended")
    assert film["counters"]["captured"] == 40 and film["counters"]["steps"] == 20
    assert film["last"]["frame"] == 38 and len(film["last"]["scores"]) == 4
    assert nobody["state"] == "broken" and "gives no pictures" in nobody["reason"]
    assert "secret" not in answer.text and "/films" not in answer.text
    assert client.get("/sources/1").json() == nobody


def test_results_are_those_of_the_library(client, run, film):
    expected = run.segment(film)
    txt = client.get("/sources/0/results?format=txt")
    assert txt.text.splitlines() == expected.label_names
    assert "filename*=UTF-8" in txt.headers["content-disposition"]
    session = client.get("/sources/0/results").json()
    ours = [(s["label"], *s["frames"]) for s in session["segments"]]
    theirs = [(s.label, s.start_frame, s.end_frame) for s in expected.segments]
    assert ours == theirs and session["ended"] and session["num_steps"] == 20
    rows = client.get("/sources/0/results?format=csv").text.splitlines()
    assert len(rows) == 1 + len(theirs)


def test_the_newest_picture_is_a_jpeg(client, numbered):
    answer = client.get("/sources/0/picture")
    assert answer.headers["content-type"] == "image/jpeg"
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (numbered.height, numbered.width, 3)
    assert numbered.number(image) == 38
    assert client.get("/sources/1/picture").status_code == 404


def test_moving_pictures_come_in_parts(client):
    with client.stream("GET", "/sources/0/video") as answer:
        assert answer.headers["content-type"].startswith("multipart/x-mixed-replace")
        text = b""
        for data in answer.iter_raw():
            text += data
            if text.endswith(b"--frame\r\n") and b"\xff\xd9" in text:
                break
    head, _, rest = text.removeprefix(b"--frame\r\n").partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2])
    assert rest[:2] == b"\xff\xd8" and rest[length:] == b"\r\n--frame\r\n"


def test_large_pictures_are_made_smaller():
    jpeg = pictures.encode(np.zeros((1080, 1920, 3), np.uint8))
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (540, 960, 3)


def test_events_come_once_a_second(client):
    with client.stream("GET", "/events?source=0") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines).startswith(":")
        assert next(lines) == "event: counters"
        found = json.loads(next(lines).removeprefix("data: "))
    assert [c["state"] for c in found["sources"]] == ["ended", "broken"]


def test_steps_come_as_events(run, tools, tmp_path, numbered):
    """The source is a pipe that begins when somebody listens."""
    path, pipe = tmp_path / "v.avi", tmp_path / "pipe"
    numbered.write(path, 30)
    os.mkfifo(pipe)
    with tools.serving(run, [str(pipe)]) as client:
        with client.stream("GET", "/events") as answer:
            lines = (line for line in answer.iter_lines() if line)
            next(lines)
            feeding = threading.Thread(
                target=lambda: pipe.write_bytes(path.read_bytes())
            )
            feeding.start()
            kinds, frames, data = [], [], {}
            while data.get("state") != "ended":
                kind = next(lines).removeprefix("event: ")
                data = json.loads(next(lines).removeprefix("data: "))
                kinds.append(kind)
                frames += [data["frame"]] if kind == "step" else []
            feeding.join()
    assert frames == list(range(0, 30, 2))
    assert kinds.count("source") == 2 and kinds.count("segment") >= 1


def test_metrics_are_prometheus_text(client):
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(names) == len(set(names)) > 15
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert all(float(value) >= 0 for value in values.values())
    assert {key.partition("{")[0] for key in values} == set(names)
    assert values['svtas_frames_total{source="0",name="film <b>1.avi"}'] == "40.0"
    assert "secret" not in answer.text


def test_every_route_is_described(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    described = {
        (path, method.upper())
        for path, methods in document["paths"].items()
        for method in methods
    }
    routed = {
        (route.path, method)
        for route in routes_of(client)
        for method in getattr(route, "methods", None) or {"GET"}
        if method != "HEAD" and route.path not in PATHS[1:5]
    }
    assert described == routed
    page = client.get("/docs").text
    assert all(f"<code>{path}</code>" in page for path, _ in described)


def routes_of(client):
    return build_app(client.state)._app.routes


def test_schemas_describe_what_is_sent(client):
    document = client.get("/openapi.json").json()
    for path, name in (("/sources", "Sources"), ("/sources/0/results", "Session")):
        schema = {"$ref": f"#/components/schemas/{name}"} | document
        jsonschema.validate(client.get(path).json(), schema)


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/page/app.js", 404),
        ("GET", "/sources/2", 404),
        ("GET", "/sources/-1", 404),
        ("GET", "/sources/" + "9" * 5000, 404),
        ("GET", "/sources/%D9%A1", 404),
        ("GET", "/sources/0/results?format=xml", 422),
        ("GET", "/events?every=hour", 422),
        ("GET", "/events?source=9", 404),
        ("GET", "/live", 426),
        ("GET", "/jobs/x", 404),
        ("DELETE", "/jobs/x", 404),
        ("POST", "/sources", 405),
        ("PATCH", "/segment", 405),
    ],
)
def test_errors_are_json(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"] and "Traceback" not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("path", ["/events", "/sources/0/video", "/sources", "/"])
def test_head_ends_at_once(client, path):
    answer = client.head(path)
    assert answer.status_code == 200 and not answer.content


def test_large_headers_are_refused(client):
    for size in (17_000, 60_000):
        answer = httpx.get(client.base_url, headers={"x-a": "a" * size})
        assert answer.status_code == 431 and "headers" in answer.json()["error"]
    answer = raw(client, b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: " + b"a" * 60_000)
    assert answer.startswith(b"HTTP/1.1 400") and b'{"error": ' in answer


def test_what_is_no_http_is_refused(client):
    answer = raw(client, b"\x16\x03\x01 nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400") and b'{"error": ' in answer


def raw(client, data):
    """Sends bytes; returns all that is answered before the connection closes."""
    url = client.base_url
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(data)
        return connection.makefile("rb").read()


def test_a_fault_is_logged_but_not_shown(client, monkeypatch):
    def fail(_):
        raise RuntimeError("a secret place")

    monkeypatch.setattr("svtas_jax.serving.prometheus._lines", fail)
    answer = httpx.get(client.base_url.join("/metrics"))
    assert answer.status_code == 500
    assert answer.json() == {"error": "A fault of the server; its log says more."}


@pytest.mark.parametrize(
    "source, name",
    [
        ("0", "camera 0"),
        ("-", "standard input"),
        ("a/b/film.mp4", "film.mp4"),
        ("rtsp://user:pw@host:554/live?key=1#x", "rtsp://host:554/live"),
    ],
)
def test_names_of_sources_hold_no_secrets(source, name):
    assert shown_name(source) == name
