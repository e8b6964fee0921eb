"""Being told to stop: a scheduler that takes a machine back sends SIGTERM and waits a
few seconds."""

import collections
import signal
import threading
import types
from collections.abc import Callable
from typing import Any

import jax

from svtas_jax.runtime.sharding import any_of

EXIT_CODE = 75  # of sysexits.h: a failure that passes, try again
_LAG = 2  # calls between a question to all processes and its answer

_Handler = Callable[[int, types.FrameType | None], Any] | signal.Handlers | int


class Interrupted(Exception):
    """The run was asked to stop and has saved where it stands."""


class Interruption:
    """Remembers SIGTERM instead of dying of it, while it is entered.

    Outside the main thread, where Python allows no handlers, it never happens. Several
    processes stop at the same place, whichever of them it came to.
    """

    def __init__(self) -> None:
        self.requested = False  # in this process
        self._before: _Handler | None = None
        self._asked: collections.deque[jax.Array] = collections.deque()

    def __enter__(self) -> "Interruption":
        """Begins to listen."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        """Puts back what was before."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def check(self) -> None:
        """Raises Interrupted if the signal has come; all processes must call.

        Of several processes the answers are read some calls later: the devices are not
        waited for.
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
