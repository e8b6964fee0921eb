"""A small causal run with random weights, and servers of it on free ports."""

import contextlib
import os
import socket
import threading
import time
import types

import httpx
import pytest

from svtas_jax import runs
from svtas_jax.checkpoints import store
from svtas_jax.serving import server, state
from svtas_jax.serving.labelling import state as label_state


@pytest.fixture(scope="session")
def run(tiny, tmp_path_factory):
    """A causal SETE that answers every step of 2 / 15 s."""
    config = tiny.config("sete")
    config.model.causal = True
    model = tiny.model("sete", causal=True)
    meta = store.Meta({}, tiny.classes, fps=15.0, step=7, epoch=1, versions={})
    workdir = tmp_path_factory.mktemp("served") / "run"
    workdir.mkdir()
    variables = tiny.variables(model)
    return runs.TrainedRun(str(workdir), config, "best", meta, model, variables)


@pytest.fixture(scope="session")
def film(tmp_path_factory, numbered):
    """A video of 40 numbered frames."""
    path = tmp_path_factory.mktemp("films") / "film <b>1.avi"
    numbered.write(path, 40)
    return path


@contextlib.contextmanager
def serving(run, sources=(), *, token="", **options):
    """Serves a run on a free port; yields a client of it."""
    with answering(state.open_state(run, sources, **options), token) as client:
        yield client


@contextlib.contextmanager
def labelling(root, run=None, *, token=""):
    """Serves the labelling page of a folder; yields a client of it."""
    found = label_state.open_state(root, run)
    try:
        with answering(found, token) as client:
            yield client
    finally:
        os.close(found.folder_handle)


@contextlib.contextmanager
def answering(found, token=""):
    """Serves a state on a free port; yields a client of it."""
    listening = server.open_socket("127.0.0.1", 0)
    working = server.make_server(found, token=token)
    thread = threading.Thread(target=working.run, args=([listening],), daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=base, timeout=20) as client:
            until(lambda: working.started)
            client.state = found
            yield client
    finally:
        working.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive()


def until(condition, limit_s=20.0):
    """Waits until a condition holds; returns its value."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="session")
def client(run, film):
    """A server of a file and of an address at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    nobody = f"http://user:secret@127.0.0.1:{port}/a?key=secret"
    with serving(run, [str(film), nobody], once=True) as client:
        until(lambda: "live" not in states(client) and "waiting" not in states(client))
        yield client


def states(client):
    """Returns the state of every source."""
    return client.get("/healthz").json()["sources"]


@contextlib.contextmanager
def deadline(process, limit_s):
    """Kills a process if what is done with it takes too long."""
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.fixture(scope="session")
def tools():
    """What tests of servers share."""
    return types.SimpleNamespace(
        serving=serving, labelling=labelling, until=until, deadline=deadline
    )
