"""The geometry of the demo kitchen: where everything is during an action.

An action is a motion. `pose_at` returns the pose when a share `u` of an action has
passed. Taking and putting are the same motion forwards and backwards, and so are
opening and closing; stirring and scooping hold the same spoon over the same vessel. A
single frame therefore does not always show which action it is.

Coordinates are pixels of a 128 x 96 picture, x to the right and y down.
"""

import dataclasses
import math

import numpy as np

HEIGHT, WIDTH = 96, 128

Point = tuple[float, float]
Colour = tuple[float, float, float]  # blue, green, red: OpenCV's order

SHELF_Y = 20.0
BASE = (58.0, 62.0)  # where the cup or the bread stands
SIDE = (91.0, 58.0)  # where the jar or the bottle stands
REST = (76.0, 92.0)  # the hand between two actions


@dataclasses.dataclass(frozen=True)
class Look:
    """The look of one video, whatever happens in it."""

    skin: Colour
    sleeve: Colour
    table: Colour
    wall: Colour
    items: dict[str, Colour]
    shelf_x: dict[str, float]
    clutter: tuple[tuple[float, float, float, Colour], ...]  # x, y, size, colour
    hand_size: float
    noise: float  # standard deviation of the sensor's noise, in levels
    shake: float  # pixels the camera wanders


@dataclasses.dataclass(frozen=True)
class Style:
    """How one action is carried out: amplitude, seconds per stroke, phase, pause."""

    amplitude: float
    period_s: float
    phase: float
    pause: tuple[float, float]  # share of the action before the pause, and of it


@dataclasses.dataclass(frozen=True)
class Scene:
    """The state of the kitchen between two actions."""

    placed: frozenset[str] = frozenset()  # on the table; all others on the shelf
    lid_off: bool = False
    smeared: bool = False
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where everything is in one frame."""

    hand: Point
    places: dict[str, tuple[float, float, float]]  # object -> x, y, angle
    lid: Point | None = None  # None: on the jar
    fold: float = 0.0
    smear: float = 0.0
    stream: tuple[Point, Point] | None = None
    tool: tuple[str, Point] | None = None  # spoon or knife in the hand, and its tip


def kind_of(item: str) -> str:
    """Returns what an object is: "jar" of the jar "jar:salt"."""
    return item.partition(":")[0]


def spot_of(item: str) -> Point:
    """Returns where an object stands on the table."""
    return BASE if kind_of(item) in ("cup", "bread") else SIDE


def after(scene: Scene, action: str, item: str) -> Scene:
    """Returns the scene that an action leaves behind."""
    match action:
        case "take":
            return dataclasses.replace(scene, placed=scene.placed | {item})
        case "put":
            return dataclasses.replace(scene, placed=scene.placed - {item})
        case "open" | "close":
            return dataclasses.replace(scene, lid_off=action == "open")
        case "spread":
            return dataclasses.replace(scene, smeared=True)
        case "fold":
            return dataclasses.replace(scene, folded=True)
    return scene


CONTACT = (0.15, 0.85)  # shares of an action between which the hand is at work


def _paced(u: float, style: Style) -> float:
    """Returns the progress of an action, which may pause in the middle."""
    first, pause = style.pause
    return float(np.interp(u, (0, first, first + pause, 1), (0, 0.5, 0.5, 1)))


def at_work(u: float, style: Style) -> bool:
    """Returns whether the hand is at its object, not on the way to it or back."""
    return CONTACT[0] <= _paced(u, style) <= CONTACT[1]


def pose_at(
    scene: Scene,
    action: str,
    item: str,
    *,
    u: float,
    seconds: float,
    look: Look,
    style: Style,
) -> Pose:
    """Returns the pose when a share `u` of an action of that many seconds has passed.

    Args:
        scene: the scene before the action.
        item: the object acted on; for "background" where the hand hovers, or "".
    """
    pose = _still(scene, look)
    u = _paced(u, style)
    turns = style.phase + u * seconds / style.period_s
    swing = (
        style.amplitude * math.cos(math.tau * turns),
        style.amplitude * math.sin(math.tau * turns),
    )
    match action:
        case "take" | "put":
            return _carry(pose, item, u if action == "take" else 1 - u, look)
        case "open" | "close":
            return _lid(pose, u if action == "open" else 1 - u, swing, look)
        case "stir" | "scoop":
            return _spoon(pose, item, u, swing, action)
        case "shake":
            return _shake(pose, item, u, swing)
        case "pour":
            return _pour(pose, item, u)
        case "spread":
            return _spread(pose, u, swing)
        case "fold":
            return _fold(pose, u)
    return _idle(pose, item, u, swing)


def _still(scene: Scene, look: Look) -> Pose:
    places = {
        item: (*spot_of(item), 0.0) if item in scene.placed else (x, SHELF_Y, 0.0)
        for item, x in look.shelf_x.items()
    }
    lid = _LID_DOWN if scene.lid_off else None
    return Pose(REST, places, lid, float(scene.folded), float(scene.smeared))


_LID_ON = (SIDE[0], SIDE[1] - 15)
_LID_DOWN = (SIDE[0] + 2, SIDE[1] + 26)


def mix(a: Point, b: Point, share: float) -> Point:
    """Returns the point that lies a share of the way from a to b."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _along(path: tuple[tuple[float, Point], ...], u: float) -> Point:
    """Follows way points, each with the time at which it is reached."""
    times = [time for time, _ in path]
    return (
        float(np.interp(u, times, [point[0] for _, point in path])),
        float(np.interp(u, times, [point[1] for _, point in path])),
    )


def _carry(pose: Pose, item: str, u: float, look: Look) -> Pose:
    shelf, spot = (look.shelf_x[item], SHELF_Y), spot_of(item)
    hand = _along(((0, REST), (0.15, shelf), (0.85, spot), (1, REST)), u)
    point = _along(((0.15, shelf), (0.85, spot)), u)
    return dataclasses.replace(
        pose, hand=hand, places={**pose.places, item: (*point, 0.0)}
    )


def _lid(pose: Pose, u: float, swing: Point, look: Look) -> Pose:
    aside = (SIDE[0] - 26, SIDE[1] - 24)
    path = ((0.35, _LID_ON), (0.6, aside), (0.85, _LID_DOWN))
    hand = _along(((0, REST), (0.15, _LID_ON), *path, (1, REST)), u)
    if 0.15 < u < 0.35:  # the lid is turned before it comes off
        hand = hand[0] + 0.35 * swing[0], hand[1]
    lid = None if u < 0.35 else _along(path, u)
    return dataclasses.replace(pose, hand=hand, lid=lid)


def _reach(u: float, point: Point) -> Point:
    """Goes from rest to a point, stays there, and returns."""
    return _along(((0, REST), (0.15, point), (0.85, point), (1, REST)), u)


def _spoon(pose: Pose, item: str, u: float, swing: Point, action: str) -> Pose:
    x, y = spot_of(item)
    wide, high = (1.0, 0.25) if action == "stir" else (0.2, 1.0)
    hand = _reach(u, (x + wide * swing[0], y - 22 + high * swing[1]))
    return dataclasses.replace(
        pose, hand=hand, tool=("spoon", (hand[0] - 8, hand[1] + 19))
    )


def _shake(pose: Pose, item: str, u: float, swing: Point) -> Pose:
    held = (SIDE[0] - 18, SIDE[1] - 16)
    spot = spot_of(item)
    point = _along(((0.15, spot), (0.3, held), (0.7, held), (0.85, spot)), u)
    amount = float(np.interp(u, (0.15, 0.3, 0.7, 0.85), (0, 1, 1, 0)))
    point = point[0] + 1.3 * amount * swing[0], point[1]
    angle = amount * 3.5 * swing[0]
    hand = _along(((0, REST), (0.15, point), (0.85, point), (1, REST)), u)
    return dataclasses.replace(
        pose, hand=hand, places={**pose.places, item: (*point, angle)}
    )


def _pour(pose: Pose, item: str, u: float) -> Pose:
    held, spot = (BASE[0] + 20, BASE[1] - 26), spot_of(item)
    point = _along(((0.15, spot), (0.3, held), (0.7, held), (0.85, spot)), u)
    tilt = float(np.interp(u, (0.15, 0.35, 0.65, 0.85), (0, 1, 1, 0)))
    hand = _along(((0, REST), (0.15, point), (0.85, point), (1, REST)), u)
    mouth = (BASE[0] + 4, BASE[1] - 22)
    stream = (mouth, (BASE[0] + 2, BASE[1] - 4)) if tilt > 0.9 else None
    return dataclasses.replace(
        pose,
        hand=hand,
        places={**pose.places, item: (*point, -105 * tilt)},
        stream=stream,
    )


def _spread(pose: Pose, u: float, swing: Point) -> Pose:
    x, y = BASE
    hand = _reach(u, (x + 10 + 1.4 * swing[0], y + 2))
    return dataclasses.replace(
        pose,
        hand=hand,
        tool=("knife", (hand[0] - 20, hand[1] - 2)),
        smear=max(pose.smear, u),
    )


def _fold(pose: Pose, u: float) -> Pose:
    fold = float(np.interp(u, (0.15, 0.85), (0, 1)))
    hand = _along(((0, REST), (0.15, _bread_edge(0)), (1, _bread_edge(1))), u)
    if 0.15 <= u < 0.85:
        hand = _bread_edge(fold)
    elif u >= 0.85:
        hand = mix(_bread_edge(1), REST, (u - 0.85) / 0.15)
    return dataclasses.replace(pose, hand=hand, fold=fold)


def _bread_edge(fold: float) -> Point:
    angle = math.pi * fold
    return BASE[0] + 26 * math.cos(angle), BASE[1] - 22 * math.sin(angle)


def _idle(pose: Pose, item: str, u: float, swing: Point) -> Pose:
    if not item:
        hand = (REST[0] + 0.25 * swing[0], REST[1] + 0.25 * swing[1])
        return dataclasses.replace(pose, hand=hand)
    x, y, _ = pose.places[item]
    return dataclasses.replace(
        pose, hand=_along(((0, REST), (0.5, (x, y)), (1, REST)), u)
    )
