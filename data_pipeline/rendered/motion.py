"""Where everything is in each frame of a planned video, of one frame or of thousands.

A step follows the demo's motions from the moment the hand touches the object to the
moment it lets go. What is done in strokes is repeated as long as the step lasts. A
single movement, such as taking, takes a few seconds at most; the hand lingers at the
object in the time that is left.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipeline.demo.scene import CONTACT, Look, Point, Pose, Style, mix, pose_at
from data_pipeline.rendered.timeline import Step, longest_way
from data_pipeline.rendered.vocabulary import IDLE

_LONGEST_MOVE_S = 2.4  # of a single movement
_LONGEST_LIFT_S = 0.8  # of a bottle before it is poured
_TILT_S = 2.5  # from one gush to the next
_GLIDE = 5  # frames in which the hand goes from one place of work to another
# Where a single movement lingers; lids are turned before and after they are lifted.
_STOPS = {
    "take": (0.15, 0.5, 0.85),
    "put": (0.15, 0.5, 0.85),
    "open": (0.25, 0.6, 0.85),
    "close": (0.15, 0.4, 0.75),
    "fold": (0.15, 0.5, 0.85),
}


def poses(steps: Sequence[Step], look: Look, *, fps: float) -> Iterator[Pose]:
    """Yields the pose of every frame.

    Args:
        steps: as planned, which fill every frame once with their ways.
        look: of the video; what stands on the shelf depends on the step.
    """
    hand: Point | None = None
    for step in steps:
        own = dataclasses.replace(look, shelf_x=_shown(step, look.shelf_x))
        first, last = step.start - step.reach, step.end + step.leave
        glide = min(_GLIDE, (last - first) // 3)
        previous = hand
        for index in range(first, last):
            pose = _pose_of(step, index, own, fps=fps)
            done = (index - first + 1) / (glide + 1)
            if previous is not None and done < 1:
                pose = _moved(pose, mix(previous, pose.hand, done))
            hand = pose.hand
            yield pose


def progress_at(step: Step, index: int, *, fps: float) -> float:
    """Returns how far a step is in a frame: 0 at rest, `CONTACT` while at work."""
    first, last = CONTACT
    if step.motion == IDLE:
        return (index - step.start + 0.5) / (step.end - step.start)
    if not step.start <= index < step.end:
        ahead = step.start - index if index < step.start else index - step.end + 1
        away = (ahead - 0.5) / longest_way(fps)  # a short way does not reach the rest
        return first * (1 - away) if index < step.start else last + (1 - last) * away
    time_s, length_s = (index - step.start + 0.5) / fps, (step.end - step.start) / fps
    if step.motion in _STOPS:
        return _lingering(step, time_s, length_s)
    if step.motion in ("pour", "shake"):
        return _lifted(time_s, length_s, gushes=step.motion == "pour")
    return first + (last - first) * time_s / length_s


def _lingering(step: Step, time_s: float, length_s: float) -> float:
    move_s = min(length_s, _LONGEST_MOVE_S * step.style.period_s)
    spare_s = length_s - move_s
    times, shares = [0.0], [CONTACT[0]]
    for stop, hold in zip(_STOPS[step.motion], step.holds, strict=True):
        moved = (stop - shares[-1]) / (CONTACT[1] - CONTACT[0])
        times += [times[-1] + move_s * moved]
        times += [times[-1] + spare_s * hold]
        shares += [stop, stop]
    return float(np.interp(time_s, [*times, length_s], [*shares, CONTACT[1]]))


def _lifted(time_s: float, length_s: float, *, gushes: bool) -> float:
    lift_s = min(_LONGEST_LIFT_S, 0.25 * length_s)
    times = (0, lift_s, length_s - lift_s, length_s)
    share = float(np.interp(time_s, times, (0.15, 0.35, 0.65, 0.85)))
    if not gushes or not lift_s < time_s < length_s - lift_s:
        return share
    ebb = 0.02 * (1 - math.cos(math.tau * (time_s - lift_s) / _TILT_S))
    return 0.35 - ebb if share < 0.5 else 0.65 + ebb


def _pose_of(step: Step, index: int, look: Look, *, fps: float) -> Pose:
    progress = progress_at(step, index, fps=fps)
    time_s = (index - step.start) / fps
    style = dataclasses.replace(
        step.style, phase=step.style.phase + time_s / step.style.period_s
    )
    # A cut is a scoop with a knife: up and down over the board.
    motion = "scoop" if step.motion == "cut" else step.motion
    pose = pose_at(
        *(step.before, motion, step.item),
        u=progress,
        seconds=0,  # strokes are counted in the phase: they go on while a move rests
        look=look,
        style=style,
    )
    if step.motion == "cut" and pose.tool is not None:
        return dataclasses.replace(pose, tool=("knife", pose.tool[1]))
    if step.motion in _STOPS or step.motion == "pour":
        return dataclasses.replace(pose, hand=_trembling(pose.hand, style))
    return pose


def _trembling(hand: Point, style: Style) -> Point:
    turn = math.tau * style.phase
    reach = 0.12 * style.amplitude
    return hand[0] + reach * math.cos(turn), hand[1] + reach * math.sin(1.7 * turn)


def _moved(pose: Pose, hand: Point) -> Pose:
    """Returns the pose with the hand, and the tool in it, elsewhere."""
    tool = pose.tool
    if tool is not None:
        kind, (x, y) = tool
        tool = kind, (x + hand[0] - pose.hand[0], y + hand[1] - pose.hand[1])
    return dataclasses.replace(pose, hand=hand, tool=tool)


def _shown(step: Step, shelf_x: dict[str, float]) -> dict[str, float]:
    """Returns the objects to be seen: those in use, and all that are not named."""
    named = any(":" in item for item in shelf_x)
    used = {*step.before.placed, step.item}
    return {item: x for item, x in shelf_x.items() if item in used or not named}
