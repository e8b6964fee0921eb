"""Pictures: what they depend on, and what difficulty does to them."""

import dataclasses

import numpy as np
import pytest

from data_pipeline.demo.scene import HEIGHT, WIDTH
from data_pipeline.rendered.camera import draw_hidings
from data_pipeline.rendered.film import Settings, render_frames
from data_pipeline.rendered.person import draw_person
from data_pipeline.rendered.timeline import plan_steps
from data_pipeline.rendered.vocabulary import read_vocabulary

CLASSES = ("background", "take", "stir", "cut_tomato", "flurb")
VOCABULARY = read_vocabulary(CLASSES, ("background",))
LABELS = tuple(name for name in CLASSES for _ in range(12))
EASY, HARD = Settings(difficulty=0), Settings(difficulty=1)


def film(name="S1_tea", person="S1", labels=LABELS, settings=EASY):
    return np.stack(list(render_frames(name, person, labels, VOCABULARY, settings)))


def test_there_is_a_frame_for_every_label():
    frames = film()
    assert frames.shape == (len(LABELS), HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    assert film(labels=("flurb",)).shape == (1, HEIGHT, WIDTH, 3)


def test_equal_arguments_give_equal_frames_and_others_do_not():
    labels = LABELS[:20]
    first = film(labels=labels)
    np.testing.assert_array_equal(film(labels=labels), first)
    for change in (
        {"name": "S1_jam"},
        {"person": "S2"},
        {"settings": HARD},
        {"settings": dataclasses.replace(EASY, seed=1)},
        {"settings": dataclasses.replace(EASY, fps=25.0)},
    ):
        assert (film(labels=labels, **change) != first).any()


def people(difficulty, count=24):
    return [
        dataclasses.asdict(draw_person(f"S{n}", seed=0, difficulty=difficulty))
        for n in range(count)
    ]


def test_people_are_themselves_in_all_videos_and_differ_more_if_it_is_hard():
    assert people(0.5) == people(0.5)
    for field in ("zoom", "tilt", "hand_size", "tempo", "gain", "amplitude"):
        easy, hard = ([p[field] for p in people(d)] for d in (0, 1))
        assert len(set(easy)) == 24
        assert np.std(hard) > 2 * np.std(easy)


def test_a_person_held_out_looks_like_none_of_the_others():
    labels = ("background",) * 2
    pictures = {
        (person, video): film(f"{person}_{video}", person, labels, HARD)[0].mean((0, 1))
        for person in ("S1", "S2", "S3", "S4")
        for video in "abc"
    }

    def gap(a, b):
        return np.abs(pictures[a] - pictures[b]).max()

    def of(person):
        return [key for key in pictures if key[0] == person]

    for person in ("S1", "S2", "S3", "S4"):
        within = np.mean([gap(a, b) for a in of(person) for b in of(person) if a < b])
        others = [key for key in pictures if key[0] != person]
        across = np.mean([gap(a, b) for a in of(person) for b in others])
        assert across > 1.5 * within


@pytest.mark.parametrize("difficulty, expected", [(0, 0), (0.5, 0.3), (1, 0.6)])
def test_difficulty_is_the_share_of_time_in_which_work_is_hidden(difficulty, expected):
    works = [VOCABULARY.works[name] for name in LABELS * 100]
    person = draw_person("S1", seed=0, difficulty=difficulty)
    rng = np.random.default_rng(0)
    how = {"fps": 15, "difficulty": difficulty}
    steps = plan_steps(works, person, rng, **how)
    hidings = draw_hidings(steps, rng, **how)
    share = len(hidings) / len(steps)
    assert share == pytest.approx(expected, abs=0.08)
    borders = {step.start for step in steps}
    assert sum(h.start in borders for h in hidings) <= 0.35 * len(hidings)
    assert {h.kind for h in hidings} == (
        {"lost", "covered", "blurred"} if difficulty else set()
    )
