"""Plans the demo data: recipes, actions in time, people and kitchens."""

import dataclasses

import numpy as np

from data_pipeline.demo.scene import Look, Scene, Style, after, at_work

FPS = 15
CLASS_NAMES = (
    "take", "open", "pour", "close", "shake", "scoop", "stir", "put", "fold", "spread",
    "background",
)  # fmt: skip

# A dish is made in stages; the blocks of a stage come in any order. A block is a fixed
# sequence of "action object"; one with a "?" is left out one time in three.
RECIPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "Tea": (
        ("take cup",),
        ("take bottle, ?shake bottle, pour bottle, ?put bottle",),
        ("stir cup", "?scoop cup"),
    ),
    "Coffee": (
        ("open jar, scoop jar, close jar, ?put jar", "?scoop cup"),
        ("stir cup",),
    ),
    "Honey": (
        ("take jar", "?stir cup"),
        ("?shake jar, open jar, stir jar, close jar",),
    ),
    "Cheese": (
        ("take bread",),
        ("spread bread", "?open jar"),
        ("fold bread, put bread",),
    ),
    "Peanut": (
        ("open jar, ?scoop jar",),
        ("spread bread", "close jar, ?put jar"),
        ("?fold bread",),
    ),
    "Hotdog": (
        ("shake bottle, pour bottle, put bottle",),
        ("?spread bread, fold bread, ?put bread",),
    ),
    "Pealate": (
        ("shake jar", "?take cup"),
        ("open jar, scoop jar, ?stir jar, close jar",),
        ("put jar",),
    ),
}
ON_THE_TABLE = {  # at the start; everything else stands on the shelf
    "Tea": (),
    "Coffee": ("cup", "jar"),
    "Honey": ("cup",),
    "Cheese": ("jar",),
    "Peanut": ("bread", "jar"),
    "Hotdog": ("bread", "bottle"),
    "Pealate": ("jar",),
}
SECONDS = {  # shortest and longest duration of an action
    "take": (2.4, 4.0), "put": (2.4, 4.0), "open": (3.0, 4.6), "close": (3.0, 4.6),
    "stir": (3.2, 6.0), "scoop": (3.2, 5.6), "shake": (3.2, 5.2), "pour": (3.2, 5.4),
    "spread": (3.2, 5.8), "fold": (2.8, 4.2), "background": (0.8, 1.8),
}  # fmt: skip
STROKE_S = {"stir": 1.1, "scoop": 1.1, "shake": 0.7, "spread": 1.0}
SHELF_X = {"cup": 40.0, "bread": 46.0, "bottle": 88.0, "jar": 88.0}
BGR = tuple[float, float, float]
# One per person.
SKINS: tuple[BGR, ...] = (
    (150, 185, 235), (105, 150, 215), (95, 135, 200), (130, 165, 225),
)  # fmt: skip
SLEEVES: tuple[BGR, ...] = (
    (70, 60, 190), (60, 90, 210), (90, 50, 170), (80, 80, 200),
)  # fmt: skip
TABLES: tuple[BGR, ...] = (
    (85, 75, 65), (80, 80, 70), (75, 70, 70), (90, 80, 75),
)  # fmt: skip
WALL: BGR = (165, 165, 160)
ITEM_COLOURS: dict[str, BGR] = {
    "cup": (220, 140, 40), "jar": (160, 60, 150), "bottle": (70, 170, 60),
    "bread": (130, 205, 235), "lid": (60, 225, 245), "metal": (225, 225, 225),
    "liquid": (250, 220, 120), "smear": (40, 80, 130),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Step:
    """One action of a video: frames `start` to `end - 1`, and the scene before it."""

    action: str
    item: str
    start: int
    end: int
    before: Scene
    style: Style


def plan_steps(activity: str, rng: np.random.Generator) -> list[Step]:
    """Draws one way to make a dish: its actions with their frames, without gaps."""
    scene = Scene(placed=frozenset(ON_THE_TABLE[activity]))
    tempo = rng.uniform(0.85, 1.15)
    steps: list[Step] = []

    def add(action: str, item: str) -> None:
        start = steps[-1].end if steps else 0
        frames = round(rng.uniform(*SECONDS[action]) * tempo * FPS)
        style = _draw_style(action, rng)
        steps.append(Step(action, item, start, start + frames, scene, style))

    add("background", "")
    for words in _order(activity, rng):
        add(*words)
        scene = after(scene, *words)
        if rng.random() < 0.35:
            hover = sorted(scene.placed) if rng.random() < 0.35 else []
            add("background", str(rng.choice(hover)) if hover else "")
    if steps[-1].action != "background":
        add("background", "")
    return steps


def _order(activity: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    words = []
    for stage in RECIPES[activity]:
        for block in rng.permutation(len(stage)):
            for step in stage[block].split(", "):
                if step.startswith("?") and rng.random() < 1 / 3:
                    continue
                action, item = step.lstrip("?").split()
                words.append((action, item))
    return words


def _draw_style(action: str, rng: np.random.Generator) -> Style:
    pause = (0.55, 0.0)
    if action in ("take", "put", "open", "close") and rng.random() < 0.4:
        pause = (rng.uniform(0.35, 0.5), rng.uniform(0.1, 0.25))
    return Style(
        amplitude=rng.uniform(12, 15),
        period_s=STROKE_S.get(action, 1.2) * rng.uniform(0.85, 1.2),
        phase=rng.random(),
        pause=pause,
    )


def draw_look(person: int, activity: str, rng: np.random.Generator) -> Look:
    """Draws a video's look: the person's skin, sleeve and kitchen, the day's light."""
    light = rng.uniform(0.9, 1.1)
    own = (person - 1) % len(SKINS)

    def tinted(colour: BGR, spread: float = 10) -> BGR:
        varied = np.asarray(colour) + rng.uniform(-spread, spread, 3)
        return tuple((light * varied).clip(0, 255).tolist())

    clutter = tuple(
        (x, y, size, tinted((130, 130, 130), 70))
        for x, y, size in rng.uniform((-10, 40, 2), (30, 95, 5), (3, 3)).tolist()
    )
    return Look(
        skin=tinted(SKINS[own]),
        sleeve=tinted(SLEEVES[own], 30),
        table=tinted(TABLES[own]),
        wall=tinted(WALL),
        items={name: tinted(colour, 10) for name, colour in ITEM_COLOURS.items()},
        shelf_x={item: SHELF_X[item] + rng.uniform(-4, 4) for item in _items(activity)},
        clutter=clutter,
        hand_size=12 + 0.7 * own + rng.uniform(-0.5, 0.5),
        noise=rng.uniform(2, 5),
        shake=rng.uniform(1, 3),
    )


def _items(activity: str) -> list[str]:
    """Returns the objects that a dish needs."""
    blocks = ", ".join(block for stage in RECIPES[activity] for block in stage)
    used = {step.split()[1] for step in blocks.split(", ")}
    return sorted(used.union(ON_THE_TABLE[activity]))


def step_labels(step: Step) -> list[str]:
    """Returns the label of every frame: reach and return are background."""
    shares = [i / (step.end - step.start) for i in range(step.end - step.start)]
    working = [at_work(share, step.style) for share in shares]
    return [step.action if works else "background" for works in working]
