"""Steps fill the time as the labels say, and leave the scene possible."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from data_pipeline.demo.plan import CLASS_NAMES
from data_pipeline.demo.scene import CONTACT, spot_of
from data_pipeline.rendered.motion import poses, progress_at
from data_pipeline.rendered.person import draw_look, draw_person
from data_pipeline.rendered.timeline import plan_steps
from data_pipeline.rendered.vocabulary import IDLE, read_vocabulary

FPS = 15
PERSON = draw_person("S1", seed=0, difficulty=0.5)
CLASSES = (*CLASS_NAMES, "cut_tomato", "place_tomato", "add_salt")
VOCABULARY = read_vocabulary(CLASSES, (IDLE,))

segments = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from((1, 2, 3, 8, 20, 70, 700))),
    min_size=1,
    max_size=12,
)


def plan(runs, seed=0):
    works = [VOCABULARY.works[name] for name, length in runs for _ in range(length)]
    rng = np.random.default_rng(seed)
    return works, plan_steps(works, PERSON, rng, fps=FPS, difficulty=0.5)


@hypothesis.given(segments)
def test_every_frame_is_filled_once_and_shows_its_label(runs):
    works, steps = plan(runs)
    for before, step in itertools.pairwise(steps):
        assert before.end + before.leave == step.start - step.reach
    assert steps[0].start == steps[0].reach == 0 or steps[0].motion != IDLE
    assert steps[-1].end + steps[-1].leave == len(works)
    for step in steps:
        assert {work.motion for work in works[step.start : step.end]} == {step.motion}
        ways = works[step.start - step.reach : step.start]
        ways += works[step.end : step.end + step.leave]
        assert {work.motion for work in ways} <= {IDLE}


@hypothesis.given(segments)
def test_scenes_are_possible(runs):
    for step in plan(runs)[1]:
        spots = [spot_of(item) for item in step.before.placed]
        assert len(spots) == len(set(spots))
        if step.motion in ("take", IDLE):
            assert step.motion == IDLE or step.item not in step.before.placed
        else:
            assert step.item in step.before.placed
        if step.motion in ("open", "close"):
            assert step.before.lid_off == (step.motion == "close")


@hypothesis.given(segments)
def test_hands_are_at_work_in_all_frames_of_a_label_and_in_no_other(runs):
    for step in plan(runs)[1]:
        frames = range(step.start - step.reach, step.end + step.leave)
        shares = [progress_at(step, index, fps=FPS) for index in frames]
        assert 0 <= min(shares) and max(shares) <= 1
        if step.motion == IDLE:
            continue
        for index, share in zip(frames, shares, strict=True):
            working = CONTACT[0] <= share <= CONTACT[1]
            assert working == (step.start <= index < step.end)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("length", [1, 900])
def test_short_and_long_segments_stay_in_the_picture(name, length):
    runs = [("background", 9), (name, length), ("background", 9)]
    look = draw_look(
        PERSON, VOCABULARY.colours, np.random.default_rng(0), difficulty=0.5
    )
    found = list(poses(plan(runs)[1], look, fps=FPS))
    assert len(found) == length + 18
    hands = np.array([pose.hand for pose in found])
    assert np.isfinite(hands).all()
    assert hands.min() > -30 and hands.max() < 150
    if length > 1 and name != IDLE:  # the hand does not freeze
        late = hands[400:500]
        assert np.ptp(late, axis=0).max() > 1


def test_the_hand_does_not_jump_between_two_actions():
    for seed in range(10):
        look = draw_look(PERSON, {}, np.random.default_rng(seed), difficulty=0.5)
        runs = [("take", 30), ("open", 30), ("background", 1), ("stir", 30)]
        hands = [p.hand for p in poses(plan(runs, seed)[1], look, fps=FPS)]
        steps = np.linalg.norm(np.diff(hands, axis=0), axis=1)
        assert steps.max() < 25  # of up to 90 from one place to another
