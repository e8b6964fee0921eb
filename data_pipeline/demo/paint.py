"""Paints the demo kitchen as seen by a camera on the cook's head."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from data_pipeline.demo.scene import (
    HEIGHT,
    REST,
    SHELF_Y,
    WIDTH,
    Colour,
    Look,
    Point,
    Pose,
    kind_of,
    mix,
)

_MARGIN = 12  # painted around the picture so that a moving camera sees no edge
_SUBPIXEL = 4  # fractional bits of OpenCV's drawing coordinates


def background(look: Look, rng: np.random.Generator) -> np.ndarray:
    """Paints the fixed things: wall, shelf, table, clutter; (H, W, 3) uint8 BGR."""
    height, width = HEIGHT + 2 * _MARGIN, WIDTH + 2 * _MARGIN
    image = np.empty((height, width, 3), np.float32)
    edge = _MARGIN + 38
    image[:edge], image[edge:] = look.wall, look.table
    grain = rng.normal(0, 1, (height, width // 8 + 1)).astype(np.float32)
    image[edge:] += 5 * cv2.resize(grain, (width, height))[edge:, :, None]
    image = np.clip(image, 0, 255).astype(np.uint8)
    shelf = [(-30, SHELF_Y + 14), (160, SHELF_Y + 14), (160, 38), (-30, 38)]
    _polygon(image, shelf, _darker(look.wall, 0.6))
    for x, y, size, colour in look.clutter:
        corners = [(x - size, y - size), (x + size, y - size), (x + size, y + size)]
        _polygon(image, [*corners, (x - size, y + size)], colour)
    return image


def draw(canvas: np.ndarray, pose: Pose, look: Look) -> None:
    """Paints a pose over a copy of the background, in place."""
    for item, (x, y, angle) in pose.places.items():
        _draw_item(canvas, item, (x, y), angle, pose, look)
    if pose.lid is not None:
        _box(canvas, pose.lid, (14, 5), 0, look.items["lid"])
    if pose.stream is not None:
        _line(canvas, *pose.stream, 5, look.items["liquid"])
    if pose.tool is not None:
        _draw_tool(canvas, pose.hand, pose.tool, look)
    _draw_hand(canvas, pose.hand, look)


def _draw_item(
    image: np.ndarray, item: str, at: Point, angle: float, pose: Pose, look: Look
) -> None:
    colour = look.items[item]
    dark = _darker(colour, 0.35)
    kind = kind_of(item)
    if kind == "cup":
        _polygon(image, [(-14, -13), (14, -13), (10, 15), (-10, 15)], colour, at, angle)
        _ellipse(image, at, (0, -13), (14, 5), angle, dark)
    elif kind == "jar":
        _box(image, at, (13, 13), angle, colour)
        _ellipse(image, at, (0, -13), (13, 4), angle, dark)
        if pose.lid is None:
            lid = [(-14, -20), (14, -20), (14, -11), (-14, -11)]
            _polygon(image, lid, look.items["lid"], at, angle)
    elif kind == "bottle":
        _polygon(image, [(-9, -7), (9, -7), (9, 15), (-9, 15)], colour, at, angle)
        _polygon(image, [(-4, -20), (4, -20), (4, -7), (-4, -7)], dark, at, angle)
    else:
        _draw_bread(image, at, colour, pose, look)


def _draw_bread(
    image: np.ndarray, at: Point, colour: Colour, pose: Pose, look: Look
) -> None:
    x, y = at
    crust = _darker(colour, 0.6)
    edge = pose.fold * math.pi
    left, right = -26, 26 * math.cos(edge)
    lift = -22 * math.sin(edge)
    _polygon(image, [(left, -12), (0, -12), (0, 13), (left, 13)], colour, at)
    if pose.smear:
        _ellipse(image, at, (-12, 0), (11 * pose.smear, 9), 0, look.items["smear"])
    flap = crust if pose.fold > 0.5 else colour
    corners = [(0, -12), (right, -12 + lift), (right, 13 + lift), (0, 13)]
    _polygon(image, corners, flap, at)
    if pose.smear and pose.fold == 0:
        _ellipse(image, at, (12, 0), (11 * pose.smear, 9), 0, look.items["smear"])


def _draw_tool(
    image: np.ndarray, hand: Point, tool: tuple[str, Point], look: Look
) -> None:
    kind, tip = tool
    metal = look.items["metal"]
    _line(image, hand, tip, 4, metal)
    if kind == "spoon":
        _ellipse(image, tip, (0, 0), (6, 5), 60, metal)
    else:
        _line(image, mix(hand, tip, 0.4), tip, 8, metal)


def _draw_hand(image: np.ndarray, grip: Point, look: Look) -> None:
    """Paints arm and hand with the finger tips at the grip, which stays visible."""
    size = look.hand_size
    hand = (grip[0] + 0.7 * size, grip[1] + 0.7 * size)
    elbow = (0.6 * REST[0] + 0.4 * hand[0] + 16, HEIGHT + _MARGIN + 6.0)
    _line(image, elbow, hand, round(1.1 * size), look.skin)
    _line(image, elbow, mix(elbow, hand, 0.6), round(1.5 * size), look.sleeve)
    _ellipse(image, hand, (0, 0), (0.9 * size, 0.75 * size), 30, look.skin)
    shade = _darker(look.skin, 0.72)
    for across in (-0.5, 0.0, 0.5):  # fingers
        root = (hand[0] + (across - 0.2) * size, hand[1] - (across + 0.3) * size)
        _line(image, root, (root[0] - 0.5 * size, root[1] - 0.5 * size), 2, shade)


def film(
    canvas: np.ndarray,
    *,
    shift: tuple[int, int],
    grain: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Films a painted canvas with a wandering, noisy camera.

    Args:
        shift: pixels by which the camera is off, to the right and down.
        grain: noise to add and to subtract, (HEIGHT, WIDTH, 3) uint8 each.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 BGR.
    """
    left, top = (_MARGIN + int(np.clip(s, -_MARGIN, _MARGIN)) for s in shift)
    picture = canvas[top : top + HEIGHT, left : left + WIDTH]
    return cv2.subtract(cv2.add(picture, grain[0]), grain[1])


def _darker(colour: Colour, share: float) -> Colour:
    blue, green, red = colour
    return share * blue, share * green, share * red


def _fixed(point: Point) -> tuple[int, int]:
    """Converts a point to the canvas's fixed-point coordinates."""
    scale = 1 << _SUBPIXEL
    return round((point[0] + _MARGIN) * scale), round((point[1] + _MARGIN) * scale)


def _polygon(
    image: np.ndarray,
    points: Sequence[Point],
    colour: Colour,
    at: Point = (0, 0),
    angle: float = 0.0,
) -> None:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = [
        _fixed((at[0] + x * cos - y * sin, at[1] + x * sin + y * cos))
        for x, y in points
    ]
    cv2.fillPoly(image, [np.array(turned, np.int32)], colour, cv2.LINE_AA, _SUBPIXEL)


def _box(
    image: np.ndarray, at: Point, half: Point, angle: float, colour: Colour
) -> None:
    w, h = half
    _polygon(image, [(-w, -h), (w, -h), (w, h), (-w, h)], colour, at, angle)


def _ellipse(
    image: np.ndarray,
    at: Point,
    offset: Point,
    axes: Point,
    angle: float,
    colour: Colour,
) -> None:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = offset
    centre = _fixed((at[0] + x * cos - y * sin, at[1] + x * sin + y * cos))
    size = [round(a * (1 << _SUBPIXEL)) for a in axes]
    cv2.ellipse(image, centre, size, angle, 0, 360, colour, -1, cv2.LINE_AA, _SUBPIXEL)


def _line(image: np.ndarray, a: Point, b: Point, width: int, colour: Colour) -> None:
    cv2.line(image, _fixed(a), _fixed(b), colour, width, cv2.LINE_AA, _SUBPIXEL)
