"""Seconds and frame rates from a film's time stamps: headers lie about both."""

import dataclasses
import fractions
import math
from collections.abc import Iterable

import av
import numpy as np

MAX_FPS = 240.0  # of a header that no time stamps confirm: more is a time base
_MAX_STAMPED_FPS = 1000.0  # time stamps that come faster are not seconds
_SAME_RATE = 1.25  # factor by which a header may differ from the time stamps
_FALLBACK_STEP_S = 1 / 25  # between frames that nothing is known of
_GAP_S, _GAP_STEPS = 1.0, 4.0  # a longer step than both is a gap, no rate
_JUMP_S = 10.0  # a longer step may be a new clock, not time that passed


@dataclasses.dataclass
class Clock:
    """Turns the time stamps of frames, in order, into seconds since the first one.

    A frame without a time stamp comes one step after the last, and so does one whose
    time stamp begins a new clock, as where recordings are joined. Time never runs back.

    Attributes:
        time_base: seconds of a unit of the time stamps.
        fps: of the film, 0 if unknown.
        may_jump: whether the format allows steps forward into a new clock.
    """

    time_base: float
    fps: float
    may_jump: bool
    _last: float | None = dataclasses.field(default=None, init=False)
    _offset: float | None = dataclasses.field(default=None, init=False)
    _step: float = dataclasses.field(default=_FALLBACK_STEP_S, init=False)

    def time_of(self, frame: av.VideoFrame) -> float:
        """Returns the seconds of the next frame."""
        stamp = frame.dts if frame.pts is None else frame.pts
        next_s = 0.0 if self._last is None else self._last + self._step
        if stamp is None:
            time_s = next_s
        else:
            stamp_s = stamp * self.time_base
            if self._offset is None:
                self._offset = next_s - stamp_s
            time_s = stamp_s + self._offset
            if self._last is not None and self._is_jump(time_s - self._last):
                time_s = next_s
                self._offset = time_s - stamp_s
        time_s = max(time_s, self._last or 0.0)
        self._last, self._step = time_s, self._duration_s(frame)
        return time_s

    @property
    def end_s(self) -> float:
        """When the last frame ends."""
        return 0.0 if self._last is None else self._last + self._step

    def _is_jump(self, step_s: float) -> bool:
        return step_s < -self._step or (self.may_jump and step_s > _JUMP_S)

    def _duration_s(self, frame: av.VideoFrame) -> float:
        """A duration of next to nothing is a placeholder."""
        usual = 1 / self.fps if self.fps else _FALLBACK_STEP_S
        stated_s = (frame.duration or 0) * self.time_base
        return stated_s if stated_s > usual / 4 else usual


def time_base_of(stream: av.video.stream.VideoStream) -> fractions.Fraction:
    """Returns the seconds of a unit of a stream's time stamps."""
    unit = stream.time_base
    assert unit  # FFmpeg gives one to whatever it opens
    # PyAV 19 has a class of its own for ratios.
    return fractions.Fraction(unit.numerator, unit.denominator)


def clock_of(stream: av.video.stream.VideoStream, fps: float) -> Clock:
    """Returns the clock of a film of this frame rate."""
    may_jump = stream.container.format.flags & av.format.Flags.ts_discont.value
    return Clock(float(time_base_of(stream)), fps, bool(may_jump))


def frame_rate(
    stream: av.video.stream.VideoStream, stamps_s: Iterable[float | None]
) -> float:
    """Returns the frame rate of a film, 0.0 if neither header nor time stamps tell it.

    The header's is taken where time stamps agree with it, or there are none. One that
    is a time base (1000, 90000), or wrong by a factor, gives way to the time stamps.

    Args:
        stream: the film.
        stamps_s: seconds of some frames, in any order.
    """
    stamped = rate_of(stamps_s)
    # The mean over a file without time stamps is FFmpeg's invention, its guess is not.
    rates = stream.guessed_rate, stream.average_rate, stream.base_rate
    stated = [float(rate) for rate in rates if rate]
    near = [r for r in stated if stamped and 1 / _SAME_RATE < r / stamped < _SAME_RATE]
    if near:
        return min(near, key=lambda rate: abs(rate - stamped))
    if stamped:
        return stamped
    return next((rate for rate in stated if 0 < rate <= MAX_FPS), 0.0)


def rate_of(stamps_s: Iterable[float | None]) -> float:
    """Returns the mean rate of frames at these seconds, gaps left out, or 0.0."""
    stamps = np.unique([s for s in stamps_s if s is not None and math.isfinite(s)])
    steps = np.diff(stamps)
    if not len(steps):
        return 0.0
    rate = 1 / steps[~is_gap(steps)].mean()
    return float(rate) if rate <= _MAX_STAMPED_FPS else 0.0


def is_gap(steps_s: np.ndarray) -> np.ndarray:
    """Returns which steps between frames, (n,) seconds, are gaps: (n,) bool."""
    return (steps_s > _GAP_S) & (steps_s > _GAP_STEPS * np.median(steps_s))
