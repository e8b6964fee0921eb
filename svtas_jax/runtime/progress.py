"""Formats a line with the progress, the pace and the remaining time of long work."""

import collections
import dataclasses
import math
import time
from collections.abc import Callable

WINDOW_S = 60.0  # the pace covers the last minute, so it soon excludes compilation


@dataclasses.dataclass
class Progress:
    """Measures the pace of work from step `first` to step `last`.

        progress = Progress(first=0, last=500)
        ...
        progress.add(num_frames)
        logging.info(progress.line(step, "loss 0.51"))
        # step 120/500 (24%) loss 0.51 | 85 frames/s | ETA 3m20s

    Attributes:
        first: steps done before, by a run that is resumed.
        last: steps in total.
        unit: what `add` counts.
        clock: returns the time in seconds.
    """

    first: int
    last: int
    unit: str = "frames"
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self):
        self._amount = 0.0
        # (time, step, amount) of the recent lines.
        self._marks = collections.deque([(self.clock(), self.first, self._amount)])

    def add(self, amount: float) -> None:
        """Adds the amount, in `unit`, that was done since the last call."""
        self._amount += amount

    def line(self, step: int, text: str = "") -> str:
        """Returns the line after `step` steps, with `text` in it."""
        self._mark(step)
        share = step / self.last if self.last else 1.0
        what = f"step {step}/{self.last} ({share:.0%}) {text}".rstrip()
        pace = f"{_digits(self._rate(2))} {self.unit}/s"
        return f"{what} | {pace} | ETA {format_duration(self.eta_s)}"

    @property
    def eta_s(self) -> float:
        """Seconds to the end at the recent pace; infinite if the pace is 0."""
        remaining = self.last - self._marks[-1][1]
        if remaining <= 0:
            return 0.0
        steps_per_s = self._rate(1)
        return remaining / steps_per_s if steps_per_s else math.inf

    def _mark(self, step: int) -> None:
        now = self.clock()
        self._marks.append((now, step, self._amount))
        # Keep one mark from before the window, so that the pace spans the whole window,
        # or one interval if that is longer.
        while len(self._marks) > 2 and now - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()

    def _rate(self, field: int) -> float:
        first, last = self._marks[0], self._marks[-1]
        passed = last[0] - first[0]
        return (last[field] - first[field]) / passed if passed > 0 else 0.0


def format_duration(seconds: float) -> str:
    """Formats a duration: 45s, 3m20s, 2h05m, 3d04h; ? if it is infinite."""
    if not math.isfinite(seconds):
        return "?"
    seconds = round(seconds)
    for big, small, factor, size in (
        ("d", "h", 86400, 3600),
        ("h", "m", 3600, 60),
        ("m", "s", 60, 1),
    ):
        if seconds >= factor:
            return f"{seconds // factor}{big}{seconds % factor // size:02d}{small}"
    return f"{seconds}s"


def _digits(rate: float) -> str:
    return f"{rate:.3g}" if rate < 1000 else f"{rate:.0f}"
