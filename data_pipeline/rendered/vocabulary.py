"""What the classes of any data set look like: a motion, an object, or both.

The verb in a class's name decides the motion if it is known, and otherwise the class's
place in mapping.txt; what is left of the name is an object with a colour of its own. So
some classes share a motion and others an object, as in a real kitchen.
"""

import collections
import colorsys
import dataclasses
import re
from collections.abc import Sequence

from data_pipeline.demo.scene import Colour

IDLE = "background"  # the demo's name of a hand at rest
IDLE_CLASSES = ("background", "SIL", "None", "action_start", "action_end")
# Every motion with the kinds of objects that it can be made with.
MOTIONS: dict[str, tuple[str, ...]] = {
    "take": ("cup", "jar", "bottle", "bread"),
    "open": ("jar",),
    "pour": ("bottle", "jar"),
    "close": ("jar",),
    "shake": ("bottle", "jar"),
    "scoop": ("cup", "jar"),
    "stir": ("cup", "jar"),
    "put": ("cup", "jar", "bottle", "bread"),
    "fold": ("bread",),
    "spread": ("bread",),
    "cut": ("bread",),
}
_VERBS = {
    "take": "take get grab pick fetch lift remove",
    "open": "open unscrew uncap untwist",
    "pour": "pour add fill drain",
    "close": "close shut screw cap",
    "shake": "shake sprinkle salt season squeeze",
    "scoop": "scoop spoon serve ladle dip",
    "stir": "stir mix whisk beat blend stirfry",
    "put": "put place lay return insert move",
    "fold": "fold wrap roll turn flip",
    "spread": "spread smear butter peel wipe wash grate",
    "cut": "cut slice chop divide crack",
}
_MOTION_OF = {
    verb: motion for motion, verbs in _VERBS.items() for verb in verbs.split()
}
_GOLDEN = 0.618034  # turns of the colour circle: no two of many hues come close


@dataclasses.dataclass(frozen=True)
class Work:
    """How a class is shown.

    Attributes:
        motion: one of `MOTIONS`, or `IDLE`.
        kinds: the kinds of objects that it may be done with.
        item: the object, such as "jar:salt"; "": one that the scene offers.
    """

    motion: str
    kinds: tuple[str, ...] = ()
    item: str = ""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What all classes of a data set look like.

    Attributes:
        works: of every class.
        colours: of the objects that the classes name, in the order of the classes.
    """

    works: dict[str, Work]
    colours: dict[str, Colour]


def read_vocabulary(classes: Sequence[str], idle: Sequence[str]) -> Vocabulary:
    """Returns how to show these classes; no two of those with work look alike.

    Args:
        classes: in the order of mapping.txt.
        idle: those of them that show a hand at rest.
    """
    parsed: dict[str, tuple[str, str]] = {}  # class -> motion, noun
    for index, name in enumerate(classes):
        if name in idle:
            continue
        motion, noun = _parse(name, index)
        if (motion, noun) in parsed.values():
            noun = name
        parsed[name] = motion, noun
    kind_of_noun = _kinds(list(parsed.values()))
    works = {name: Work(IDLE) for name in classes}
    nouns: list[str] = []
    for name, (motion, noun) in parsed.items():
        kind = kind_of_noun.get((motion, noun))
        works[name] = Work(motion, MOTIONS[motion], f"{kind}:{noun}" if noun else "")
        if noun:
            nouns.append(noun)
    order = {noun: number for number, noun in enumerate(dict.fromkeys(nouns))}
    items = dict.fromkeys(work.item for work in works.values() if work.item)
    return Vocabulary(
        works, {item: _colour(order[item.partition(":")[2]]) for item in items}
    )


def _parse(name: str, index: int) -> tuple[str, str]:
    """Returns the motion of a class and the object that it names, "" for none."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    for place, word in enumerate(words):
        if motion := _MOTION_OF.get(word.lower()):
            following = words[place + 1 : place + 2]
            return motion, "".join(following).lower()
    return tuple(MOTIONS)[index % len(MOTIONS)], name


def _kinds(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Chooses the kind of object that a noun is, one for as many motions as it can."""
    kinds_of: dict[str, list[str]] = {}
    for motion, noun in pairs:
        kinds_of.setdefault(noun, []).extend(MOTIONS[motion])
    chosen = {}
    for motion, noun in pairs:
        counts = collections.Counter(kinds_of[noun])
        allowed = {kind: counts[kind] for kind in MOTIONS[motion]}
        best = [kind for kind in allowed if allowed[kind] == max(allowed.values())]
        chosen[motion, noun] = best[sum(noun.encode()) % len(best)]
    return chosen


def _colour(number: int) -> Colour:
    hue = number * _GOLDEN % 1
    bright = (0.9, 0.6)[number % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, bright)
    return 255 * blue, 255 * green, 255 * red
