"""One line that says how far long work is, how fast it goes and when it ends."""

import dataclasses
import math

WINDOW_S = 60.0  # the rate is that of the last minute: compilation soon drops out of it


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where some work of `total` steps stands; `advance` returns the next standing.

    The clock is the caller's (`time.monotonic()`), so that this stays a pure value:

        progress = Progress(total=500).start(0, now=time.monotonic())
        ...
        progress = progress.advance(step, num_frames=1024, now=time.monotonic())
        logging.info(progress.line(loss=0.51))
        # step 120/500 (24%) loss 0.51 | 85 frames/s | ETA 3m20s

    Attributes:
        total: steps when all is done.
        unit: what a step is called.
        marks: (time in s, step, frames since the start) of the recent past.
    """

    total: int
    unit: str = "step"
    marks: tuple[tuple[float, int, int], ...] = ()

    def start(self, step: int, *, now: float) -> "Progress":
        """Returns the standing where work begins or is resumed after `step` steps."""
        return dataclasses.replace(self, marks=((now, step, 0),))

    def advance(self, step: int, *, num_frames: int, now: float) -> "Progress":
        """Returns the standing at `step`, `num_frames` after the last one."""
        if not self.marks:
            raise ValueError("Progress.start comes before Progress.advance.")
        marks = (*self.marks, (now, step, self.marks[-1][2] + num_frames))
        recent = [i for i, mark in enumerate(marks) if now - mark[0] <= WINDOW_S]
        # The oldest mark kept is the last one before the window: the rate then spans
        # at least the window, and one interval when steps are slower than that.
        first = min(max(0, recent[0] - 1), len(marks) - 2)
        return dataclasses.replace(self, marks=marks[first:])

    @property
    def frames_per_s(self) -> float:
        """Frames a second of the recent past, 0 before the first step."""
        return self._rate(2)

    @property
    def eta_s(self) -> float:
        """Seconds to the end at the recent pace, infinity before the first step."""
        steps_per_s = self._rate(1)
        remaining = self.total - (self.marks[-1][1] if self.marks else 0)
        if remaining <= 0:
            return 0.0
        return remaining / steps_per_s if steps_per_s else math.inf

    def line(self, **values: float) -> str:
        """Returns the line, with `values` such as loss=0.51 in it."""
        step = self.marks[-1][1] if self.marks else 0
        share = step / self.total if self.total else 1.0
        what = [f"{self.unit} {step}/{self.total} ({share:.0%})"]
        what += [f"{name} {value:.3g}" for name, value in values.items()]
        parts = [" ".join(what), f"{self.frames_per_s:.3g} frames/s"]
        if self.frames_per_s >= 1000:
            parts[1] = f"{self.frames_per_s:.0f} frames/s"
        return " | ".join([*parts, f"ETA {format_duration(self.eta_s)}"])

    def _rate(self, field: int) -> float:
        if len(self.marks) < 2:
            return 0.0
        first, last = self.marks[0], self.marks[-1]
        passed = last[0] - first[0]
        return (last[field] - first[field]) / passed if passed > 0 else 0.0


def format_duration(seconds: float) -> str:
    """Returns a duration as people say it: 45s, 3m20s, 2h05m, 3d04h; ? if infinite."""
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
