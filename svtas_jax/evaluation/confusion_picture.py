"""Draws a confusion matrix as a picture, for TensorBoard.

The page of a report has a better one, drawn by a library that a training should not
depend on: what goes wrong there would end the process.
"""

from collections.abc import Sequence

import cv2
import numpy as np

_MOST_CLASSES = 120
_LONGEST_NAME = 18  # letters
_SCALE, _LINE = 0.4, 9  # of letters, and their height in pixels
_WHITE, _INK, _FULL = (255, 255, 255), (34, 34, 34), (10, 88, 168)
_NUMBERED = 26  # pixels of a cell from which its share is written in it
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_confusion(
    confusion: np.ndarray, class_names: Sequence[str]
) -> np.ndarray | None:
    """Draws the share of each true class's frames (row) by predicted class (column).

    Args:
        confusion: (K, K) frames.
        class_names: names in the order of the class indices.

    Returns:
        (H, W, 3) uint8 RGB; None where there are too many classes to see any.
    """
    size = len(class_names)
    if size > _MOST_CLASSES:
        return None
    cell = int(np.clip(640 // size, _LINE, 34))
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    rows, columns = (_names(class_names, cell, align=align) for align in (1, 0))
    margin = rows.shape[1]
    image = np.full((margin + size * cell, margin + size * cell, 3), _WHITE, np.uint8)
    image[margin:, :margin] = rows
    image[:margin, margin:] = np.rot90(columns)  # they read upwards
    image[margin:, margin:] = _cells(shares, cell)
    return image


def _cells(shares: np.ndarray, cell: int) -> np.ndarray:
    part = shares[..., None]
    colours = (part * np.array(_FULL) + (1 - part) * np.array(_WHITE)).round()
    image = colours.astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    if cell < _NUMBERED:
        return image
    image = np.ascontiguousarray(image)
    for row, column in np.argwhere(shares >= 0.005).tolist():
        share = shares[row, column]
        ink = _WHITE if share > 0.5 else _INK
        text = f"{100 * share:.0f}"
        width = cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0]
        at = (column * cell + (cell - width) // 2, row * cell + (cell + _LINE) // 2)
        cv2.putText(image, text, at, _FONT, _SCALE, ink, 1, cv2.LINE_AA)
    return image


def _names(class_names: Sequence[str], cell: int, *, align: int) -> np.ndarray:
    """Returns the names, one a line, (K * cell, margin, 3); aligned left (0), or right
    (1)."""
    shown = [name[:_LONGEST_NAME] for name in class_names]
    widths = [cv2.getTextSize(name, _FONT, _SCALE, 1)[0][0] for name in shown]
    margin = max(widths) + 10
    image = np.full((len(shown) * cell, margin, 3), _WHITE, np.uint8)
    for row, (name, width) in enumerate(zip(shown, widths, strict=True)):
        at = (5 + align * (margin - 10 - width), row * cell + (cell + _LINE) // 2)
        cv2.putText(image, name, at, _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
    return image
