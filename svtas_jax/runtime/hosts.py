"""Runs several processes, on one machine or on many, as one training or evaluation.

Every process runs the same program on the same folders. This module connects them
through JAX, shares out videos and exchanges host values;
`svtas_jax.runtime.sharding` distributes arrays.
"""

import heapq
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from svtas_jax.errors import InputError

Item = TypeVar("Item")

_HEARTBEAT_S = 30  # after this time a silent process counts as lost (JAX: 100 s)
_MEET_S = 300  # within this time all processes must connect
_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # set by srun and mpirun


def connect(where: str) -> None:
    """Connects the processes of a run; call it before JAX uses a device.

    Args:
        where: "HOST:PORT,N,I" for process I of N, the first of which listens at
            HOST:PORT; "auto" to let JAX ask the scheduler (SLURM, MPI, Kubernetes,
            TPU); "none" for a single process; "" for "auto" if srun or mpirun started
            several tasks, else "none".

    Raises:
        InputError: if `where` is none of these, or the processes do not meet.
    """
    if where == "none" or (not where and not _is_launched()):
        return
    options = {} if where in ("", "auto") else _parse(where)
    # If the others do not connect in time, JAX ends this process with its own message.
    logging.info("waiting up to %d s for all processes of the run", _MEET_S)
    if options and options["process_id"]:
        _reach(options["coordinator_address"], where)
    # `svtas_jax.runtime.interruption` handles SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            initialization_timeout=_MEET_S,
            heartbeat_timeout_seconds=_HEARTBEAT_S,
            **options,
        )
    except (ValueError, RuntimeError, KeyError) as error:
        raise InputError(
            f"--distributed={where or 'auto'}: the processes cannot find each other "
            f"({str(error).splitlines()[0]}). Give each --distributed=HOST:PORT,N,I: "
            "where the first one listens, how many there are, and its number from 0."
        ) from error
    if not is_first():
        logging.set_verbosity(logging.WARNING)  # the first one logs for all
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
            f"--distributed={where}: processes are numbered from 0, so the last of "
            f"{count} is {count - 1}."
        )
    return dict(coordinator_address=address, num_processes=count, process_id=index)


def _reach(address: str, where: str) -> None:
    """Waits until the first process listens."""
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
    """Whether this is the first process, which alone writes shared files."""
    return jax.process_index() == 0


def share_out(items: Sequence[Item], sizes: Sequence[int]) -> tuple[Item, ...]:
    """Returns this process's share of the items, in the same order.

    The largest items are assigned first, each to the process with the smallest load.
    Every item is in exactly one share; a share may be empty.
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
    """Returns the values of all processes, in their order; all must call.

    Values are pickled, which is safe: they come only from processes of the same run.
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
    """Lets the first process do some work, while the others wait."""
    if is_first():
        work(*arguments)
    wait()


def wait() -> None:
    """Waits until all processes have called it."""
    if jax.distributed.is_initialized():
        gather(None)


def leave(code: int) -> NoReturn:
    """Ends a failed process at once.

    With several processes, Python's normal exit would wait for all of them.
    """
    if jax.distributed.is_initialized():
        if is_first():  # its end stops the others: leave them time for their messages
            time.sleep(1)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
