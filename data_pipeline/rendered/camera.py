"""The camera: a person's framing and light, a wandering hand, and what it misses.

In a share of the time the place of work is hidden, whatever the label: the camera looks
up so that the work leaves the view at the bottom, a thing stands before it, or the
camera moves so fast that all is blurred. Arm, shelf and edges remain to be seen.
"""

import dataclasses
import math

import cv2
import numpy as np

from data_pipeline.demo.scene import HEIGHT, WIDTH, Colour
from data_pipeline.rendered.person import Person
from data_pipeline.rendered.timeline import Step

MARGIN = 12  # of the canvas around the picture
_CENTRE = (70.0, 54.0)  # between the two places of work
_HIDDEN = 0.6  # share of the time at difficulty 1
_LONGEST_S = 6.0  # of one hidden time
_RAMP = 4  # frames in which the view changes
_KINDS = ("lost", "covered", "blurred")


@dataclasses.dataclass(frozen=True)
class Hiding:
    """A time in which the place of work is hidden.

    Attributes:
        kind: "lost", "covered" or "blurred".
        start, end: its frames.
        size: how much is hidden, 0 to 1.
        side: where a cover comes from: -1 from the left, 1 from the right.
        colour: of a cover.
    """

    kind: str
    start: int
    end: int
    size: float
    side: int
    colour: Colour

    def amount(self, index: int) -> float:
        """Returns how far it is in a frame, 0 to 1."""
        inside = min(index - self.start + 1, self.end - index)
        return min(max(inside / _RAMP, 0.0), 1.0)


def draw_hidings(
    steps: list[Step], rng: np.random.Generator, *, fps: float, difficulty: float
) -> list[Hiding]:
    """Draws when the work is hidden; borders do not coincide with the labels'."""
    hidings = []
    for step in steps:
        length = step.end - step.start
        count = max(1, math.ceil(length / fps / _LONGEST_S))
        for part in range(count):
            draws = rng.random(6).tolist()
            if draws[0] >= _HIDDEN * difficulty:
                continue
            start = step.start + length * (part - 0.3 + 0.6 * draws[1]) / count
            end = step.start + length * (part + 0.7 + 0.6 * draws[2]) / count
            blue, green, red = rng.uniform(30, 200, 3).tolist()
            hidings.append(
                Hiding(
                    _KINDS[int(3 * draws[3])],
                    round(start - 2),
                    round(end + 2),
                    size=draws[4],
                    side=1 if draws[5] < 0.5 else -1,
                    colour=(blue, green, red),
                )
            )
    return hidings


def cover(canvas: np.ndarray, index: int, hidings: list[Hiding]) -> None:
    """Paints what stands before the place of work, in place."""
    for hiding in hidings:
        amount = hiding.amount(index)
        if hiding.kind != "covered" or not amount:
            continue
        x = _CENTRE[0] + hiding.side * (90 * (1 - amount) + 14 * (1 - hiding.size))
        axes = (34 + 12 * hiding.size, 27 + 8 * hiding.size)
        centre = round(MARGIN + x), round(MARGIN + _CENTRE[1] + 14)
        size = round(axes[0]), round(axes[1])
        cv2.ellipse(canvas, centre, size, 0, 0, 360, hiding.colour, -1, cv2.LINE_AA)


@dataclasses.dataclass(frozen=True)
class Camera:
    """How a video is filmed.

    Attributes:
        path: (F, 2) pixels by which the camera is off, to the right and down.
        tone: (256, 1, 3) uint8, the level that the light makes of a level.
        grain: pairs of noise to add and to subtract, (HEIGHT, WIDTH, 3) uint8.
    """

    person: Person
    path: np.ndarray
    tone: np.ndarray
    grain: list[tuple[np.ndarray, np.ndarray]]
    hidings: list[Hiding]

    def film(self, canvas: np.ndarray, index: int) -> np.ndarray:
        """Returns the picture of a painted canvas, (HEIGHT, WIDTH, 3) uint8 BGR."""
        x, y = self.path[index]
        blur = 0
        for hiding in self.hidings:
            amount = hiding.amount(index)
            if amount and hiding.kind == "lost":
                y -= amount * (24 + 14 * hiding.size)
            elif amount and hiding.kind == "blurred":
                blur = max(blur, round(amount * (9 + 12 * hiding.size)))
        picture = cv2.warpAffine(
            canvas,
            self._placing(float(x), float(y)),
            (WIDTH, HEIGHT),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if blur > 1:
            picture = cv2.blur(picture, (blur, max(1, blur // 3)))
        picture = cv2.LUT(picture, self.tone)
        brighter, darker = self.grain[index % len(self.grain)]
        return cv2.subtract(cv2.add(picture, brighter), darker)

    def _placing(self, x: float, y: float) -> np.ndarray:
        """Returns the (2, 3) map from the picture to the canvas."""
        person = self.person
        turn = math.radians(person.tilt)
        cos, sin = math.cos(turn) / person.zoom, math.sin(turn) / person.zoom
        to_x = MARGIN + _CENTRE[0] + person.offset[0] + x
        to_y = MARGIN + _CENTRE[1] + person.offset[1] + y
        from_x, from_y = WIDTH / 2, HEIGHT / 2
        return np.array(
            [
                [cos, -sin, to_x - cos * from_x + sin * from_y],
                [sin, cos, to_y - sin * from_x - cos * from_y],
            ]
        )


def tone_of(person: Person) -> np.ndarray:
    """Returns what a person's light makes of every level, (256, 1, 3) uint8."""
    levels = np.arange(256)[:, None, None] * person.gain * np.asarray(person.cast)
    return np.round(levels).clip(0, 255).astype(np.uint8)


def wandering(
    num_frames: int, shake: float, rng: np.random.Generator, *, fps: float
) -> np.ndarray:
    """Draws a smooth path of the camera, (F, 2) pixels."""
    time = np.arange(num_frames)[:, None] / fps
    rates, phases = rng.uniform(0.1, 0.8, (3, 1, 2)), rng.random((3, 1, 2))
    return shake * 1.7 * np.sin(2 * np.pi * (rates * time + phases)).mean(axis=0)
