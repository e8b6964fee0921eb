"""One program at a time writes to the folder of a run; a second one is refused at once.

The first process of a run holds WORKDIR/run.lock. On one machine that is a lock of the
system, which vanishes with its process, however that ends. Machines that share a folder
may not see each other's locks. So the file also says who holds it, and a number in it
that grows every few seconds shows that the holder lives. Who finds the record of
another machine watches the number, and takes over if it stands still: no two clocks are
compared.
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
import socket
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
except ImportError:  # not on Windows: the number in the file must do
    fcntl = None

FILE = "run.lock"
BEAT_S = 5.0  # the holder counts
STALE_S = 60.0  # a number that stands still for so long belongs to nobody
POLL_S = 1.0
SETTLE_S = 2.0  # of two machines that take over at the same time, the later one wins
_SIZE = 512  # bytes; records of one length overwrite each other whole
_FREE = "{}"

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who writes to a folder: what the file says."""

    host: str
    pid: int
    since: str
    machine: str  # one kernel: processes on it see each other's locks
    token: str


def one_at_a_time(
    command: Callable[Concatenate[ml_collections.ConfigDict, str, P], R],
) -> Callable[Concatenate[ml_collections.ConfigDict, str, P], R]:
    """Lets a function of a config and a workdir hold the folder while it runs."""

    @functools.wraps(command)
    def alone(config, workdir, *args, **kwargs):
        with held(workdir):
            return command(config, workdir, *args, **kwargs)

    return alone


@contextlib.contextmanager
def held(workdir: str | os.PathLike) -> Iterator[None]:
    """Holds the folder of a run, which is made if it is not there.

    All processes of the run must enter. The first one holds it for all.

    Raises:
        InputError: in all of them, if another program writes to the folder.
    """
    path = make_folder(workdir) / FILE
    attempts = _acquire(path)
    taken: tuple[int, Owner] | None = None
    while True:
        trouble = ""
        if hosts.is_first():
            try:
                taken = next(attempts)
            except InputError as error:
                trouble = str(error)
        is_taken, trouble = hosts.gather((taken is not None, trouble))[0]
        if trouble:
            raise InputError(trouble)
        if is_taken:
            break
    with _beating(path, *taken) if taken else contextlib.nullcontext():
        yield


def _acquire(path: pathlib.Path) -> Iterator[tuple[int, Owner] | None]:
    """Yields None while it waits, then the open file and what was written into it."""
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
    """Opens the file; returns the handle and whether it was made just now."""
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        with contextlib.suppress(FileNotFoundError):  # gone between the two
            return os.open(path, os.O_RDWR), False


def _is_free(
    path: pathlib.Path, handle: int, is_new: bool
) -> Generator[None, None, bool]:
    """Returns whether what was opened may be taken; False: open the file anew."""
    is_locked = _lock(handle)
    record = _read(path)
    if is_locked is False:
        raise InputError(_in_use(path, record))
    if record is None or not os.path.samestat(os.fstat(handle), os.stat(path)):
        return False  # its holder has removed it just now
    owner = _owner(record)
    if is_new or record.strip() == _FREE:
        return True
    if is_locked and owner and owner.machine == _machine():
        logging.info("%s was left by process %d, which is gone", path, owner.pid)
        return True
    return (yield from _watch(path, record))


def _lock(handle: int) -> bool | None:
    """Locks an open file; None if the system or the disk knows no locks."""
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
    """Returns True when a record has stood still for long, False if it is gone.

    Raises:
        InputError: as soon as it changes.
    """
    # Who has just made the file writes into it at once.
    limit_s = STALE_S if before else SETTLE_S
    who = _named(_owner(before))
    logging.warning(
        "%s: %s may still be at work: waiting up to %g s for a sign of life",
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
    """Returns if no other machine has taken the folder at the same time."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        time.sleep(min(POLL_S, SETTLE_S))
        yield
    record = _read(path)
    if record != _record(owner, 0):
        raise InputError(_in_use(path, record))


@contextlib.contextmanager
def _beating(path: pathlib.Path, handle: int, owner: Owner) -> Iterator[None]:
    """Counts in the file while it is entered, and removes the file in the end."""
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
        with contextlib.suppress(OSError):  # of a full disk; the next time, perhaps
            if _is_lost(path, owner):
                logging.error(
                    "%s This process was not seen for %g s and stops here.",
                    *(_in_use(path, _read(path)), STALE_S),
                )
                _thread.interrupt_main()
                return
            _write(handle, _record(owner, number))


def _is_lost(path: pathlib.Path, owner: Owner) -> bool:
    now = _owner(_read(path))
    return now is not None and now.token != owner.token


def _write(handle: int, record: str) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, record.ljust(_SIZE).encode())
    os.fsync(handle)


def _read(path: pathlib.Path) -> str | None:
    """Returns what the file says, None if it is gone; opened anew, which makes a
    network's disk ask its server."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def _record(owner: Owner, beat: int) -> str:
    return json.dumps({**dataclasses.asdict(owner), "beat": beat})


def _owner(record: str | None) -> Owner | None:
    try:
        told = json.loads(record or "")
        return Owner(**{f.name: told[f.name] for f in dataclasses.fields(Owner)})
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
    """Names the running kernel; a host's name may be that of others, too."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()[:100]}-{uuid.getnode():x}"


def _in_use(path: pathlib.Path, record: str | None) -> str:
    return (
        f"--workdir={path.parent} is in use: {_named(_owner(record))} writes to it. "
        "Two at once would overwrite each other's checkpoints. Wait until that one "
        "ends, stop it, or choose another --workdir. evaluate and stream may read it "
        "meanwhile."
    )


def _named(owner: Owner | None) -> str:
    if owner is None:
        return "another process, which has just begun,"
    return f"process {owner.pid} on host {owner.host}, begun at {owner.since},"
