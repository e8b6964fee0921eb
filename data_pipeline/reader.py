"""Reads one source in a thread of its own and gives the model its steps in time."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from absl import logging

from data_pipeline.cameras import Shot, Source, no_signal
from data_pipeline.sampling import Due, StepClock
from data_pipeline.sources import TIMEOUT_S, kind_of, open_source
from data_pipeline.step_queue import Counters, Policy, Step, StepQueue
from svtas_jax.errors import InputError

GAP_RESET_S = 2.0
_BACK_OFF_S, _MOST_BACK_OFF_S = 0.25, 5.0
_QUEUE_SIZE = 8
_CLOSE_S = 0.4  # for which `close` waits for either thread
# FFmpeg's own time-outs come first, because they say more.
_GRACE, _OPENING_S = 1.25, 3.0  # opening looks at packets as well

Transform = Callable[[np.ndarray], np.ndarray]


class Reader:
    """The steps of one source, which is opened once and read in a thread.

    A live source that breaks off or falls silent is opened again, after 0.25 s at
    first and at most 5 s; its time goes on by the monotonic clock meanwhile. One that
    cannot be opened in the first place is an error, unless the reader is patient, and
    files never begin again.

    Args:
        source: a path, an address, the number of a camera, or "-".
        step_s: seconds of a step, `frame_stride / fps` of the training.
        transform: of a frame (H, W, 3) uint8 RGB, called in the thread.
        policy: of steps that come too fast. By default, live sources drop the oldest
            and what has an end (files, also behind addresses; pipes) waits.
        once: a live source is not opened again.
        patient: a camera or an address that is not there yet is tried again and again.
        timeout_s: for opening a live source, and for every reading.
        gap_reset_s: after a longer gap a new stream begins.
        keeps_pictures: whether steps hold the frame itself, too.
        newest, changed: see `StepQueue`.
    """

    def __init__(
        self,
        source: str,
        *,
        step_s: float,
        transform: Transform = np.asarray,
        policy: Policy | None = None,
        once: bool = False,
        patient: bool = False,
        timeout_s: tuple[float, float] = TIMEOUT_S,
        gap_reset_s: float = GAP_RESET_S,
        keeps_pictures: bool = False,
        newest: int = 1,
        changed: threading.Condition | None = None,
    ) -> None:
        self.source, self._once, self._timeout_s = source, once, timeout_s
        self._patient = patient and kind_of(source) in ("address", "camera", "socket")
        self._trouble = ""
        self._queue = StepQueue(_QUEUE_SIZE, newest=newest, changed=changed)
        clock = StepClock(step_s, gap_reset_s)
        self._stream = _Stream(clock, self._queue, transform, policy, keeps_pictures)
        self._closed = threading.Event()
        self._connection = self._connect()
        self._thread = threading.Thread(
            target=self._supervise, name=f"watch {source}", daemon=True
        )
        self._thread.start()

    def take(self, timeout_s: float | None = None) -> Step | None:
        """Returns the next step, None after the last one and once closed.

        Args:
            timeout_s: to wait for it; None waits as long as the source lives.

        Raises:
            TimeoutError: if none came in this time.
            InputError: after the last step, if the source ended in an error.
        """
        return self._queue.take(timeout_s)

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns at once."""
        return self._queue.is_ready

    @property
    def counters(self) -> Counters:
        """What has happened so far."""
        return self._queue.counters()

    @property
    def trouble(self) -> str:
        """Why the source is to be opened again, "" while frames come."""
        return "" if self._connection.has_begun else self._trouble

    @property
    def end(self) -> tuple[int, float]:
        """The frames so far, and when the last one ends in seconds since the first."""
        return self._stream.num_frames, self._stream.end_s

    def close(self, wait_s: float = _CLOSE_S) -> None:
        """Stops reading; a source that stalls is left to its time-out.

        Args:
            wait_s: at most, for the source to be let go, and as long for the thread
                that watches it. 0 where many readers are closed in a row.
        """
        self._closed.set()
        self._queue.close()
        self._connection.abandon()
        self._thread.join(wait_s)
        self._connection.join(wait_s)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> "_Connection":
        connection = _Connection(self.source, self._timeout_s, self._stream)
        connection.start()
        return connection

    def _supervise(self) -> None:
        delays = _back_off()
        while True:
            connection = self._connection
            error = connection.wait()
            if self._closed.is_set():
                return
            if error is None or not self._may_reconnect(error):
                self._queue.end(error)
                return
            delays = _back_off() if connection.has_begun else delays
            delay_s = next(delays)
            reason = str(error).partition(". ")[0]
            if connection.has_begun or reason != self._trouble:
                logging.warning("%s. Connecting again in %g s.", reason, delay_s)
            self._trouble = reason
            if self._closed.wait(delay_s):
                return
            self._queue.count(reconnects=1)
            self._connection = self._connect()
            if self._closed.is_set():  # `close` may have seen the old one
                self._connection.abandon()

    def _may_reconnect(self, error: BaseException) -> bool:
        may = self._stream.is_live or (self._patient and not self._stream.num_frames)
        return isinstance(error, InputError) and may and not self._once


class _Stream:
    """What goes on across the connections to a source."""

    def __init__(
        self,
        clock: StepClock,
        queue: StepQueue,
        transform: Transform,
        policy: Policy | None,
        keeps_pictures: bool,
    ) -> None:
        self._clock, self._queue, self._transform = clock, queue, transform
        self._policy, self._keeps_pictures = policy, keeps_pictures
        self.is_live = False
        self.num_frames, self._base_index = 0, 0
        self.end_s = self._base_s = self._last_s = self._arrived_s = 0.0

    def begin(self, source: Source) -> None:
        """Begins to count from a connection's first frame, which has just come."""
        if not self.num_frames:
            self._clock.guess_rate(source.fps)
            self.is_live = source.is_live
            if self._policy is None:
                self._policy = Policy.DROP_OLDEST if self.is_live else Policy.WAIT
        else:
            outage_s = max(0.0, source.arrived_s - self._arrived_s)
            self._base_s = self._last_s + outage_s
        self._base_index = self.num_frames

    def judge(self, source: Source, index: int, time_s: float) -> Due:
        """Returns whether a frame of the connection is a step."""
        is_first = not self.num_frames
        self.num_frames = self._base_index + index + 1
        self.end_s = self._base_s + source.end_s
        self._last_s, self._arrived_s = self._base_s + time_s, source.arrived_s
        due = self._clock.at(self._last_s)
        is_gap = due.gap_s > 0 and not is_first
        self._queue.count(captured=1, gaps=int(is_gap))
        return due

    def deliver(self, shot: Shot, due: Due, captured_s: float, begin_s: float) -> bool:
        """Hands a step over, and returns False if nobody will take it any more."""
        assert self._policy is not None
        frame = self._transform(shot.frame)
        step = Step(
            frame=frame,
            index=self._base_index + shot.index,
            time_s=self._base_s + shot.time_s,
            repeats=due.missed,
            dropped=0,
            resets=due.resets,
            captured_s=captured_s,
            decode_s=time.monotonic() - begin_s,
            picture=shot.frame if self._keeps_pictures else None,
        )
        return self._queue.put(step, self._policy)


class _AbandonedError(Exception):
    """A connection's frames are not wanted any more."""


class _Connection(threading.Thread):
    """Reads a source from its opening to its end.

    Attributes:
        has_begun: whether a frame has come.
    """

    def __init__(
        self, name: str, timeout_s: tuple[float, float], stream: _Stream
    ) -> None:
        super().__init__(name=f"read {name}", daemon=True)
        self._address, self._timeout_s, self._stream = name, timeout_s, stream
        self.has_begun = False
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._asked_s: float | None = time.monotonic()  # None while a step is made
        self._due = Due(is_step=False)
        self._source: Source | None = None
        self._begin_s = 0.0
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def wait(self) -> BaseException | None:
        """Waits for the end, or until nothing comes; returns the error."""
        if kind_of(self._address) == "file":
            self._ended.wait()
            return self._error
        opening_s = sum(self._timeout_s) + _OPENING_S
        reading_s = self._timeout_s[1] * _GRACE
        while not self._ended.wait(reading_s / 8):
            limit_s = reading_s if self.has_begun else opening_s
            if self._abandon_after(limit_s):
                return no_signal(
                    "Stream", self._address, f"no frame came for {limit_s:g} s"
                )
        return self._error

    def abandon(self) -> None:
        """Makes the thread end as soon as something comes; `wait` returns at once."""
        with self._lock:
            self._give_up()

    def run(self) -> None:
        try:
            self._read()
        except _AbandonedError:
            pass
        except BaseException as error:  # a fault of ours must reach the consumer too
            self._error = error
        finally:
            self._ended.set()

    def _read(self) -> None:
        with open_source(self._address, timeout_s=self._timeout_s) as source:
            with self._lock:
                self._source, self._asked_s = source, time.monotonic()
                self._check()
            for shot in source.shots(wanted=self._is_wanted):
                if not self._stream.deliver(
                    shot, self._due, source.arrived_s, self._begin_s
                ):
                    return
                with self._lock:
                    self._check()
                    self._asked_s = time.monotonic()

    def _is_wanted(self, index: int, time_s: float) -> bool:
        with self._lock:
            self._check()
            assert self._source is not None and self._asked_s is not None
            arrived_s = self._source.arrived_s
            if not self.has_begun:
                self._stream.begin(self._source)
                self.has_begun = True
            self._due = self._stream.judge(self._source, index, time_s)
            self._begin_s = max(self._asked_s, arrived_s)  # not while it waited
            self._asked_s = None if self._due.is_step else time.monotonic()
            return self._due.is_step

    def _check(self) -> None:
        if self._is_abandoned:
            raise _AbandonedError

    def _abandon_after(self, limit_s: float) -> bool:
        with self._lock:
            if self._asked_s is None or time.monotonic() - self._asked_s < limit_s:
                return False
            self._give_up()
            return True

    def _give_up(self) -> None:
        self._is_abandoned = True
        if self._source is not None:
            self._source.interrupt()
        self._ended.set()


def _back_off() -> Iterator[float]:
    """Returns the seconds to wait before each attempt."""
    doubling = itertools.takewhile(
        lambda s: s < _MOST_BACK_OFF_S, (_BACK_OFF_S * 2**n for n in itertools.count())
    )
    return itertools.chain(doubling, itertools.repeat(_MOST_BACK_OFF_S))
