"""Lets only one program at a time write to the folder of a run; refuses a second one.

The first process of a run holds WORKDIR/run.lock. On one machine this is a lock of the
operating system, which ends with its process, however that ends. But machines that
share a folder may not see each other's locks. So the file also names its holder, and
contains a counter, the beat, that grows every few seconds while the holder lives. A
process that finds the record of another machine watches the beat, and takes the folder
over if it stands still. This compares no two machines' clocks.
"""

import _thread
import contextlib
import dataclasses
import datetime
import functools
import itertools
import json
import os
import pathlib
import secrets
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Concatenate, ParamSpec, TypeVar

import ml_collections
from absl import logging

from svtas_jax.errors import InputError
from svtas_jax.runtime import hosts
from svtas_jax.runtime.files import make_folder, writing

try:
    import fcntl
except ImportError:  # Windows has none: the beat must suffice
    fcntl = None

FILE = "run.lock"
BEAT_S = 5.0  # interval of the beat
STALE_S = 60.0  # a holder whose beat stands still this long is dead
POLL_S = 1.0
SETTLE_S = 2.0  # wait after a takeover; of two at the same time, the later one wins
_SIZE = 512  # bytes of a record; equal lengths, so that one overwrites another whole
_FREE = "{}"

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Owner:
    """The process that writes to a folder, as the file names it."""

    host: str
    pid: int
    since: str
    machine: str  # names a running kernel, whose processes see each other's locks
    token: str


def one_at_a_time(
    command: Callable[Concatenate[ml_collections.ConfigDict, str, P], R],
) -> Callable[Concatenate[ml_collections.ConfigDict, str, P], R]:
    """Makes a function of a config and a workdir hold the workdir while it runs."""

    @functools.wraps(command)
    def alone(config, workdir, *args, **kwargs):
        with held(workdir):
            return command(config, workdir, *args, **kwargs)

    return alone


@contextlib.contextmanager
def held(workdir: str | os.PathLike) -> Iterator[None]:
    """Holds the folder of a run; creates it if it does not exist.

    All processes of the run must enter; the first one holds the folder for all.

    Raises:
        InputError: in all processes, if another program writes to the folder.
    """
    path = make_folder(workdir) / FILE
    attempts = _acquire(path)
    taken: tuple[int, Owner] | None = None
    while True:
        refusal = ""
        if hosts.is_first():
            try:
                taken = next(attempts)
            except InputError as error:
                refusal = str(error)
        is_taken, refusal = hosts.gather((taken is not None, refusal))[0]
        if refusal:
            raise InputError(refusal)
        if is_taken:
            break
    with _beating(path, *taken) if taken else contextlib.nullcontext():
        yield


def _acquire(path: pathlib.Path) -> Iterator[tuple[int, Owner] | None]:
    """Yields None while it waits, then the open file and the owner written to it."""
    while True:
        with contextlib.ExitStack() as opened, writing(path):
            handle, is_new = _open(path)
            opened.callback(os.close, handle)
            if not (yield from _is_free(path, handle, is_new)):
                continue
            owner = _ourselves()
            _write(handle, _record(owner, 0))
            if not is_new:
                yield from _settle(path, owner)
            opened.pop_all()
        yield handle, owner
        return


def _open(path: pathlib.Path) -> tuple[int, bool]:
    """Opens the file; returns the handle and whether the file is new."""
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        with contextlib.suppress(FileNotFoundError):  # removed in the meantime
            return os.open(path, os.O_RDWR), False


def _is_free(
    path: pathlib.Path, handle: int, is_new: bool
) -> Generator[None, None, bool]:
    """Returns whether the open file may be taken; if not, it must be opened again.

    Raises:
        InputError: if another program holds it.
    """
    is_locked = _lock(handle)
    record = _read(path)
    if is_locked is False:
        raise InputError(_in_use(path, record))
    if record is None or not os.path.samestat(os.fstat(handle), os.stat(path)):
        return False  # its holder has just removed it
    owner = _owner(record)
    if is_new or record.strip() == _FREE:
        return True
    if is_locked and owner and owner.machine == _machine():
        logging.info("%s is left from process %d, which has ended", path, owner.pid)
        return True
    return (yield from _watch(path, record))


def _lock(handle: int) -> bool | None:
    """Locks an open file; returns False if another process has locked it, None if the
    system or the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _watch(path: pathlib.Path, before: str) -> Generator[None, None, bool]:
    """Returns True once a record has stood still for long, False if it is gone.

    Raises:
        InputError: as soon as it changes.
    """
    # A file is empty only for a moment after its creation.
    limit_s = STALE_S if before else SETTLE_S
    who = _named(_owner(before))
    logging.warning(
        "%s: %s may still be running: waiting up to %g s for a sign of life",
        *(path, who, limit_s),
    )
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        time.sleep(POLL_S)
        yield
        now = _read(path)
        if now is None or now.strip() == _FREE:
            return False
        if now != before:
            raise InputError(_in_use(path, now))
    logging.warning("%s: no sign of %s: taking the folder over", path, who)
    return True


def _settle(path: pathlib.Path, owner: Owner) -> Iterator[None]:
    """Waits, then checks that no other machine has taken the folder at the same time.

    Raises:
        InputError: if one has.
    """
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        time.sleep(min(POLL_S, SETTLE_S))
        yield
    record = _read(path)
    if record != _record(owner, 0):
        raise InputError(_in_use(path, record))


@contextlib.contextmanager
def _beating(path: pathlib.Path, handle: int, owner: Owner) -> Iterator[None]:
    """Writes the beat to the file while it is entered; removes the file at the end."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(path, handle, owner, stop), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError):
            if not _is_lost(path, owner):
                _write(handle, _FREE)
                path.unlink()
        os.close(handle)


def _beat(path: pathlib.Path, handle: int, owner: Owner, stop: threading.Event) -> None:
    for number in itertools.count(1):
        if stop.wait(BEAT_S):
            return
        with contextlib.suppress(OSError):  # a full disk, for example; try again later
            if _is_lost(path, owner):
                logging.error(
                    "%s This process showed no sign of life for %g s and stops now.",
                    *(_in_use(path, _read(path)), STALE_S),
                )
                _stop_process()
                return
            _write(handle, _record(owner, number))


def _stop_process() -> None:
    """Interrupts the main thread; a process started to ignore that ends at once."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        sys.stderr.flush()
        os._exit(1)
    _thread.interrupt_main()


def _is_lost(path: pathlib.Path, owner: Owner) -> bool:
    now = _owner(_read(path))
    return now is not None and now.token != owner.token


def _write(handle: int, record: str) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, record.ljust(_SIZE).encode())
    os.fsync(handle)


def _read(path: pathlib.Path) -> str | None:
    """Returns the content of the file, None if it is gone.

    Opening it again makes a network file system ask its server.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def _record(owner: Owner, beat: int) -> str:
    return json.dumps({**dataclasses.asdict(owner), "beat": beat})


def _owner(record: str | None) -> Owner | None:
    try:
        stored = json.loads(record or "")
        return Owner(**{f.name: stored[f.name] for f in dataclasses.fields(Owner)})
    except (ValueError, TypeError, KeyError):
        return None


def _ourselves() -> Owner:
    return Owner(
        host=socket.gethostname()[:100],
        pid=os.getpid(),
        since=datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        machine=_machine(),
        token=secrets.token_hex(8),
    )


def _machine() -> str:
    """Names the running kernel, because several hosts may have the same name."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()[:100]}-{uuid.getnode():x}"


def _in_use(path: pathlib.Path, record: str | None) -> str:
    return (
        f"--workdir={path.parent} is in use: {_named(_owner(record))} writes to it. "
        "Two at once would overwrite each other's checkpoints. Wait until that process "
        "ends, stop it, or choose another --workdir. evaluate and stream may read the "
        "folder meanwhile."
    )


def _named(owner: Owner | None) -> str:
    if owner is None:
        return "another process, which has just started,"
    return f"process {owner.pid} on host {owner.host}, started at {owner.since},"
