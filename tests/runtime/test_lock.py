"""One program writes to a workdir, and however it ends, the folder is free again."""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest

from svtas_jax.errors import InputError
from svtas_jax.runtime import lock
from svtas_jax.training import loop

ROOT = pathlib.Path(__file__).parents[2]
LIMIT_S = 120
HOLD = """
import sys, time
from svtas_jax.errors import InputError
from svtas_jax.runtime import lock
lock.BEAT_S = 0.1
try:
    with lock.held(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.readline()
except InputError as error:
    print(error, flush=True)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in (("BEAT_S", 0.05), ("STALE_S", 1.0), ("POLL_S", 0.02)):
        monkeypatch.setattr(lock, name, value)
    monkeypatch.setattr(lock, "SETTLE_S", 0.2)


def environment():
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}


@contextlib.contextmanager
def other_process(workdir):
    """Starts a process that holds the folder until it is killed or gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workdir)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def write_foreign(workdir, beat=0, **changes):
    """Writes what a process on another machine would write; returns the owner."""
    owner = lock.Owner("other", 7, "2026-11-26 10:00:00+00:00", "elsewhere", "t0")
    owner = dataclasses.replace(owner, **changes)
    record = lock._record(owner, beat).ljust(lock._SIZE)
    (workdir / lock.FILE).write_text(record)
    return owner


def told(workdir):
    return json.loads((workdir / lock.FILE).read_text())


def test_a_second_process_is_refused_and_a_killed_one_leaves_nothing(tmp_path):
    with other_process(tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError) as caught, lock.held(tmp_path):
            raise AssertionError("two at once")
        message = str(caught.value)
        assert f"--workdir={tmp_path} is in use: process {first.pid} on host" in message
        assert told(tmp_path)["since"] in message and "\n" not in message
        first.kill()
        first.wait()
    assert told(tmp_path)["pid"] == first.pid
    begin = time.monotonic()
    with lock.held(tmp_path):  # at once
        assert time.monotonic() - begin < lock.STALE_S
        assert told(tmp_path)["pid"] == os.getpid()
    assert not (tmp_path / lock.FILE).exists()


def test_a_process_that_ends_well_leaves_no_file(tmp_path):
    with other_process(tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        first.communicate("\n")
    assert first.returncode == 0 and not (tmp_path / lock.FILE).exists()


def test_an_error_releases_the_folder(tmp_path):
    @lock.one_at_a_time
    def command(config, workdir, *, number):
        """Says so."""
        if number == 1:
            raise ValueError("broken")
        return number

    with pytest.raises(ValueError, match="broken"):
        command(None, tmp_path / "new", number=1)
    assert command(None, workdir=tmp_path / "new", number=2) == 2
    assert command.__doc__ == "Says so."
    assert not list((tmp_path / "new").iterdir())


def test_the_holder_gives_signs_of_life(tmp_path):
    with lock.held(tmp_path):
        first = told(tmp_path)
        time.sleep(6 * lock.BEAT_S)
        later = told(tmp_path)
    assert later["beat"] > first["beat"]
    assert {**later, "beat": 0} == {**first, "beat": 0}


def test_a_machine_that_gave_no_sign_of_life_is_succeeded(tmp_path, caplog):
    write_foreign(tmp_path)
    begin = time.monotonic()
    with lock.held(tmp_path):
        assert told(tmp_path)["pid"] == os.getpid()
    assert lock.STALE_S <= time.monotonic() - begin < 10 * lock.STALE_S
    assert "process 7 on host other" in caplog.text
    assert "waiting up to 1 s" in caplog.text
    assert "taking the folder over" in caplog.text


@contextlib.contextmanager
def during(workdir, change):
    """Changes the file while the folder is waited for."""
    thread = threading.Timer(lock.STALE_S / 3, change)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_machine_that_lives_is_left_alone(tmp_path):
    write_foreign(tmp_path)
    with (
        during(tmp_path, lambda: write_foreign(tmp_path, beat=1)),
        pytest.raises(InputError, match="in use: process 7 on host other"),
        lock.held(tmp_path),
    ):
        raise AssertionError("two at once")
    assert told(tmp_path)["beat"] == 1


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_machine_that_ends_is_not_waited_for(tmp_path, is_removed):
    path = tmp_path / lock.FILE
    write_foreign(tmp_path)
    free = path.unlink if is_removed else lambda: path.write_text("{}".ljust(512))
    begin = time.monotonic()
    with during(tmp_path, free), lock.held(tmp_path):
        assert time.monotonic() - begin < lock.STALE_S
        assert told(tmp_path)["pid"] == os.getpid()


def test_of_two_machines_that_take_over_the_later_one_wins(tmp_path, monkeypatch):
    write_foreign(tmp_path)
    begin = lock._settle

    def settle(path, owner):
        write_foreign(tmp_path, token="t1", pid=8)
        return begin(path, owner)

    monkeypatch.setattr(lock, "_settle", settle)
    with pytest.raises(InputError, match="in use: process 8"), lock.held(tmp_path):
        raise AssertionError("two at once")
    assert told(tmp_path)["pid"] == 8


def test_who_was_given_up_stops(tmp_path, caplog):
    """Suspended for minutes, say, while another machine took over."""
    with pytest.raises(KeyboardInterrupt), lock.held(tmp_path):
        write_foreign(tmp_path)
        for _ in range(200):
            time.sleep(0.05)
    assert "in use: process 7 on host other" in caplog.text
    assert told(tmp_path)["pid"] == 7  # not ours to remove


def test_without_locks_of_the_system_the_signs_of_life_count(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    with other_process(tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {first.pid}"):
            with lock.held(tmp_path):
                raise AssertionError("two at once")
        first.kill()
        first.wait()
    with lock.held(tmp_path):
        assert told(tmp_path)["pid"] == os.getpid()
    assert not (tmp_path / lock.FILE).exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 3}'])
def test_a_file_that_says_nothing_does_not_lock_for_ever(tmp_path, content):
    (tmp_path / lock.FILE).write_text(content)
    with lock.held(tmp_path):
        assert told(tmp_path)["pid"] == os.getpid()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be written"):
        with lock.held(tmp_path / "file"):
            raise AssertionError


def test_the_command_ends_with_one_message(tmp_path):
    with lock.held(tmp_path):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "svtas_jax.train", f"--workdir={tmp_path}"),
                f"--config={ROOT / 'configs' / 'gtea_sete.py'}",
            ],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert message.startswith(f"error: --workdir={tmp_path} is in use: process")


@pytest.mark.usefixtures("tiny_commands")
def test_a_run_trains_twice_in_one_process(folder, tiny, tmp_path):
    config = tiny.config("sete")
    for name in ("a", "b"):
        folder.add(name, 16, subsets=("train",))
    config.data.update(root=str(folder.root), dataset="tiny")
    config.train.num_epochs = 1
    states = [loop.train(config, str(tmp_path / "run")) for _ in range(2)]
    assert int(states[0].step) == int(states[1].step) > 0
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    assert not (tmp_path / "run" / lock.FILE).exists()


@pytest.mark.slow
@pytest.mark.parametrize("is_foreign", [False, True])
def test_all_processes_of_a_run_are_refused(folder, tmp_path, is_foreign):
    """Also after they have waited together for another machine's sign of life."""
    for name in ("a", "b", "c", "d", "e"):
        folder.add(name, 16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "tests/host_training.py", f"--root={folder.root}"]
    command += [f"--workdir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    holder = contextlib.nullcontext() if is_foreign else lock.held(tmp_path / "run")
    if is_foreign:
        write_foreign(tmp_path / "run")
    with holder:
        processes = [
            subprocess.Popen(
                [*command, f"--distributed=127.0.0.1:{port},2,{index}"],
                **{"env": environment(), "cwd": ROOT, "text": True},
                stderr=subprocess.PIPE,
            )
            for index in range(2)
        ]
        if is_foreign:
            for line in processes[0].stderr:
                if "may still be at work" in line:
                    time.sleep(3)  # some rounds
                    write_foreign(tmp_path / "run", beat=1)
                    break
        said = [process.communicate(timeout=LIMIT_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], said
    assert all("is in use: process" in text for text in said)
    assert not any("Traceback" in text for text in said)
