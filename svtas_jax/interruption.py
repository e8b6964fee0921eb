"""Being told to stop: a scheduler that takes a machine back sends SIGTERM and waits a
few seconds."""

import signal
import threading

EXIT_CODE = 75  # of sysexits.h: a failure that passes, try again


class Interrupted(Exception):
    """The run was asked to stop and has saved where it stands."""


class Interruption:
    """Remembers SIGTERM instead of dying of it, while it is entered.

    Outside the main thread, where Python allows no handlers, it never happens.
    """

    def __init__(self) -> None:
        self._requested = False
        self._before: signal.Handlers | None = None

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
        """Raises Interrupted if the signal has come."""
        if self._requested:
            raise Interrupted

    def _remember(self, number: int, frame: object) -> None:
        self._requested = True
