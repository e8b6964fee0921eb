"""Draws a step's answer on its picture: label, timeline, time, lag, dropped steps."""

import math
import unicodedata
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.live.results import StepResult

SHOWN_S = 30.0  # of the timeline

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL = 22  # height of a capital letter in pixels at scale 1
_LEAST_CAPITAL = 7  # smaller letters cannot be read
_WHITE, _GREY, _TRACK = (255, 255, 255), (200, 200, 200), (90, 90, 90)
_DARKNESS = 0.82  # how much of the picture the panel hides
# From version 5 on OpenCV draws every letter; before, only those of ASCII.
_DRAWS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5


class Shown(NamedTuple):
    """A run of one label; `end_s` is the time of the next one, or of its last step."""

    class_index: int
    start_s: float
    end_s: float


class History:
    """The last labels of one source, and the number of steps that were dropped.

    Args:
        shown_s: how far back it reaches, in seconds.

    Attributes:
        dropped: steps dropped so far.
    """

    def __init__(self, shown_s: float = SHOWN_S) -> None:
        self.dropped, self.shown_s = 0, shown_s
        self._runs: deque[Shown] = deque()

    def add(self, step: StepResult) -> None:
        """Adds the next step."""
        self.dropped += step.dropped
        begin_s = step.time_s
        if self._runs and not step.starts:  # before a new stream is a gap
            last = self._runs.pop()._replace(end_s=step.time_s)
            self._runs.append(last)
            if last.class_index == step.class_index:
                begin_s = self._runs.pop().start_s
        self._runs.append(Shown(step.class_index, begin_s, step.time_s))
        while self._runs[0].end_s < step.time_s - self.shown_s:
            self._runs.popleft()

    def __iter__(self) -> Iterator[Shown]:
        """Yields the runs in temporal order."""
        return iter(self._runs)


def draw_overlay(
    picture: np.ndarray,
    step: StepResult,
    history: History,
    colours: np.ndarray,
) -> np.ndarray:
    """Draws a panel over the lower part of a picture.

    Args:
        picture: (H, W, 3) uint8 RGB; it stays as it is.
        step: what the panel shows.
        history: of the source up to this step.
        colours: see `pages.colours.class_colours`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: if the picture has another shape or type.
    """
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
        raise InputError(
            f"a picture has shape {picture.shape} and type {picture.dtype}; labels are "
            "drawn on (height, width, 3) uint8 RGB."
        )
    image, sizes = np.ascontiguousarray(picture).copy(), _sizes_for(picture)
    top = max(0, len(image) - sizes.height)
    image[top:] = (image[top:] * (1 - _DARKNESS)).astype(np.uint8)
    _draw_label(image, top, step, colours, sizes)
    _draw_timeline(image, top + sizes.row, step.time_s, history, colours, sizes)
    _draw_figures(image, top + sizes.row + sizes.bar, step, history.dropped, sizes)
    return image


class _Sizes(NamedTuple):
    """All in pixels: heights of capital letters, the margin, and the rows' heights."""

    capital: int
    small: int
    margin: int
    row: int
    bar: int
    last_row: int

    @property
    def height(self) -> int:
        return self.row + self.bar + self.last_row


def _sizes_for(picture: np.ndarray) -> _Sizes:
    height, width = picture.shape[:2]
    capital = max(_LEAST_CAPITAL, round(min(height, 0.75 * width) / 38))
    small = max(_LEAST_CAPITAL, round(0.75 * capital))
    return _Sizes(
        capital=capital,
        small=small,
        margin=max(3, capital),
        row=round(2.1 * capital),
        bar=max(5, capital),
        last_row=round(2.1 * small),
    )


def _draw_label(
    image: np.ndarray, top: int, step: StepResult, colours: np.ndarray, sizes: _Sizes
) -> None:
    """Draws a swatch in the label's colour, the label, and its confidence."""
    capital, margin = sizes.capital, sizes.margin
    middle, width = top + sizes.row / 2, image.shape[1]
    y = round(middle - capital / 2)
    image[y : y + capital, margin : margin + capital] = colours[step.class_index]
    share = f"{100 * step.confidence:.0f} %"
    space = width - 3 * margin - capital - _width(share, capital)
    left = margin + round(1.7 * capital)
    _text(image, _cut(step.label, capital, space), (left, middle), capital)
    _text(image, share, (width - margin, middle), capital, align=1)


def _draw_timeline(
    image: np.ndarray,
    top: int,
    now_s: float,
    history: History,
    colours: np.ndarray,
    sizes: _Sizes,
) -> None:
    """Draws the last seconds from left to right; it grows until it is full."""
    left, width = sizes.margin, image.shape[1] - 2 * sizes.margin
    if width < 1:
        return
    bar = image[top : top + sizes.bar, left : left + width]
    bar[:] = _TRACK
    begin_s = max(_first_s(history, now_s), now_s - history.shown_s)
    for run in history:
        start, end = (
            round(width * min(1, max(0, (t - begin_s) / history.shown_s)))
            for t in (run.start_s, run.end_s)
        )
        bar[:, start : max(end, start + 1)] = colours[run.class_index]
    now = min(width - 1, round(width * (now_s - begin_s) / history.shown_s))
    bar[:, max(0, now - sizes.bar // 5) : now + 1] = _WHITE


def _first_s(history: History, now_s: float) -> float:
    return next((run.start_s for run in history), now_s)


def _draw_figures(
    image: np.ndarray, top: int, step: StepResult, dropped: int, sizes: _Sizes
) -> None:
    """Draws the time on the left; on the right the lag and the steps dropped."""
    middle, small, width = top + sizes.last_row / 2, sizes.small, image.shape[1]
    time = _clock(step.time_s)
    _text(image, time, (sizes.margin, middle), small, colour=_GREY)
    lag_ms = 1e3 * step.latency.total_s
    lag = f"{lag_ms:.0f} ms" if lag_ms < 9_999.5 else f"{lag_ms / 1e3:.0f} s"
    space = width - 3 * sizes.margin - _width(time, small)
    texts = (f"lag {lag}, dropped {dropped}", f"{lag}, dropped {dropped}", lag)
    text = next((t for t in texts if _width(t, small) <= space), "")
    _text(image, text, (width - sizes.margin, middle), small, colour=_GREY, align=1)


def _clock(time_s: float) -> str:
    minutes, tenths = divmod(math.floor(10 * time_s + 1e-6), 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def _text(
    image: np.ndarray,
    text: str,
    at: tuple[float, float],
    capital: int,
    *,
    colour: tuple[int, int, int] = _WHITE,
    align: int = 0,
) -> None:
    """Draws text, vertically centred on y; to the left of x if `align` is 1."""
    x = round(at[0] - align * _width(text, capital))
    y = round(at[1] + capital / 2)
    style = (_FONT, capital / _CAPITAL, colour, _thickness(capital), cv2.LINE_AA)
    cv2.putText(image, _drawable(text), (x, y), *style)


def _width(text: str, capital: int) -> int:
    style = (_FONT, capital / _CAPITAL, _thickness(capital))
    return cv2.getTextSize(_drawable(text), *style)[0][0]


def _thickness(capital: int) -> int:
    return 1 + capital // _CAPITAL


def _cut(text: str, capital: int, space: int) -> str:
    """Returns as much of a text as there is space for, with dots where it is cut."""
    if _width(text, capital) <= space:
        return text
    lengths = range(len(text) - 1, 0, -1)
    parts = (text[:length].rstrip() + "..." for length in lengths)
    return next((part for part in parts if _width(part, capital) <= space), "")


def _drawable(text: str) -> str:
    """Returns the text without what OpenCV would draw as question marks, if it can."""
    if _DRAWS_UNICODE:
        return text
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    letters = (c for c in plain if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in letters)
