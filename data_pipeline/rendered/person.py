"""Who is filmed: a look, a manner and a camera of one's own, drawn from the name.

Everything comes from continuous ranges, so that any number of people differ, and one
who is held out looks like none of those that a model was trained on.
"""

import colorsys
import dataclasses

import numpy as np

from data_pipeline.demo.plan import ITEM_COLOURS
from data_pipeline.demo.render import video_generator
from data_pipeline.demo.scene import Colour, Look

_DARK_SKIN, _LIGHT_SKIN = (45.0, 65.0, 100.0), (165.0, 190.0, 240.0)
_GREY = np.array((120.0, 125.0, 130.0))


@dataclasses.dataclass(frozen=True)
class Person:
    """One person's look and manner, in all of that person's videos.

    Attributes:
        zoom: of the camera, 1 for the demo's.
        tilt: of the camera, in degrees.
        offset: of the camera, pixels to the right and down.
        gain: of the light.
        cast: of the light, a factor for blue, green and red.
        tempo: seconds of a stroke, as a factor.
        amplitude: of a stroke, as a factor.
    """

    skin: Colour
    sleeve: Colour
    table: Colour
    wall: Colour
    hand_size: float
    zoom: float
    tilt: float
    offset: tuple[float, float]
    gain: float
    cast: Colour
    tempo: float
    amplitude: float


def draw_person(name: str, *, seed: int, difficulty: float) -> Person:
    """Draws a person; equal arguments give the same one.

    Args:
        name: what tells people apart, such as "S1".
        difficulty: 0 to 1: how much people differ.
    """
    rng = video_generator(seed, f"person {name}")
    spread = 0.3 + 0.7 * difficulty

    def around(centre: float, reach: float) -> float:
        return float(centre + spread * rng.uniform(-reach, reach))

    tone = around(0.6, 0.4)
    skin = tuple(
        dark + tone * (light - dark)
        for dark, light in zip(_DARK_SKIN, _LIGHT_SKIN, strict=True)
    )
    return Person(
        skin=(skin[0], skin[1], skin[2]),
        sleeve=_hsv(around(0.0, 0.5), around(0.55, 0.35), around(0.6, 0.25)),
        table=_hsv(around(0.1, 0.5), 0.12 + 0.3 * abs(around(0, 1)), around(0.35, 0.2)),
        wall=_hsv(around(0.1, 0.5), 0.04 + 0.2 * abs(around(0, 1)), around(0.65, 0.2)),
        hand_size=around(13, 3),
        zoom=around(1.1, 0.18),
        tilt=around(0, 14),
        offset=(around(0, 10), around(0, 8)),
        gain=around(1, 0.3),
        cast=(around(1, 0.14), around(1, 0.07), around(1, 0.14)),
        tempo=around(1, 0.3),
        amplitude=around(1, 0.25),
    )


def draw_look(
    person: Person,
    colours: dict[str, Colour],
    rng: np.random.Generator,
    *,
    difficulty: float,
) -> Look:
    """Draws a video's look: the person's, and the day's objects, clutter and light.

    Args:
        colours: of the objects that the classes name, beside the demo's.
    """
    light = rng.uniform(0.9, 1.1)

    def tinted(colour: Colour, spread: float = 10) -> Colour:
        varied = np.asarray(colour) + rng.uniform(-spread, spread, 3)
        blue, green, red = (light * varied).clip(0, 255).tolist()
        return blue, green, red

    def dulled(colour: Colour) -> Colour:
        mixed = np.asarray(colour) + 0.5 * difficulty * (_GREY - np.asarray(colour))
        return tinted(tuple(mixed.tolist()), 10 + 22 * difficulty)

    items = {name: dulled(c) for name, c in {**ITEM_COLOURS, **colours}.items()}
    shelf_x = _on_the_shelf(tuple(colours), rng)
    return Look(
        skin=tinted(person.skin),
        sleeve=tinted(person.sleeve, 10 + 20 * difficulty),
        table=tinted(person.table),
        wall=tinted(person.wall),
        items=items,
        shelf_x=shelf_x,
        clutter=_clutter(items, tuple(colours), shelf_x, rng, difficulty),
        hand_size=person.hand_size + rng.uniform(-0.5, 0.5),
        noise=rng.uniform(2, 5) * (1 + difficulty),
        shake=rng.uniform(1, 3) * (1 + 1.5 * difficulty),
    )


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(saturation, 1), min(value, 1))
    return 255 * blue, 255 * green, 255 * red


def _on_the_shelf(items: tuple[str, ...], rng: np.random.Generator) -> dict[str, float]:
    """Returns where the objects stand that are not in use."""
    shelf = {"cup": 22.0, "bread": 50.0, "bottle": 80.0, "jar": 106.0}
    if items:
        places = np.linspace(10, 118, len(items))
        shelf |= dict(zip(items, rng.permutation(places).tolist(), strict=True))
    return {item: x + rng.uniform(-3, 3) for item, x in shelf.items()}


def _clutter(
    items: dict[str, Colour],
    named: tuple[str, ...],
    shelf_x: dict[str, float],
    rng: np.random.Generator,
    difficulty: float,
) -> tuple[tuple[float, float, float, Colour], ...]:
    """Draws the fixed things: a small sign of every named object on the shelf, and
    boxes on the table, some of an object's colour."""
    stock = [(shelf_x[item], 28.0, 4.0, items[item]) for item in named]
    # At difficulty 0 only the left of the table is littered, as in the demo.
    lowest, highest = (-10, 40, 2), (30 + 110 * difficulty, 95, 5 + 2 * difficulty)
    boxes = rng.uniform(lowest, highest, (3 + round(9 * difficulty), 3)).tolist()
    palette = list(items.values())
    for x, y, size in boxes:
        blue, green, red = rng.uniform(60, 200, 3).tolist()
        if rng.random() < 0.6 * difficulty:
            blue, green, red = palette[rng.integers(len(palette))]
        stock.append((x, y, size, (blue, green, red)))
    return tuple(stock)
