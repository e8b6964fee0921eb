"""Looks at the frames of a video, one after the other: black, frozen, repeated ones."""

from typing import Any

import cv2
import numpy as np

from data_pipeline.checking import fingerprints

GRAY = 4 * fingerprints.SIZE  # side of the grey pictures that are compared
LEAST_RUN_S = 1.0  # of black or frozen pictures, to be worth a word
THUMB_WIDTH, THUMB_HEIGHT = 112, 96
_THUMB_QUALITY = 65
_SAME_LEVELS = 1  # by which no pixel of two equal pictures differs
_AROUND = 2  # frames on both sides of one that may repeat the one before
_DIP, _LEAST_CHANGE = 0.25, 0.3  # of the changes around it, and grey levels of these
_PLAIN_LEVELS, _BLACK = 4, 32  # between darkest and brightest of a plain picture


class Watch:
    """Compares frames with those before, as they come.

    Attributes:
        times: of all frames, in seconds.
        thumbs: JPEG files, by frame.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self._plain: list[tuple[int, int, bool]] = []
        self._frozen: list[tuple[int, int]] = []
        self._prints: list[np.ndarray] = []
        self.thumbs: dict[int, bytes] = {}
        self._changes: list[float] = []  # mean grey levels from frame to frame
        self._last: np.ndarray | None = None
        self._still: np.ndarray | None = None  # the first of a run of equal ones
        self._next_s = 0.0

    def add(self, gray: np.ndarray, time_s: float) -> None:
        """Looks at the next frame, (GRAY, GRAY) uint8."""
        index = len(self.times)
        self.times.append(time_s)
        self._look(gray, index)
        while time_s >= self._next_s - 1e-6:
            self._prints.append(fingerprints.shrink(gray))
            # A gap does not count for more than one step.
            self._next_s = max(self._next_s, time_s - fingerprints.STEP_S)
            self._next_s += fingerprints.STEP_S

    def keep(self, index: int, picture: np.ndarray) -> None:
        """Keeps a small JPEG of a frame (H, W, 3)."""
        self.thumbs[index] = thumbnail(picture)

    def _look(self, gray: np.ndarray, index: int) -> None:
        lowest, highest, *_ = cv2.minMaxLoc(gray)
        is_black = highest < _BLACK
        is_plain = is_black or highest - lowest <= _PLAIN_LEVELS
        if is_plain:
            _extend(self._plain, index, is_black)
        if self._last is not None:
            change = cv2.norm(gray, self._last, cv2.NORM_L1) / gray.size
            self._changes.append(change)
        self._last = gray
        if is_plain:
            self._still = None
        elif self._still is None or _differ(gray, self._still):
            self._still = gray
            if self._frozen and self._frozen[-1][1] - self._frozen[-1][0] == 1:
                self._frozen.pop()  # a film that moves would fill the list
            self._frozen.append((index, index + 1))
        else:
            self._frozen[-1] = (self._frozen[-1][0], index + 1)

    @property
    def prints(self) -> np.ndarray:
        """The fingerprint, (T, SIZE, SIZE) uint8."""
        shape = (0, fingerprints.SIZE, fingerprints.SIZE)
        return np.stack(self._prints) if self._prints else np.zeros(shape, np.uint8)

    def long_runs(self, fps: float) -> dict[str, Any]:
        """Returns the runs of `LEAST_RUN_S` or longer."""

        def is_long(run) -> bool:
            start, end = run[:2]
            seconds = self.times[end - 1] - self.times[start]
            return end - start > 1 and seconds + (1 / fps if fps else 0) >= LEAST_RUN_S

        plain, frozen = (tuple(filter(is_long, r)) for r in (self._plain, self._frozen))
        return {"plain": plain, "frozen": frozen}

    @property
    def num_repeats(self) -> int:
        """How many frames change next to nothing, while those around them do."""
        if not self._changes:
            return 0
        padded = np.pad(self._changes, _AROUND, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1)
        before, after = windows[:, :_AROUND].max(1), windows[:, _AROUND + 1 :].max(1)
        around = np.minimum(before, after)
        return int(
            ((windows[:, _AROUND] < _DIP * around) & (around > _LEAST_CHANGE)).sum()
        )


def gray_of(picture: np.ndarray) -> np.ndarray:
    """Returns a picture (H, W, 3) uint8 RGB as (GRAY, GRAY) uint8."""
    small = cv2.resize(picture, (GRAY, GRAY), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def thumbnail(picture: np.ndarray) -> bytes:
    """Returns a small JPEG of a picture (H, W, 3) uint8 RGB, in its own shape."""
    height, width, _ = picture.shape
    scale = min(THUMB_WIDTH / width, THUMB_HEIGHT / height, 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, _THUMB_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return cv2.imencode(".jpg", small[..., ::-1], options)[1].tobytes()


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return cv2.norm(one, other, cv2.NORM_INF) > _SAME_LEVELS


def _extend(runs: list[tuple[int, int, bool]], index: int, is_black: bool) -> None:
    """Adds a frame to the last run, if it follows it, or begins a new one."""
    if runs and runs[-1][1] == index and runs[-1][2] == is_black:
        runs[-1] = (runs[-1][0], index + 1, is_black)
    else:
        runs.append((index, index + 1, is_black))
