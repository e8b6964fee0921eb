"""Renders the demo data: labelled videos of small kitchen scenes, with no download.

The folder has the field's common layout and GTEA's classes, so that whatever runs on it
also runs on real data. Four people each prepare seven dishes twice; split K tests on
person K and trains on the others.

`plan` decides who does what and when, `scene` where everything is at that time, `paint`
how it looks; this module writes the files.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator

import cv2
import ml_collections
import numpy as np
from absl import logging

from data_pipeline.demo import paint
from data_pipeline.demo.plan import (
    CLASS_NAMES,
    FPS,
    RECIPES,
    Step,
    draw_look,
    plan_steps,
    step_labels,
)
from data_pipeline.demo.scene import HEIGHT, WIDTH, Look, pose_at
from data_pipeline.prepared import index as prepared_index
from svtas_jax.errors import InputError

VERSION = 3  # of the rendered data: raise it when pixels or labels change


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to render; equal settings and VERSION give equal files."""

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
    """Renders the demo data unless the folder already holds it, or prepared data.

    Raises:
        InputError: if the folder holds something else, or cannot be written.
    """
    root, settings = pathlib.Path(root), settings or Settings()
    if prepared_index.is_prepared(root) or _is_complete(root, settings):
        return
    render_dataset(root, settings)


def ensure_configured(data_config: ml_collections.ConfigDict) -> None:
    """Renders the demo data if `config.data` asks for it and it is missing."""
    if data_config.dataset == "demo":
        ensure_dataset(data_config.root)


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
    """Writes `Videos/NAME.mp4` and `groundTruth/NAME.txt`; returns the frame count."""
    rng = video_generator(seed, name)
    person, activity = int(name[1 : name.index("_")]), name.split("_")[1]
    look = draw_look(person, activity, rng)
    steps = plan_steps(activity, rng)
    labels = [label for step in steps for label in step_labels(step)]
    _write_lines(folder / "groundTruth" / f"{name}.txt", labels)
    path = folder / "Videos" / f"{name}.mp4"
    write_video(path, render_frames(steps, look, rng), fps=FPS)
    return len(labels)


def write_video(
    path: pathlib.Path, frames: Iterable[np.ndarray], *, fps: float
) -> None:
    """Encodes frames, (HEIGHT, WIDTH, 3) uint8 BGR each, as an MP4 file.

    Raises:
        InputError: if this OpenCV cannot.
    """
    size = (WIDTH, HEIGHT)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise InputError(
            f"OpenCV {cv2.__version__} cannot encode {path.name} as MPEG-4; the wheel "
            "from PyPI includes an FFmpeg that can: pip install opencv-python."
        )
    for frame in frames:
        writer.write(frame)
    writer.release()


def render_frames(
    steps: list[Step], look: Look, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yields every frame of a video, (H, W, 3) uint8 BGR."""
    canvas = paint.background(look, rng)
    grain = grain_bank(look.noise, rng)
    shifts = _camera_path(steps[-1].end, look.shake, rng)
    for step in steps:
        frames = step.end - step.start
        for index in range(step.start, step.end):
            pose = pose_at(
                step.before,
                step.action,
                step.item,
                u=(index - step.start) / frames,
                seconds=frames / FPS,
                look=look,
                style=step.style,
            )
            image = canvas.copy()
            paint.draw(image, pose, look)
            shift, noise = shifts[index], grain[index % len(grain)]
            yield paint.film(image, shift=shift, grain=noise)


def _camera_path(
    num_frames: int, shake: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Draws a smooth wandering of the camera, in whole pixels."""
    time = np.arange(num_frames)[:, None] / FPS
    rates, phases = rng.uniform(0.1, 0.8, (3, 1, 2)), rng.random((3, 1, 2))
    waves = np.sin(2 * np.pi * (rates * time + phases)).mean(axis=0)
    return [(round(x), round(y)) for x, y in (shake * 1.7 * waves).tolist()]


def grain_bank(
    strength: float, rng: np.random.Generator, *, size: int = 8
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws a few frames of sensor noise as pairs (to add, to subtract), uint8."""
    shape = (size, HEIGHT, WIDTH, 3)
    grain = np.round(strength * rng.standard_normal(shape, np.float32))
    bright, dark = grain.clip(0).astype(np.uint8), (-grain).clip(0).astype(np.uint8)
    return list(zip(bright, dark, strict=True))


def video_generator(seed: int, name: str) -> np.random.Generator:
    """Returns the generator of one video; it depends on seed and name alone."""
    return np.random.default_rng([seed, *name.encode()])


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
    """Returns whether the folder holds this data; raises if it holds anything else."""
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
    """Creates a temporary folder that is renamed to `root` if the block succeeds."""
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
