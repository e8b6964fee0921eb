"""Hands the steps of a stream from the thread that reads to the one that computes."""

import collections
import dataclasses
import enum
import threading
import time

import numpy as np

_LAGS = 512  # the last ones, of which the 95th percentile is taken


class Policy(enum.Enum):
    """What happens to steps that come faster than they are taken."""

    WAIT = "wait"  # the reader waits: nothing is lost
    DROP_OLDEST = "drop_oldest"  # the newest ones are kept: the lag is bounded


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A frame for the model.

    Attributes:
        frame: uint8 RGB, as the reader's transform leaves it.
        index: of the frame in its source, skipped ones counted.
        time_s: seconds since the source's first frame, outages counted.
        repeats: steps before it for which the source had no frame. The frame of the
            last step taken stands in for them.
        dropped: steps before it that were not taken in time.
        resets: whether a stream begins with it: the first one, and that after a gap.
        captured_s: when it arrived, in seconds of the monotonic clock.
        decode_s: seconds spent on decoding and transforming it.
        picture: (H, W, 3) uint8 RGB, the frame itself, if the reader keeps it.
    """

    frame: np.ndarray
    index: int
    time_s: float
    repeats: int
    dropped: int
    resets: bool
    captured_s: float
    decode_s: float
    picture: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Counters:
    """What has happened to the frames of a source.

    Attributes:
        captured: frames that came.
        used: steps that were taken.
        dropped: steps that newer ones replaced before they were taken.
        repeated: steps, before those taken, for which the source had no frame.
        gaps: holes in the source's time in which a step was due.
        reconnects: attempts to open the source again.
        lag_s: from arrival to taking, of the last step taken.
        lag_p95_s: its 95th percentile over the last 512 steps.
    """

    captured: int = 0
    used: int = 0
    dropped: int = 0
    repeated: int = 0
    gaps: int = 0
    reconnects: int = 0
    lag_s: float = 0.0
    lag_p95_s: float = 0.0


class StepQueue:
    """A bounded queue between two threads, which can end in an error.

    Args:
        size: steps that wait at most under `Policy.WAIT`.
        newest: steps that wait at most under `Policy.DROP_OLDEST`.
        changed: notified of every change; several queues may share one, so that their
            taker can wait for all of them.
    """

    def __init__(
        self,
        size: int,
        *,
        newest: int = 1,
        changed: threading.Condition | None = None,
    ) -> None:
        self._size, self._newest = size, newest
        self._changed = changed or threading.Condition()
        self._steps: collections.deque[Step] = collections.deque()
        self._lags: collections.deque[float] = collections.deque(maxlen=_LAGS)
        self._counters = Counters()
        self._has_ended = self._is_closed = False
        self._error: BaseException | None = None

    def put(self, step: Step, policy: Policy) -> bool:
        """Adds a step, and returns False if nobody will take it any more."""
        with self._changed:
            if policy is Policy.WAIT:
                self._changed.wait_for(
                    lambda: len(self._steps) < self._size or self._is_closed
                )
            if self._is_closed:
                return False
            self._steps.append(step)
            if policy is Policy.DROP_OLDEST and len(self._steps) > self._newest:
                oldest = self._steps.popleft()
                self._steps[0] = _merged(oldest, self._steps[0])
                self._add(dropped=1)
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float | None) -> Step | None:
        """Returns the next step, None after the last one or once closed.

        Raises:
            TimeoutError: if none came in this time.
            BaseException: the error in which the source ended, after the last step.
        """
        with self._changed:
            if not self._changed.wait_for(self._is_ready, timeout_s):
                raise TimeoutError(f"No step came within {timeout_s:g} s.")
            if self._is_closed:
                return None
            if self._steps:
                return self._taken(self._steps.popleft())
            if self._error is not None:
                raise self._error
            return None

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns at once."""
        with self._changed:
            return self._is_ready()

    def count(self, *, captured: int = 0, gaps: int = 0, reconnects: int = 0) -> None:
        """Adds to the counters."""
        with self._changed:
            self._add(captured=captured, gaps=gaps, reconnects=reconnects)

    def counters(self) -> Counters:
        """Returns the counters as they are now."""
        with self._changed:
            counters, lags = self._counters, list(self._lags)
        p95 = float(np.percentile(lags, 95)) if lags else 0.0
        return dataclasses.replace(counters, lag_p95_s=p95)

    def end(self, error: BaseException | None) -> None:
        """Says that no more steps come, and why."""
        with self._changed:
            self._has_ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Drops what waits and wakes both threads."""
        with self._changed:
            self._is_closed = True
            self._steps.clear()
            self._changed.notify_all()

    def _is_ready(self) -> bool:
        return bool(self._steps) or self._has_ended or self._is_closed

    def _taken(self, step: Step) -> Step:
        lag_s = time.monotonic() - step.captured_s
        self._lags.append(lag_s)
        self._add(used=1, repeated=step.repeats)
        self._counters = dataclasses.replace(self._counters, lag_s=lag_s)
        self._changed.notify_all()
        return step

    def _add(self, **more: int) -> None:
        sums = {name: getattr(self._counters, name) + n for name, n in more.items()}
        self._counters = dataclasses.replace(self._counters, **sums)


def _merged(old: Step, new: Step) -> Step:
    """Returns the step that follows one which nobody took."""
    if new.resets:
        return new
    if old.resets:  # the new one begins the stream: nothing lies before it
        return dataclasses.replace(new, resets=True, repeats=0, dropped=0)
    return dataclasses.replace(
        new,
        repeats=old.repeats + new.repeats,
        dropped=old.dropped + 1 + new.dropped,
    )
