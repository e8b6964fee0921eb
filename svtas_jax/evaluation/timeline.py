"""Draws labels over time: ground truth, prediction, errors and confidence."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from svtas_jax.pages.colours import BACKGROUND, WHITE, class_colours
from svtas_jax.runtime.files import write_atomic
from svtas_jax.structs import IGNORE_LABEL, labels_to_segments

WIDTH = 1200
_MARGIN = 24
_LEFT = 110  # width of the column with the rows' names
_BAR_HEIGHT = 44
_STRIP_HEIGHT = 12
_CURVE_HEIGHT = 48
_GAP = 10
_TITLE_HEIGHT = 44
_AXIS_HEIGHT = 38
_LEGEND_LINE = 26
_SWATCH = 16
_TICK_SPACING = 90  # smallest distance of two ticks in pixels
_TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)

_INK, _PALE = (34, 34, 34), (233, 233, 233)
_WRONG, _LINE = (200, 30, 30), (110, 110, 110)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_timeline(
    truth: np.ndarray | None,
    prediction: np.ndarray,
    class_names: Sequence[str],
    *,
    fps: float,
    title: str,
    confidence: np.ndarray | None = None,
    background: Sequence[str] = BACKGROUND,
) -> np.ndarray:
    """Draws the labels of one video as bars over time.

    Args:
        truth: (num_frames,) true class of every frame, or IGNORE_LABEL; None to draw
            only the prediction.
        prediction: (num_frames,) predicted class of every frame.
        class_names: names in the order of the class indices.
        fps: frame rate; 0 if unknown, then the axis counts frames.
        title: text above the bars.
        confidence: (num_frames,) in 0..1, drawn as a curve.
        background: names of the classes to draw in grey.

    Returns:
        (H, WIDTH, 3) uint8 RGB.
    """
    colours = class_colours(class_names, background)
    rows = []
    if truth is not None:
        rows.append(_Row("truth", _bar(truth, class_names, colours)))
    rows.append(_Row("prediction", _bar(prediction, class_names, colours)))
    if truth is not None:
        rows.append(_Row("errors", _error_strip(truth, prediction)))
    if confidence is not None:
        rows.append(_Row("confidence", _curve(confidence)))
    seen = np.unique(prediction if truth is None else np.append(truth, prediction))
    parts = [
        _title(title, _accuracy(truth, prediction)),
        *(_with_name(row) for row in rows),
        _axis(len(prediction) / fps) if fps else _frame_axis(len(prediction)),
        _legend([k for k in seen if k != IGNORE_LABEL], class_names, colours),
        _blank(_MARGIN // 2),
    ]
    return np.concatenate(parts)


def frames_at_even_times(starts_s: np.ndarray, end_s: float) -> np.ndarray:
    """Returns the frame that is seen at each of n even moments.

    At a variable rate, frames that are shown for longer are seen more often.

    Args:
        starts_s: (n,) ascending seconds at which frames begin.
        end_s: when the last one ends.
    """
    moments = np.linspace(starts_s[0], end_s, len(starts_s), endpoint=False)
    return np.searchsorted(starts_s, moments + 1e-9, side="right") - 1


def write_picture(
    folder: str | os.PathLike, name: str, image: np.ndarray
) -> pathlib.Path:
    """Writes `folder`/pictures/NAME.png from (H, W, 3) uint8 RGB."""
    _, png = cv2.imencode(".png", image[..., ::-1])  # OpenCV's order is BGR
    return write_atomic(
        pathlib.Path(folder) / "pictures" / f"{name}.png", png.tobytes()
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Row:
    name: str
    image: np.ndarray  # (height, _plot_width(), 3) uint8


def _plot_width() -> int:
    return WIDTH - _LEFT - _MARGIN


def _blank(height: int, width: int = WIDTH) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)  # one value: several times faster


def _text(image: np.ndarray, text: str, at: tuple[float, float], **style) -> None:
    """Draws text, vertically centred on y.

    Args:
        image: (H, W, 3), changed in place.
        text: the text.
        at: x, y in pixels.
        style: `scale` of the letters, `colour`, and `align`, the share of the text's
            width to the left of x.
    """
    scale, colour = style.get("scale", 0.45), style.get("colour", _INK)
    width = _text_width(text, scale)
    x = round(at[0] - style.get("align", 0) * width)
    y = round(at[1] + 11 * scale)
    cv2.putText(image, text, (x, y), _FONT, scale, colour, 1, cv2.LINE_AA)


@functools.lru_cache(maxsize=4096)
def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, _FONT, scale, 1)[0][0]


def _title(title: str, accuracy: float | None) -> np.ndarray:
    image = _blank(_TITLE_HEIGHT)
    _text(image, title, (_MARGIN, _TITLE_HEIGHT / 2), scale=0.6)
    if accuracy is not None:
        text = f"{100 * accuracy:.1f} % of frames right"
        _text(image, text, (WIDTH - _MARGIN, _TITLE_HEIGHT / 2), scale=0.5, align=1)
    return image


def _accuracy(truth: np.ndarray | None, prediction: np.ndarray) -> float | None:
    if truth is None or not np.any(truth != IGNORE_LABEL):
        return None
    known = truth != IGNORE_LABEL
    return float(np.mean(truth[known] == prediction[known]))


def _with_name(row: _Row) -> np.ndarray:
    height = len(row.image)
    image = _blank(height + _GAP)
    image[:height, _LEFT : WIDTH - _MARGIN] = row.image
    _text(image, row.name, (_LEFT - 10, height / 2), align=1)
    return image


def _bar(
    labels: np.ndarray, class_names: Sequence[str], colours: np.ndarray
) -> np.ndarray:
    """Draws each frame in its class's colour, with the class's name where it fits."""
    width = _plot_width()
    columns = np.asarray(labels)[np.arange(width) * len(labels) // width]
    # IGNORE_LABEL becomes -1, the index of the last colour, which is white.
    bar = np.repeat(colours[np.maximum(columns, -1)][None], _BAR_HEIGHT, axis=0)
    for segment in labels_to_segments(columns):
        if segment.label == IGNORE_LABEL:
            continue
        size = segment.end - segment.start
        if size > 3 and segment.start:
            bar[:, segment.start] = WHITE
        name = class_names[segment.label]
        if _text_width(name, 0.42) + 8 <= size:
            middle = (segment.start + segment.end) / 2
            ink = _readable_on(colours[segment.label])
            at = (middle, _BAR_HEIGHT / 2)
            _text(bar, name, at, scale=0.42, colour=ink, align=0.5)
    return bar


def _error_strip(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Draws the share of wrong frames in each column, from pale (0) to red (1)."""
    width = _plot_width()
    wrong = (truth != prediction) & (truth != IGNORE_LABEL)
    share = _column_means(wrong.astype(np.float64), width)[:, None]
    strip = share * np.array(_WRONG) + (1 - share) * np.array(_PALE)
    return np.repeat(strip.round().astype(np.uint8)[None], _STRIP_HEIGHT, axis=0)


def _curve(confidence: np.ndarray) -> np.ndarray:
    """Draws values in 0..1 as a filled curve, with a line at 0.5."""
    width = _plot_width()
    heights = np.clip(_column_means(np.asarray(confidence, np.float64), width), 0, 1)
    level = np.linspace(1, 0, _CURVE_HEIGHT)[:, None]
    image = np.where((level <= heights)[..., None], (150, 170, 190), _PALE)
    image[_CURVE_HEIGHT // 2] = WHITE
    return image.astype(np.uint8)


def _column_means(values: np.ndarray, width: int) -> np.ndarray:
    """Returns the means of the frames in each of `width` columns."""
    starts = np.arange(width) * len(values) // width
    ends = np.maximum(starts + 1, (np.arange(width) + 1) * len(values) // width)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    return (sums[ends] - sums[starts]) / (ends - starts)


def _axis(duration_s: float) -> np.ndarray:
    """Draws a time axis with round ticks, in seconds, or minutes for longer videos."""
    least = duration_s * _TICK_SPACING / _plot_width()
    spacing = next((t for t in _TICKS_S if t >= least), 3600 * np.ceil(least / 3600))
    return _ticks(duration_s, spacing, lambda t: _time(t, spacing, duration_s))


def _frame_axis(num_frames: int) -> np.ndarray:
    """Draws a frame axis, with ticks at multiples of 1, 2 or 5 times a power of ten."""
    least = max(1, num_frames * _TICK_SPACING / _plot_width())
    unit = 10 ** np.floor(np.log10(least))
    spacing = next(unit * step for step in (1, 2, 5, 10) if unit * step >= least)
    return _ticks(num_frames, spacing, lambda tick: f"{tick:.0f}")


def _ticks(length: float, spacing: float, name: Callable[[float], str]) -> np.ndarray:
    image, width = _blank(_AXIS_HEIGHT), _plot_width()
    image[0, _LEFT : _LEFT + width] = _LINE
    for tick in np.arange(0, length * (1 + 1e-9), spacing):
        x = _LEFT + min(width - 1, round(width * tick / length))
        image[0:6, x] = _LINE
        text = name(tick)
        # The last label must not leave the picture.
        right = x + _text_width(text, 0.42) / 2 > WIDTH - 4
        _text(image, text, (x, 17), scale=0.42, align=1 if right else 0.5)
    return image


def _time(seconds: float, spacing_s: float, duration_s: float) -> str:
    if duration_s < 120:
        return f"{seconds:.1f} s" if spacing_s < 1 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    )


def _legend(
    seen: Sequence[int], class_names: Sequence[str], colours: np.ndarray
) -> np.ndarray:
    """Draws a colour swatch and the name of each class that occurs."""
    widest = max((_text_width(class_names[k], 0.45) for k in seen), default=0)
    column = _SWATCH + 8 + widest + 22
    per_line = max(1, _plot_width() // column)
    image = _blank(_LEGEND_LINE * -(-len(seen) // per_line))
    for index, k in enumerate(seen):
        x = _LEFT + index % per_line * column
        y = index // per_line * _LEGEND_LINE + _LEGEND_LINE // 2
        half = _SWATCH // 2
        image[y - half : y + half, x : x + _SWATCH] = colours[k]
        _text(image, class_names[k], (x + _SWATCH + 8, y))
    return image


def _readable_on(colour: np.ndarray) -> tuple[int, int, int]:
    luminance = colour @ np.array([0.2126, 0.7152, 0.0722])
    return _INK if luminance > 120 else WHITE
