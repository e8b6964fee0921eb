"""The stream command's function: lines, errors and interruptions."""

import io
import json
import os
import signal
import threading
import time
import types

import pytest
from loopback import plays

from data_pipeline.video import count_frames, read_frames
from svtas_jax import runs
from svtas_jax.errors import InputError, MissingInputError, SourceError
from svtas_jax.smoothing import Smoothing
from svtas_jax.stream import Options, stream


def run_of(tiny, **model):
    config = tiny.config(model.pop("system"))
    config.model.update(model)
    built = tiny.model(config.model.system, **model)
    meta = types.SimpleNamespace(class_names=tiny.classes, fps=15.0)
    return runs.TrainedRun("runs/x", config, "best", meta, built, tiny.variables(built))


@pytest.fixture(scope="module")
def causal(tiny):
    return run_of(tiny, system="sete", causal=True)


@pytest.fixture(scope="module")
def chunked(tiny):
    return run_of(tiny, system="sete")


def lines_of(run, *sources, **options):
    out = io.StringIO()
    try:
        stream(run, [str(source) for source in sources], out, Options(**options))
    finally:
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return lines


@pytest.fixture
def film(tmp_path, films):
    return films.write(tmp_path / "a.mp4", range(20), rate=15)


def test_causal_models_have_a_line_for_every_change_and_others_for_every_chunk(
    causal, chunked, film
):
    changes = lines_of(causal, film)
    assert changes[-1]["label"] is None and changes[-1]["frame"] == 20
    ends = [line["ended"]["frames"][1] for line in changes[1:]]
    assert ends == [line["frame"] for line in changes[1:]]
    chunks = lines_of(chunked, film)
    assert [line["frames"] for line in chunks] == [[0, 8], [8, 16], [16, 20]]
    steps = lines_of(causal, film, every="step")
    assert [line["frame"] for line in steps] == list(range(0, 20, 2))
    assert lines_of(causal, film, every="chunk")[0]["frames"] == [0, 8]


def test_several_sources_have_the_lines_of_each(causal, films, tmp_path):
    paths = [
        films.write(tmp_path / f"{n}.mp4", range(n, n + 20), rate=15) for n in (0, 90)
    ]
    together = lines_of(causal, *paths, every="step")
    for path in paths:
        own = [line for line in together if line["source"] == str(path)]
        alone = lines_of(causal, path, every="step")
        assert [line["label"] for line in own] == [line["label"] for line in alone]
        assert [line["frame"] for line in own] == [line["frame"] for line in alone]


def test_the_error_of_a_source_comes_after_the_lines_of_all(
    causal, film, camera, tmp_path
):
    out = io.StringIO()
    with pytest.raises(MissingInputError, match="does not exist"):
        stream(causal, [str(tmp_path / "no.mp4"), str(film)], out)
    assert json.loads(out.getvalue().splitlines()[-1])["frame"] == 20
    address, _ = camera(plays(range(30)))
    out = io.StringIO()
    with pytest.raises(SourceError, match="broke off after 30 frames"):
        stream(causal, [address], out, Options(once=True))
    assert json.loads(out.getvalue().splitlines()[-1])["frame"] == 30


def test_a_source_that_never_was_one_is_a_wrong_input(causal, camera):
    address, _ = camera(lambda client: client.send(b"HTTP/1.0 404 Not Found\r\n\r\n"))
    with pytest.raises(InputError, match="gives no pictures") as failure:
        lines_of(causal, address)
    assert not isinstance(failure.value, SourceError)


def test_labels_are_smoothed_written_and_drawn(causal, films, tmp_path, caplog):
    caplog.set_level("INFO")
    sources = [
        films.write(tmp_path / f"{n}.mp4", range(n, n + 20), rate=15) for n in (0, 90)
    ]
    wanted = dict(output=str(tmp_path / "labels"), overlay=str(tmp_path / "videos"))
    lines_of(causal, *sources, every="step", **wanted)
    for source in sources:
        labels = (tmp_path / "labels" / f"{source.stem}.txt").read_text("utf-8")
        steps = lines_of(causal, source, every="step")
        assert labels.splitlines()[::2] == [step["label"] for step in steps]
        assert len(labels.splitlines()) == 20
        assert count_frames(tmp_path / "videos" / f"{source.stem}.mp4") == 10
    assert "smoothing" not in caplog.text
    held = lines_of(causal, sources[0], smoothing=Smoothing(min_duration_s=60.0))
    assert [line["label"] for line in held] == [held[0]["label"], None]
    assert "smoothing showed 0 changes, 0.00 s late" in caplog.text


def test_nothing_half_written_is_left(causal, films, tmp_path, camera):
    film, folder = films.write(tmp_path / "a.mp4", range(20), rate=15), tmp_path / "out"
    folder.mkdir()
    with pytest.raises(InputError, match="does not end in"):
        lines_of(
            causal,
            film,
            output=str(folder / "a.txt"),
            overlay=str(folder / "a.avi"),
        )
    with pytest.raises(InputError, match="write over the source"):
        lines_of(causal, film, overlay=str(film))
    assert not list(folder.iterdir()) and films.number(read_frames(film, [3])[0]) == 3
    address, _ = camera(plays(range(30)))
    with pytest.raises(SourceError):
        lines_of(causal, address, once=True, output=str(folder / "a.txt"))
    (path,) = folder.iterdir()  # what was seen before it broke off is complete
    assert len(path.read_text("utf-8").splitlines()) == 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_what_was_in_hand_is_answered(
    chunked, camera, number
):
    address, _ = camera(plays(range(48), lambda client: client.stall()))
    out, sent_s = io.StringIO(), []

    def interrupt():
        sent_s.append(time.monotonic())
        os.kill(os.getpid(), number)

    timer = threading.Timer(2.5, interrupt)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        stream(chunked, [address], out, Options())
    assert time.monotonic() - sent_s[0] < 1.0
    assert signal.getsignal(number) is before
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[-1]["frames"][1] == 48  # also the chunk that was not full
