"""Handles SIGTERM, which schedulers send a few seconds before they stop a process."""

import collections
import signal
import threading
import types
from collections.abc import Callable
from typing import Any

import jax

from svtas_jax.runtime.sharding import any_of

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: run the same command again
_LAG = 2  # `check` reads the answer to a question from this many calls before

_Handler = Callable[[int, types.FrameType | None], Any] | signal.Handlers | int


class Interrupted(Exception):
    """The run was asked to stop."""


class Interruption:
    """Records SIGTERM, instead of ending the process, while it is entered.

    Outside the main thread, where Python allows no signal handlers, it does nothing.
    Several processes stop at the same step, whichever of them receives the signal.
    """

    def __init__(self) -> None:
        self.requested = False  # in this process
        self._before: _Handler | None = None
        self._asked: collections.deque[jax.Array] = collections.deque()

    def __enter__(self) -> "Interruption":
        """Installs the signal handler."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        """Restores the previous handler."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def check(self) -> None:
        """Raises Interrupted if the signal has come; all processes must call.

        With several processes it reads the answer of an earlier call, so as not to wait
        for the devices.
        """
        if jax.process_count() == 1:
            requested = self.requested
        else:
            self._asked.append(any_of(self.requested))
            requested = len(self._asked) > _LAG and bool(self._asked.popleft())
        if requested:
            raise Interrupted

    def _remember(self, number: int, frame: object) -> None:
        self.requested = True
