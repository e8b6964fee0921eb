"""The command as a user runs it, in a process of its own."""

import dataclasses
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import time
import types
import urllib.request

import pytest

from svtas_jax import serve
from svtas_jax.errors import InputError
from svtas_jax.serving import server
from svtas_jax.smoothing import Smoothing

ROOT = pathlib.Path(serve.__file__).parents[1]

PROGRAM = """
import pickle, sys
from svtas_jax.runtime import process
from svtas_jax.serving import server, state
process.log_to_stderr()
run = pickle.load(open(sys.argv[1], "rb"))
with server.open_socket("127.0.0.1", 0) as listening:
    server.serve(state.open_state(run, sys.argv[2:]), listening)
print("it has ended", flush=True)
process.end_at_once()
"""


def test_a_missing_extra_is_one_message(monkeypatch):
    find = serve.importlib.util.find_spec
    monkeypatch.setattr(
        serve.importlib.util,
        "find_spec",
        lambda name: None if name == "uvicorn" else find(name),
    )
    with pytest.raises(InputError, match=r"needs uvicorn, .*svtas_jax\[serve\]"):
        serve.check_extra()


def test_the_command_passes_its_flags_on(monkeypatch, run):
    given = types.SimpleNamespace(
        label=None,
        workdir="w",
        checkpoint="latest",
        engine="openvino",
        source=["0", "film.mp4"],
        host="127.0.0.1",
        port=0,
        token="a-long-secret",
        once=True,
        gap_reset=3.0,
        max_upload_mb=7.0,
        min_duration=0.0,
        min_confidence=0.0,
        hysteresis=0.2,
    )
    calls = []
    monkeypatch.setattr(serve.flags, "FLAGS", given)
    monkeypatch.setattr(
        serve.runs, "load", lambda *names, **own: calls.append((names, own)) or run
    )
    monkeypatch.setattr(
        server, "serve", lambda state, _, **options: calls.append((state, options))
    )
    serve.main()
    names, (state, options) = calls
    assert names == (("w", "latest"), {"engine": "openvino"})
    assert options == {"host": "127.0.0.1", "token": "a-long-secret"}
    assert [camera.source for camera in state.cameras.all] == ["0", "film.mp4"]
    assert state.cameras._once and state.most_bytes == 7_000_000
    assert state.seats.session.gap_reset_s == 3.0
    assert state.seats.session.smoothing == Smoothing(hysteresis=0.2)
    assert state.about["model"]["smoothing"] == {"hysteresis": 0.2}
    given.token, given.host = "", "0.0.0.0"
    with pytest.raises(InputError, match="--token=SECRET is needed"):
        serve.main()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_it_ends_within_about_a_second(run, tools, tmp_path, number):
    """Even while a source stalls and a client listens."""
    fresh = dataclasses.replace(run)  # without what it has compiled
    (tmp_path / "run").write_bytes(pickle.dumps(fresh))
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-c", PROGRAM, tmp_path / "run", tmp_path / "pipe"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **options) as process:
        with tools.deadline(process, 60):
            line = next(text for text in process.stderr if "http://" in text)
        address = re.search(r"http://[\d.:]+/", line)[0]
        with urllib.request.urlopen(f"{address}events", timeout=20) as events:
            assert events.readline().startswith(b":")
            begin_s = time.monotonic()
            process.send_signal(number)
            # The interpreter's own end takes longer on a busy machine.
            assert "it has ended" in process.stdout.readline()
            assert time.monotonic() - begin_s < 2.5
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
