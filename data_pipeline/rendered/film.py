"""One video: planned from its labels, painted and filmed."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipeline.demo import paint
from data_pipeline.demo.render import grain_bank, video_generator
from data_pipeline.rendered import camera
from data_pipeline.rendered.motion import poses
from data_pipeline.rendered.person import draw_look, draw_person
from data_pipeline.rendered.timeline import plan_steps
from data_pipeline.rendered.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a data set is rendered.

    Attributes:
        difficulty: 0, like the demo, to 1.
        seed: of all that is drawn.
        fps: frames per second of the film.
    """

    difficulty: float = 0.5
    seed: int = 0
    fps: float = 15.0


def render_frames(
    name: str,
    person_name: str,
    labels: Sequence[str],
    vocabulary: Vocabulary,
    settings: Settings,
) -> Iterator[np.ndarray]:
    """Yields one frame for every label, (HEIGHT, WIDTH, 3) uint8 BGR.

    The frames depend on the arguments alone.
    """
    rng = video_generator(settings.seed, name)
    person = draw_person(
        person_name, seed=settings.seed, difficulty=settings.difficulty
    )
    look = draw_look(person, vocabulary.colours, rng, difficulty=settings.difficulty)
    how = {"fps": settings.fps, "difficulty": settings.difficulty}
    works = [vocabulary.works[label] for label in labels]
    steps = plan_steps(works, person, rng, **how)
    background = paint.background(look, rng)
    view = camera.Camera(
        person,
        camera.wandering(len(labels), look.shake, rng, fps=settings.fps),
        camera.tone_of(person),
        grain_bank(look.noise, rng),
        camera.draw_hidings(steps, rng, **how),
    )
    for index, pose in enumerate(poses(steps, look, fps=settings.fps)):
        canvas = background.copy()
        paint.draw(canvas, pose, look)
        camera.cover(canvas, index, view.hidings)
        yield view.film(canvas, index)
