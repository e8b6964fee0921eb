"""One colour a class, the same in every picture and page."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

BACKGROUND = ("background", "None")
WHITE = (255, 255, 255)
GREY = (205, 205, 205)  # of background classes
_LEAST_LIGHTNESS = 20  # in CIELAB; darker colours all look black

# Okabe and Ito's colours, which also colour-blind people can distinguish.
_FIRST_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# Map linear RGB to what red-green blind people see: Machado, Oliveira, Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity
# 1.
_DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
_PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
_VISIONS = (np.eye(3), _DEUTERANOPIA, _PROTANOPIA)


def class_colours(
    class_names: Sequence[str], background: Sequence[str] = BACKGROUND
) -> np.ndarray:
    """Returns each class's colour, then white: (K + 1, 3) uint8."""
    actions = [k for k, name in enumerate(class_names) if name not in background]
    colours = np.full((len(class_names), 3), GREY, np.uint8)
    colours[actions] = distinct_colours(len(actions))
    return np.concatenate([colours, np.array([WHITE], np.uint8)])


def css_colours(
    class_names: Sequence[str], background: Sequence[str] = BACKGROUND
) -> tuple[str, ...]:
    """Returns each class's colour as CSS writes it: "#e69f00"."""
    colours = class_colours(class_names, background)[:-1]
    return tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in colours.tolist())


@functools.cache
def distinct_colours(num_colours: int) -> np.ndarray:
    """Returns colours that differ as much as possible, also for red-green blind people.

    The first seven are Okabe and Ito's. Each further colour is the one in a grid with
    the largest distance, in full and in red-green blind vision, to all previous ones,
    white, black and the background's grey. No colour is nearly black. More classes
    change no colour of the ones before them.

    Returns:
        (num_colours, 3) uint8 RGB.
    """
    chosen = [np.array(colour) for colour in _FIRST_COLOURS[:num_colours]]
    levels = np.arange(16, 256, 24)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    grid = grid[perceived(grid)[:, 0, 0] >= _LEAST_LIGHTNESS]
    seen_grid = perceived(grid)
    taken = perceived(np.array([*chosen, WHITE, GREY, (0, 0, 0)]))
    distance = np.min([least_distance(seen_grid, one) for one in taken], axis=0)
    while len(chosen) < num_colours:
        best = int(distance.argmax())
        chosen.append(grid[best])
        distance = np.minimum(distance, least_distance(seen_grid, seen_grid[best]))
    return np.array(chosen, np.uint8).reshape(num_colours, 3)


def least_distance(colours: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Returns the distances of colours to one, in the vision where they are smallest.

    Args:
        colours: (n, 3, 3), see `perceived`.
        one: (3, 3).
    """
    return np.linalg.norm(colours - one, axis=-1).min(axis=-1)


def perceived(colours: np.ndarray) -> np.ndarray:
    """Returns CIELAB coordinates in full vision and in two kinds of red-green
    blindness, (n, 3, 3), of (n, 3) RGB in 0..255."""
    srgb = colours / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.stack([np.clip(linear @ one.T, 0, 1) for one in _VISIONS], axis=1)
    encoded = np.where(
        seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055
    )
    return cv2.cvtColor(encoded.astype(np.float32), cv2.COLOR_RGB2LAB)
