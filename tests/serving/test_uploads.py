"""Uploaded videos: the queue, the truth beside them, and what is refused."""

import pathlib
import socket
import threading

import av
import numpy as np
import pytest

from svtas_jax.evaluation import metrics
from svtas_jax.serving import checking
from svtas_jax.serving.problems import ProblemError
from svtas_jax.smoothing import Smoothing

RUNNING = ("queued", "running")


def post(client, content, *, name="a.avi", **more):
    files = {"video": (name, content, "video/x-msvideo"), **more}
    return client.post("/segment", files=files)


def finished(client, tools, answer):
    """Returns a job when it is over."""
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    return tools.until(
        lambda: (j := client.get(path).json())["state"] not in RUNNING and j
    )


@pytest.fixture(autouse=True)
def _nothing_is_left(client, tools):
    """After every test, no video lies in the run's folder."""
    yield
    folder = pathlib.Path(client.state.run.workdir)
    tools.until(lambda: not [p for p in folder.rglob("*") if p.is_file()])
    assert {p.parts[len(folder.parts)] for p in folder.rglob("*")} <= {"serving"}


def test_a_video_with_its_truth(client, tools, run, film, tiny):
    names = [tiny.classes[n // 10] for n in range(40)]
    text = "\n".join(names).encode()
    job = finished(
        client, tools, post(client, film.read_bytes(), labels=("l.txt", text))
    )
    assert (job["state"], job["progress"], job["error"]) == ("done", 1.0, "")
    expected = run.segment(film)
    lines = client.get(f"/jobs/{job['id']}/results?format=txt").text.splitlines()
    assert lines == expected.label_names
    assert [s["frames"] for s in job["truth"]] == [[n, n + 10] for n in (0, 10, 20, 30)]
    counts = metrics.new_counts(run.config, run.class_names)
    truth = np.repeat(np.arange(4), 10)
    measured = counts.add(expected.labels, truth).compute()
    assert job["metrics"] == {
        name: round(measured[name], 2) for name in ("acc", "edit", "f1_10", "f1_25")
    } | {"f1_50": round(measured["f1_50"], 2)}
    session = client.get(f"/jobs/{job['id']}/results").json()
    assert session["segments"] == job["segments"] and session["truth"] == job["truth"]


def test_uploads_and_sources_are_smoothed(run, tools, film):
    """With a rule that no label satisfies, the first one stays."""
    first = run.segment(film).label_names[0]
    rule = Smoothing(min_duration_s=60.0)
    with tools.serving(run, [str(film)], smoothing=rule) as client:
        job = finished(client, tools, post(client, film.read_bytes()))
        assert [s["label"] for s in job["segments"]] == [first]
        tools.until(lambda: client.get("/sources/0").json()["state"] == "ended")
        lines = client.get("/sources/0/results?format=txt").text.splitlines()
        assert lines == [first] * 40


def test_a_second_video_is_segmented_like_the_first(client, tools, film):
    first, second = (
        finished(client, tools, post(client, film.read_bytes())) for _ in range(2)
    )
    assert first["segments"] == second["segments"] and "metrics" not in first


def test_labels_of_another_video_measure_nothing(client, tools, film):
    labels = ("l.txt", b"take\n" * 30)
    job = finished(client, tools, post(client, film.read_bytes(), labels=labels))
    assert job["state"] == "done" and "metrics" not in job
    assert "40 frames, but the label file has 30 lines" in job["truth_error"]


@pytest.mark.parametrize(
    "name, shown",
    [
        ("../../etc/x.avi", "x.avi"),
        ("C:\\films\\x.avi", "x.avi"),
        ("<img src=x>.avi", "<img src=x>.avi"),
        ("", "video"),
        ("é\u202e.avi", "é.avi"),
        ("a" * 5000, "a" * 200),
    ],
)
def test_names_are_only_shown(client, tools, film, name, shown):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="video"; filename="%s"\r\n\r\n%s'
        b"\r\n--x--\r\n" % (name.encode(), film.read_bytes())
    )
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/segment", content=body, headers=headers)
    if len(name) > 4096:  # such a header is refused by the form's reader
        assert answer.status_code == 422 and "error" in answer.json()
        return
    job = finished(client, tools, answer)
    assert job["name"] == shown
    assert client.delete(f"/jobs/{job['id']}").status_code == 204
    assert client.get(f"/jobs/{job['id']}").status_code == 404


@pytest.mark.parametrize(
    "labels, message",
    [
        (b"take\njump\n", "Line 2 of the label file, 'jump', is no class"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "is empty"),
        (b"take\n\ntake", "Line 2"),
    ],
)
def test_wrong_labels_are_refused_before_the_queue(client, film, labels, message):
    answer = post(client, film.read_bytes(), labels=("l.txt", labels))
    assert answer.status_code == 422 and message in answer.json()["error"]


def test_labels_have_a_limit(client, film):
    labels = ("l.txt", b"take\n" * 1_700_000)
    answer = post(client, film.read_bytes(), labels=labels)
    assert answer.status_code == 413 and "8 MB" in answer.json()["error"]


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:1/a.ts\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5 RTP/AVP 96",
        b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' profiles='urn:mpeg:dash'></MPD>",
        b"RIFF\0\0\0\0AVI " + b"\0" * 2000,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
    ],
)
def test_only_videos_are_taken(client, content):
    answer = post(client, content, name="a.mp4")
    assert answer.status_code == 415 and "error" in answer.json()


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), "fltp", "mono"
        )
        frame.rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(ProblemError, match="holds no video"):
        checking.check_video(path)


def test_a_tag_that_is_not_utf_8_is_no_fault(tmp_path, films):
    checking.check_video(films.garble_tag(films.write(tmp_path / "a.mp4", range(3))))


def test_half_a_video_is_segmented_as_far_as_it_goes(client, tools, film):
    data = film.read_bytes()
    job = finished(client, tools, post(client, data[: len(data) // 2]))
    assert job["state"] == "done" and 10 < job["frame"] < 40


@pytest.mark.parametrize(
    "headers, body, status",
    [
        ({}, b"", 415),
        ({"content-type": "application/json"}, b"{}", 415),
        ({"content-type": "multipart/form-data"}, b"", 422),
        ({"content-type": "multipart/form-data; boundary=x"}, b"", 422),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 422),
        ({"content-type": "multipart/form-data; boundary=x"}, b"nonsense", 422),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\n", 422),
        ({"content-type": "multipart/form-data; boundary=" + "x" * 300}, b"", 422),
    ],
)
def test_what_is_no_form_is_refused(client, headers, body, status):
    answer = client.post("/segment", content=body, headers=headers)
    assert answer.status_code == status and "error" in answer.json()


def test_an_upload_that_breaks_off_is_no_fault(client, tools, capsys):
    url = client.base_url
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(
            b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        tools.until(lambda: client.state.jobs._num_reserved == 1)
    tools.until(lambda: client.state.jobs._num_reserved == 0)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("names", [("x",), ("video", "video"), ("labels",), ("",)])
def test_other_fields_are_refused(client, film, names):
    files = [(name, ("f", film.read_bytes())) for name in names]
    answer = client.post("/segment", files=files)
    assert answer.status_code == 422 and "error" in answer.json()


@pytest.fixture(scope="module")
def spare(run, tools):
    """A server whose queue tests may hold up; it takes videos up to 1 MB."""
    with tools.serving(run, max_upload_mb=1) as client:
        yield client
    assert not client.state.jobs._folder.exists()


def test_sizes_are_limited(spare):
    said = post(spare, b"a" * 10_000_000)
    assert said.status_code == 413 and "1 MB" in said.json()["error"]

    def chunks():
        yield b'--x\r\nContent-Disposition: form-data; name="video"\r\n\r\n'
        yield from [b"a" * 10_000] * 200

    headers = {"content-type": "multipart/form-data; boundary=x"}
    unsaid = spare.post("/segment", content=chunks(), headers=headers)
    assert unsaid.status_code == 413


def test_the_queue_is_bounded_and_jobs_can_be_ended(spare, tools, film, monkeypatch):
    go_on, jobs = threading.Event(), spare.state.jobs
    segment = jobs._segment
    monkeypatch.setattr(jobs, "_segment", lambda job: go_on.wait() and segment(job))
    answers = [post(spare, film.read_bytes()) for _ in range(9)]
    assert [answer.status_code for answer in answers] == [202] * 8 + [503]
    assert answers[-1].headers["retry-after"]
    paths = [answer.headers["location"] for answer in answers[:-1]]
    tools.until(lambda: spare.get(paths[0]).json()["state"] == "running")
    assert spare.get(paths[1]).json()["state"] == "queued"
    assert spare.get(f"{paths[1]}/results").status_code == 409
    assert spare.delete(paths[1]).status_code == 204
    assert spare.delete(paths[0]).status_code == 204  # while it runs
    assert post(spare, film.read_bytes()).status_code == 202
    go_on.set()
    for path in paths[2:]:
        tools.until(lambda path=path: spare.get(path).json()["state"] == "done")
    assert 'svtas_jobs{state="done"}' in spare.get("/metrics").text


def test_old_jobs_are_forgotten(spare, tools, film, monkeypatch):
    monkeypatch.setattr("svtas_jax.serving.jobs.MOST_KEPT", 2)
    paths = []
    for _ in range(4):
        answer = post(spare, film.read_bytes())
        paths.append(answer.headers["location"])
        finished(spare, tools, answer)
    assert [spare.get(path).status_code for path in paths] == [404, 404, 200, 200]


def test_a_fault_ends_one_job_only(spare, tools, film, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("svtas_jax.serving.jobs.Feed", lambda *_, **__: 1 / 0)
        job = finished(spare, tools, post(spare, film.read_bytes()))
    assert (job["state"], job["error"][:22]) == ("failed", "a fault of the server;")
    job = finished(spare, tools, post(spare, film.read_bytes()))
    assert job["state"] == "done"


def test_a_folder_that_cannot_be_written_to_is_no_fault(spare, film, monkeypatch):
    monkeypatch.setattr(spare.state.jobs, "_folder", None)
    monkeypatch.setattr(spare.state.jobs, "_root", pathlib.Path("/proc/serving"))
    answer = post(spare, film.read_bytes())
    assert answer.status_code == 503 and "/proc/serving" in answer.json()["error"]
