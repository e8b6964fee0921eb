"""Renders the demo data: labelled videos of small kitchen scenes, with no download.

The folder has the field's common layout and GTEA's classes, so that all that runs on
it runs on real data. Four people each prepare seven dishes twice; split K tests on
the person K, whom training has not seen.

What is done is drawn in `synthetic_scene`; here is who does what, when, and where the
files go.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import cv2
import numpy as np
from absl import logging

from data_pipeline import synthetic_scene as scene_lib
from data_pipeline.synthetic_scene import Look, Scene, Style
from svtas_jax.errors import InputError

VERSION = 3  # of what is rendered: raise it when pixels or labels change
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
# One of each for every person.
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


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is rendered. Equal settings and VERSION give equal files."""

    seed: int = 0
    people: int = 4
    takes: int = 2
    activities: tuple[str, ...] = tuple(RECIPES)

    def video_names(self) -> list[str]:
        """Returns all videos, person by person."""
        return [
            f"S{person}_{activity}_C{take}"
            for person in range(1, self.people + 1)
            for activity in self.activities
            for take in range(1, self.takes + 1)
        ]


def ensure_dataset(root: str | os.PathLike, settings: Settings | None = None) -> None:
    """Renders the demo data unless the folder holds it already.

    Raises:
        InputError: if the folder holds something else, or cannot be written.
    """
    root, settings = pathlib.Path(root), settings or Settings()
    if _is_complete(root, settings):
        return
    render_dataset(root, settings)


def render_dataset(root: str | os.PathLike, settings: Settings | None = None) -> None:
    """Renders all videos, labels and splits into a new folder, whole or not at all."""
    root, settings = pathlib.Path(root), settings or Settings()
    _check_settings(settings)
    if _is_complete(root, settings):
        raise InputError(f"{root} holds this demo data already; nothing to render.")
    names = settings.video_names()
    logging.info("Rendering %d demo videos into %s", len(names), root)
    with _new_folder(root, settings) as folder:
        for sub in ("Videos", "groundTruth", "splits"):
            (folder / sub).mkdir()
        mapping = [f"{i} {name}" for i, name in enumerate(CLASS_NAMES)]
        _write_lines(folder / "mapping.txt", mapping)
        _write_splits(folder / "splits", settings)
        frames = _render_videos(folder, settings)
        (folder / "manifest.json").write_text(_manifest(settings))
    logging.info("Rendered %d frames", frames)


def _render_videos(folder: pathlib.Path, settings: Settings) -> int:
    def render(name: str) -> int:
        return render_video(folder, name, seed=settings.seed)

    names, total = settings.video_names(), 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, frames in enumerate(pool.map(render, names), start=1):
            total += frames
            if done % 14 == 0:
                logging.info("  %d of %d videos", done, len(names))
    return total


def render_video(folder: pathlib.Path, name: str, *, seed: int) -> int:
    """Writes `Videos/NAME.mp4` and `groundTruth/NAME.txt`; returns the frames."""
    rng = video_generator(seed, name)
    person, activity = int(name[1 : name.index("_")]), name.split("_")[1]
    look = draw_look(person, activity, rng)
    steps = plan_steps(activity, rng)
    labels = [label for step in steps for label in step_labels(step)]
    _write_lines(folder / "groundTruth" / f"{name}.txt", labels)
    path = folder / "Videos" / f"{name}.mp4"
    size = (scene_lib.WIDTH, scene_lib.HEIGHT)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, size)
    if not writer.isOpened():
        raise InputError(
            f"OpenCV {cv2.__version__} cannot encode {path.name} as MPEG-4; its wheel "
            "from PyPI brings the FFmpeg that can: pip install opencv-python."
        )
    for frame in render_frames(steps, look, rng):
        writer.write(frame)
    writer.release()
    return len(labels)


def step_labels(step: Step) -> list[str]:
    """Returns the label of every frame: reaching and returning are background."""
    shares = [i / (step.end - step.start) for i in range(step.end - step.start)]
    working = [scene_lib.at_work(share, step.style) for share in shares]
    return [step.action if works else "background" for works in working]


def render_frames(
    steps: list[Step], look: Look, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yields every frame of a video, (H, W, 3) uint8 BGR."""
    canvas = scene_lib.background(look, rng)
    grain = _grain_bank(look.noise, rng)
    shifts = _camera_path(steps[-1].end, look.shake, rng)
    for step in steps:
        frames = step.end - step.start
        for index in range(step.start, step.end):
            pose = scene_lib.pose_at(
                step.before,
                step.action,
                step.item,
                u=(index - step.start) / frames,
                seconds=frames / FPS,
                look=look,
                style=step.style,
            )
            image = canvas.copy()
            scene_lib.draw(image, pose, look)
            shift, noise = shifts[index], grain[index % len(grain)]
            yield scene_lib.film(image, shift=shift, grain=noise)


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
        scene = scene_lib.after(scene, *words)
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


def _camera_path(
    num_frames: int, shake: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Draws a smooth wandering of the camera, in whole pixels."""
    time = np.arange(num_frames)[:, None] / FPS
    rates, phases = rng.uniform(0.1, 0.8, (3, 1, 2)), rng.random((3, 1, 2))
    waves = np.sin(2 * np.pi * (rates * time + phases)).mean(axis=0)
    return [(round(x), round(y)) for x, y in (shake * 1.7 * waves).tolist()]


def _grain_bank(
    strength: float, rng: np.random.Generator, *, size: int = 8
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws a few frames of sensor noise, as what brightens and what darkens, uint8."""
    shape = (size, scene_lib.HEIGHT, scene_lib.WIDTH, 3)
    grain = np.round(strength * rng.standard_normal(shape, np.float32))
    bright, dark = grain.clip(0).astype(np.uint8), (-grain).clip(0).astype(np.uint8)
    return list(zip(bright, dark, strict=True))


def video_generator(seed: int, name: str) -> np.random.Generator:
    """Returns the randomness of one video, which depends on its name alone."""
    return np.random.default_rng([seed, *name.encode()])


# ---------------------------------------------------------------------------- files


def _check_settings(settings: Settings) -> None:
    if settings.people < 2 or settings.takes < 1 or not settings.activities:
        raise InputError(
            f"{settings} leaves a split empty; demo data needs at least 2 people (one "
            "is tested on), 1 take and 1 activity."
        )
    unknown = set(settings.activities) - set(RECIPES)
    if unknown:
        raise InputError(
            f"Demo activities {sorted(unknown)} are unknown; choose among "
            f"{', '.join(RECIPES)}."
        )


def _manifest(settings: Settings) -> str:
    facts = {"version": VERSION, **dataclasses.asdict(settings)}
    return json.dumps(facts, indent=1) + "\n"


def _is_complete(root: pathlib.Path, settings: Settings) -> bool:
    """Says whether the folder holds this data; raises if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    manifest = root / "manifest.json"
    if manifest.is_file() and manifest.read_text() == _manifest(settings):
        return True
    raise InputError(
        f"{root} exists, but it is not the demo data of this version: its "
        "manifest.json is missing or differs. Move it away to render the demo data "
        "there, or give another folder: --config.data.root=DIR. For your own videos "
        "set --config.data.dataset to a name other than 'demo'."
    )


@contextlib.contextmanager
def _new_folder(root: pathlib.Path, settings: Settings) -> Iterator[pathlib.Path]:
    """Gives a temporary folder that becomes `root` when the block ends well."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent)
    except OSError as error:
        raise InputError(
            f"The demo data cannot be written to {root} ({error.strerror}); give a "
            "folder that you may write: --config.data.root=DIR."
        ) from error
    try:
        yield pathlib.Path(folder)
        os.chmod(folder, 0o755)
        try:
            os.replace(folder, root)
        except OSError:
            if not _is_complete(root, settings):  # else another process was faster
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_splits(folder: pathlib.Path, settings: Settings) -> None:
    names = settings.video_names()
    for person in range(1, settings.people + 1):
        test = [name for name in names if name.startswith(f"S{person}_")]
        train = [name for name in names if name not in test]
        for subset, chosen in (("train", train), ("test", test)):
            path = folder / f"{subset}.split{person}.bundle"
            _write_lines(path, [f"{name}.txt" for name in chosen])


def _write_lines(path: pathlib.Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
