"""Several processes, on one machine or on many, that train or evaluate as one.

Every process runs the same program on the same folders. JAX connects them; what they
compute together is `svtas_jax.runtime.sharding`'s. Here: finding each other, sharing
out videos, and telling each other what lies on the hosts.
"""

import heapq
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from svtas_jax.errors import InputError

Item = TypeVar("Item")

# A process that vanished without a word is missed after so long (JAX's own: 100 s).
_HEARTBEAT_S = 30
_MEET_S = 300
_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # set by srun and mpirun


def connect(where: str) -> None:
    """Joins the processes of a run; before JAX touches a device.

    Args:
        where: "HOST:PORT,N,I" for process I of N, the first of which listens at
            HOST:PORT; "auto" for what the scheduler tells JAX (SLURM, MPI, Kubernetes,
            TPU); "none" for a single process; "" for "auto" in a step of several tasks
            of SLURM or MPI and "none" elsewhere.

    Raises:
        InputError: if `where` is none of these, or the processes do not meet.
    """
    if where == "none" or (not where and not _is_launched()):
        return
    place = {} if where in ("", "auto") else _parse(where)
    # JAX ends the process, without a word of ours, if the others do not come in time.
    logging.info("waiting up to %d s for all processes of the run", _MEET_S)
    if place and place["process_id"]:
        _reach(place["coordinator_address"], where)
    # SIGTERM is answered by `svtas_jax.runtime.interruption`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            initialization_timeout=_MEET_S,
            heartbeat_timeout_seconds=_HEARTBEAT_S,
            **place,
        )
    except (ValueError, RuntimeError, KeyError) as error:
        raise InputError(
            f"--distributed={where or 'auto'}: the processes do not find each other "
            f"({str(error).splitlines()[0]}). Tell each by --distributed=HOST:PORT,N,I "
            "where the first one listens, how many they are, and its number from 0."
        ) from error
    if not is_first():
        logging.set_verbosity(logging.WARNING)  # the first one tells it all
    logging.info("%d processes, %d devices", jax.process_count(), len(jax.devices()))


def _is_launched() -> bool:
    return any(int(os.environ.get(name) or 1) > 1 for name in _TASKS)


def _parse(where: str) -> dict[str, Any]:
    address, *numbers = where.split(",")
    _, _, port = address.rpartition(":")
    if not (
        port.isdecimal() and len(numbers) == 2 and all(map(str.isdecimal, numbers))
    ):
        raise InputError(
            f"--distributed={where} is neither auto, none nor HOST:PORT,N,I, such as "
            "10.0.0.1:1234,4,0 for the first of four processes."
        )
    count, index = map(int, numbers)
    if index >= count:
        raise InputError(
            f"--distributed={where}: processes are numbered from 0, so that of "
            f"{count} the last is {count - 1}."
        )
    return dict(coordinator_address=address, num_processes=count, process_id=index)


def _reach(address: str, where: str) -> None:
    """Returns when the first process listens."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + _MEET_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"--distributed={where}: nobody listens at {address} ({error}). "
                    "Start process 0 there, on a port that the others can reach."
                ) from error
            time.sleep(0.5)


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def share_out(items: Sequence[Item], sizes: Sequence[int]) -> tuple[Item, ...]:
    """Returns this process's share of some items, in their order.

    The largest go first, each to the process that has least to do. Every item is in
    exactly one share; there may be none for a process.
    """
    loads = [(0, process) for process in range(jax.process_count())]
    kept = []
    for index in np.argsort(-np.asarray(sizes), kind="stable"):
        load, process = loads[0]
        heapq.heapreplace(loads, (load + sizes[index], process))
        if process == jax.process_index():
            kept.append(index)
    return tuple(items[index] for index in sorted(kept))


def gather(value: Any) -> list[Any]:
    """Returns what every process gave, in the order of their numbers; all must call.

    Values must be picklable: they go between processes of one run, never to a file.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(data)], np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded)
    return [
        pickle.loads(row[:size].tobytes())
        for row, size in zip(rows, sizes.ravel(), strict=True)
    ]


def once(work: Callable[..., None], *arguments: Any) -> None:
    """Lets the first process do some work that the others wait for."""
    if is_first():
        work(*arguments)
    wait()


def wait() -> None:
    """Returns when all processes have come here."""
    if jax.distributed.is_initialized():
        gather(None)


def leave(code: int) -> None:
    """Ends a process that failed; the others must not wait for it.

    Python's own way out would: it ends with a barrier of all processes.
    """
    if jax.distributed.is_initialized():
        if is_first():  # the others end with it: let them say what they have to say
            time.sleep(1)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
