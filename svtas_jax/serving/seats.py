"""Cameras of browsers: each sends JPEG pictures and gets an answer for every step."""

import dataclasses
import queue
import struct
import threading
import time
from typing import Any

import cv2
import numpy as np

from data_pipeline.sampling import StepClock
from data_pipeline.step_queue import Step
from svtas_jax.errors import InputError
from svtas_jax.live.results import StepResult
from svtas_jax.live.session import LiveSession
from svtas_jax.serving.checking import jpeg_size

NUM_SEATS = 4
MOST_BYTES, MOST_PIXELS = 2_000_000, 4_200_000
_END_OF_IMAGE = b"\xff\xd9"
_HEAD = struct.Struct("<d")


def parse_message(data: bytes) -> tuple[float, bytes]:
    """Splits a message into the capture time in seconds and the JPEG.

    Raises:
        InputError: if it is too short.
    """
    if len(data) <= _HEAD.size:
        raise InputError(
            f"A message of {len(data)} bytes is no picture; send 8 bytes with the "
            "capture time in seconds (float64, little-endian), then a JPEG."
        )
    return _HEAD.unpack_from(data)[0], data[_HEAD.size :]


def read_picture(jpeg: bytes) -> np.ndarray:
    """Decodes a JPEG into (H, W, 3) uint8 RGB.

    Raises:
        InputError: if it is none, or has more than `MOST_PIXELS`.
    """
    try:
        width, height = jpeg_size(jpeg)
    except ValueError as error:
        raise InputError(f"The picture is not a JPEG: {error}.") from error
    if not 0 < width * height <= MOST_PIXELS:
        raise InputError(
            f"The picture has {width}x{height} pixels; send at most "
            f"{MOST_PIXELS / 1e6:g} megapixels."
        )
    image = None
    if jpeg.endswith(_END_OF_IMAGE):  # else the decoder would grey out what is missing
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError("The picture is a damaged JPEG.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclasses.dataclass(eq=False)
class _Turn:
    """A step that waits to be computed, and the answers to it."""

    slot: int
    step: Step
    answers: list[StepResult] | None = None


class Seats:
    """A session with a place for each of a few browsers.

    Steps that wait at the same time are computed together.

    Args:
        session: with one source for each place.
    """

    def __init__(self, session: LiveSession) -> None:
        self._session, self._lock = session, threading.Lock()
        self._free = list(range(session.num_sources))
        self._waiting: queue.SimpleQueue[_Turn] = queue.SimpleQueue()

    @property
    def num_taken(self) -> int:
        """How many browsers use one."""
        return self._session.num_sources - len(self._free)

    def take(self) -> "Seat | None":
        """Returns a free place, None if there is none."""
        with self._lock:
            return Seat(self, self._free.pop(0)) if self._free else None

    def leave(self, slot: int) -> None:
        """Ends a browser's stream."""
        with self._lock:
            self._session.flush(slot)
            self._free.append(slot)

    def advance(self, slot: int, step: Step) -> list[StepResult]:
        """Computes a step, and those that wait with it; returns the answers to it."""
        mine = _Turn(slot, step)
        self._waiting.put(mine)
        with self._lock:
            if mine.answers is None:  # nobody has taken it along
                self._answer(
                    [self._waiting.get() for _ in range(self._waiting.qsize())]
                )
        return mine.answers or []

    def _answer(self, turns: list[_Turn]) -> None:
        results = self._session.advance({turn.slot: turn.step for turn in turns})
        for turn in turns:
            turn.answers = [r for r in results if r.source == turn.slot]

    @property
    def session(self) -> LiveSession:
        """The session that all share."""
        return self._session


class Seat:
    """One browser's stream.

    Args:
        seats: to which it belongs.
        slot: its source in their session.
    """

    def __init__(self, seats: Seats, slot: int) -> None:
        session = seats.session
        self._seats, self._slot = seats, slot
        self._clock = StepClock(session.step_s, session.gap_reset_s)
        self._num_frames, self._began_s, self._last_s = 0, 0.0, -np.inf

    def push(self, message: bytes, captured_s: float) -> dict[str, Any]:
        """Takes a message of the browser; returns the answer to it.

        Args:
            message: see `parse_message`.
            captured_s: when it came, in seconds of the monotonic clock.

        Returns:
            `frame`, its number; `time_s`, and `steps`: what the model answers now.

        Raises:
            InputError: if it holds no picture, or time runs back.
        """
        moment_s, jpeg = parse_message(message)
        if not np.isfinite(moment_s) or moment_s < self._last_s:
            raise InputError(
                f"The capture time {moment_s:g} s runs back or is not finite; a "
                "camera's time only goes on."
            )
        begin_s = time.monotonic()
        picture = read_picture(jpeg)
        if not self._num_frames:
            self._began_s = moment_s
        self._last_s, time_s = moment_s, moment_s - self._began_s
        index, self._num_frames = self._num_frames, self._num_frames + 1
        due = self._clock.at(time_s)
        answers = []
        if due.is_step:
            step = Step(
                frame=self._seats.session.transform(picture),
                index=index,
                time_s=time_s,
                repeats=due.missed,
                dropped=0,
                resets=due.resets,
                captured_s=captured_s,
                decode_s=time.monotonic() - begin_s,
            )
            answers = self._seats.advance(self._slot, step)
        return {"frame": index, "time_s": round(time_s, 3), "steps": answers}

    def leave(self) -> None:
        """Gives the place back."""
        self._seats.leave(self._slot)
