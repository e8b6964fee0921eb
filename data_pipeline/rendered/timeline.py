"""From the labels of a video to what happens in its kitchen, without a gap.

The true labels say what is done and when. With which object it is done is drawn, so
that the scene stays possible where the labels allow it: what was taken is poured, a lid
that is off is put on. Where they do not, the scene is put right on the hand's way.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from data_pipeline.demo.plan import STROKE_S
from data_pipeline.demo.scene import BASE, Scene, Style, after, kind_of, spot_of
from data_pipeline.rendered.person import Person
from data_pipeline.rendered.vocabulary import IDLE, Work

_HOVER_S = 3.0  # about as long the hand at rest looks for one thing
_REACH_S = 0.5  # of the hand on its way, if there is idle time


@dataclasses.dataclass(frozen=True)
class Step:
    """One segment of a video, or a part of an idle one.

    Attributes:
        motion: what the hand does.
        item: the object it does it with; of an idle hand, where it hovers, or "".
        start, end: the frames `start` to `end - 1` in which it does.
        reach, leave: idle frames before and after in which it is on its way.
        before: the scene before it, in which it is possible.
        style: how it is carried out.
        holds: three shares of the spare time of a long single movement: the hand
            lingers before it, amid it and after it.
    """

    motion: str
    item: str
    start: int
    end: int
    reach: int
    leave: int
    before: Scene
    style: Style
    holds: tuple[float, float, float]


def plan_steps(
    works: Sequence[Work],
    person: Person,
    rng: np.random.Generator,
    *,
    fps: float,
    difficulty: float,
) -> list[Step]:
    """Plans a video.

    Args:
        works: what is to be seen in every frame.
        fps: frames per second of the film.
        difficulty: 0 to 1: how often an idle hand hovers over an object.

    Returns:
        Steps in their order; together with their ways they fill every frame once.
    """
    steps: list[Step] = []
    scene = Scene()
    pieces = _pieces(works, fps)
    for index, piece in enumerate(pieces):
        if piece.work.motion == IDLE:
            hover = 0.15 + 0.45 * difficulty
            steps += _idle_steps(piece, scene, person, rng, fps=fps, hover=hover)
            continue
        motion, item = piece.work.motion, piece.work.item
        if not item:
            following = (later.work for later in pieces[index + 1 :])
            item = _choose_item(piece.work, _next_use(following), scene, rng)
        scene = make_possible(scene, motion, item)
        style, holds = _draw_style(motion, person, rng), _draw_holds(rng)
        span = piece.start, piece.end, piece.reach, piece.leave
        steps.append(Step(motion, item, *span, scene, style, holds))
        scene = after(scene, motion, item)
    return steps


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A segment; of an idle one, what the hand's ways leave of it."""

    work: Work
    start: int
    end: int
    reach: int
    leave: int


def _pieces(works: Sequence[Work], fps: float) -> list[_Piece]:
    runs = [(work, len(list(run))) for work, run in itertools.groupby(works)]
    # Frames at the beginning and at the end of a run in which the hand is on its way.
    ways = [
        _ways(length, fps, first=index == 0, last=index == len(runs) - 1)
        if work.motion == IDLE
        else (0, 0)
        for index, (work, length) in enumerate(runs)
    ]
    pieces, start = [], 0
    for index, (work, length) in enumerate(runs):
        back, forth = ways[index]
        reach = ways[index - 1][1] if index else 0
        leave = ways[index + 1][0] if index + 1 < len(runs) else 0
        span = start + back, start + length - forth
        pieces.append(_Piece(work, *span, reach, leave))
        start += length
    return pieces


def make_possible(scene: Scene, motion: str, item: str) -> Scene:
    """Returns the scene with as little changed as lets the motion be done."""
    others = {o for o in scene.placed if spot_of(o) == spot_of(item) and o != item}
    new = item not in scene.placed
    placed = scene.placed - others
    placed = placed - {item} if motion == "take" else placed | {item}
    scene = dataclasses.replace(scene, placed=placed)
    if new and spot_of(item) == BASE:  # what was done there went with the other thing
        scene = dataclasses.replace(scene, smeared=False, folded=False)
    elif new:
        scene = dataclasses.replace(scene, lid_off=False)
    match motion:
        case "open":
            return dataclasses.replace(scene, lid_off=False)
        case "close":
            return dataclasses.replace(scene, lid_off=True)
        case "fold":
            return dataclasses.replace(scene, folded=False)
        case "stir" | "scoop" | "pour" if kind_of(item) == "jar":
            return dataclasses.replace(scene, lid_off=True)
        case "shake" | "take" if kind_of(item) == "jar":
            return dataclasses.replace(scene, lid_off=False)
    return scene


def _ways(length: int, fps: float, *, first: bool, last: bool) -> tuple[int, int]:
    """Returns how many idle frames go to the way back and to that to the next work."""
    most = longest_way(fps)
    back = 0 if first else min(most, length // 2)
    return back, 0 if last else min(most, length - back)


def longest_way(fps: float) -> int:
    """Returns the frames that the hand needs from rest to its work."""
    return max(1, round(_REACH_S * fps))


def _next_use(following: Iterable[Work]) -> Work | None:
    """Returns what is done next with a thing that is taken now."""
    return next((w for w in following if w.motion not in (IDLE, "take")), None)


def _choose_item(
    work: Work, following: Work | None, scene: Scene, rng: np.random.Generator
) -> str:
    """Chooses an object that suits the scene, mostly."""
    items = list(work.kinds)
    if work.motion == "take":
        items = [item for item in items if item not in scene.placed] or items
        wanted = [i for i in items if following and i in following.kinds]
        if wanted and rng.random() < 0.8:
            items = wanted
    else:
        ready = [i for i in items if make_possible(scene, work.motion, i) == scene]
        if ready and rng.random() < 0.9:
            items = ready
    return str(rng.choice(sorted(items)))


def _idle_steps(
    piece: _Piece,
    scene: Scene,
    person: Person,
    rng: np.random.Generator,
    *,
    fps: float,
    hover: float,
) -> list[Step]:
    """Plans idle frames: the hand rests, or hovers over one thing after the other."""
    start, end = piece.start, piece.end
    if start >= end:
        return []
    count = max(1, round((end - start) / fps / _HOVER_S))
    borders = np.linspace(start, end, count + 1).round().astype(int).tolist()
    steps = []
    for first, last in itertools.pairwise(borders):
        style, holds = _draw_style(IDLE, person, rng), _draw_holds(rng)
        item = ""
        if scene.placed and last - first > 0.5 * fps and rng.random() < hover:
            item = str(rng.choice(sorted(scene.placed)))
        steps.append(Step(IDLE, item, first, last, 0, 0, scene, style, holds))
    return steps


def _draw_style(motion: str, person: Person, rng: np.random.Generator) -> Style:
    stroke_s = STROKE_S.get(motion, 1.2) * person.tempo
    return Style(
        amplitude=person.amplitude * rng.uniform(12, 15),
        period_s=stroke_s * rng.uniform(0.8, 1.25),
        phase=rng.random(),
        pause=(0.5, 0.0),  # none: `motion.progress_at` paces a step
    )


def _draw_holds(rng: np.random.Generator) -> tuple[float, float, float]:
    first, second, third = rng.dirichlet((1, 0.6, 1)).tolist()
    return first, second, third
