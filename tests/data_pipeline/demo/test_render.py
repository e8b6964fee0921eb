"""The demo data: whole or absent, the same for a seed, and physically possible."""

import dataclasses
import itertools
import json

import cv2
import numpy as np
import pytest

from data_pipeline import annotations
from data_pipeline.demo import paint, plan, render, scene
from data_pipeline.demo.render import RECIPES, Settings
from svtas_jax.config import default_config
from svtas_jax.errors import InputError

SMALL = Settings(seed=3, people=2, takes=1, activities=("Cheese",))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "data"
    render.render_dataset(root, SMALL)
    return root


def plans(activity, count=40):
    for seed in range(count):
        yield plan.plan_steps(activity, np.random.default_rng(seed))


def decode(path):
    video = cv2.VideoCapture(str(path))
    frames = []
    while (frame := video.read())[0]:
        frames.append(frame[1])
    return np.stack(frames)


def test_dataset_is_read_by_the_annotations_reader(small):
    config = default_config().data
    config.dataset, config.root, config.split = "demo", str(small), 2
    assert annotations.class_names(config) == plan.CLASS_NAMES
    train = annotations.read_split(config, "train")
    test = annotations.read_split(config, "test")
    assert [record.name for record in train] == ["S1_Cheese_C1"]
    assert [record.name for record in test] == ["S2_Cheese_C1"]
    assert {record.fps for record in train + test} == {plan.FPS}


def test_video_has_one_frame_for_every_label(small):
    for path in sorted((small / "Videos").iterdir()):
        labels = (small / "groundTruth" / f"{path.stem}.txt").read_text().splitlines()
        frames = decode(path)
        expected = (len(labels), scene.HEIGHT, scene.WIDTH, 3)
        assert frames.shape == expected
        assert set(labels) <= set(plan.CLASS_NAMES)


def test_same_seed_gives_the_same_files_and_another_seed_does_not(small, tmp_path):
    render.render_dataset(tmp_path / "same", SMALL)
    other = Settings(seed=4, people=2, takes=1, activities=("Cheese",))
    render.render_dataset(tmp_path / "other", other)
    name = "S1_Cheese_C1"
    labels = [
        (root / "groundTruth" / f"{name}.txt").read_text()
        for root in (small, tmp_path / "same", tmp_path / "other")
    ]
    assert labels[0] == labels[1] != labels[2]
    video = f"Videos/{name}.mp4"
    np.testing.assert_array_equal(
        decode(small / video), decode(tmp_path / "same" / video)
    )


def test_default_splits_test_every_person_once():
    names = Settings().video_names()
    assert len(names) == len(set(names)) == 56
    assert sum(name.startswith("S4_") for name in names) == 14


@pytest.mark.parametrize("activity", RECIPES)
def test_actions_are_possible_in_their_scene(activity):
    for steps in plans(activity):
        for step in steps:
            placed = step.item in step.before.placed
            match step.action:
                case "take":
                    assert not placed
                case "open":
                    assert placed and not step.before.lid_off
                case "close":
                    assert placed and step.before.lid_off
                case "scoop" | "stir":
                    assert placed and (step.item != "jar" or step.before.lid_off)
                case "shake":
                    assert placed and not (step.item == "jar" and step.before.lid_off)
                case "put" | "spread" | "fold" | "pour":
                    assert placed
            if step.action == "fold":
                assert not step.before.folded


@pytest.mark.parametrize("activity", RECIPES)
def test_steps_follow_each_other_without_a_gap(activity):
    for steps in plans(activity, 10):
        assert steps[0].start == 0
        for step, following in itertools.pairwise(steps):
            assert step.start < step.end == following.start
        assert steps[0].action == steps[-1].action == "background"


def test_every_class_occurs_in_every_default_training_split():
    config = Settings()
    labels = {name: set() for name in config.video_names()}
    for name in labels:
        rng = render.video_generator(config.seed, name)
        plan.draw_look(int(name[1]), name.split("_")[1], rng)
        steps = plan.plan_steps(name.split("_")[1], rng)
        labels[name] = {step.action for step in steps}
    for person in "1234":
        test = [v for n, v in labels.items() if n[1] == person]
        train = [v for n, v in labels.items() if n[1] != person]
        assert set.union(*test) == set.union(*train) == set(plan.CLASS_NAMES)


@pytest.mark.parametrize(
    ("first", "second", "item"), [("take", "put", "cup"), ("open", "close", "jar")]
)
def test_opposite_actions_show_the_same_frames_backwards(first, second, item):
    look = plan.draw_look(1, "Coffee", np.random.default_rng(0))
    style = scene.Style(amplitude=12, period_s=1, phase=0, pause=(0.5, 0))
    before = scene.Scene(placed=frozenset({"jar", "cup"} - {item} | {"jar"}))
    after = scene.after(before, first, item)

    def hand_and_item(start, action, u):
        pose = scene.pose_at(
            start, action, item, u=u, seconds=2, look=look, style=style
        )
        return (*pose.hand, *pose.places[item])

    for u in (0, 0.1, 0.4, 0.6, 0.8, 1):
        forwards = hand_and_item(before, first, u)
        backwards = hand_and_item(after, second, 1 - u)
        if not 0.2 < u < 0.45:  # there the lid is being turned, in its own rhythm
            np.testing.assert_allclose(forwards, backwards, atol=1e-9)


def test_complete_folder_is_reused(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    render.ensure_dataset(small, SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match=r"is not the demo data.*--config.data.root"):
        render.ensure_dataset(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_data_of_another_version_is_not_reused(small, tmp_path):
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["version"] -= 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="not the demo data of this version"):
        render.ensure_dataset(tmp_path, SMALL)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(InputError, match="demo"):
        render.ensure_dataset(tmp_path / "demo", SMALL)


def test_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("power cut")

    monkeypatch.setattr(render, "render_video", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        render.render_dataset(tmp_path / "demo", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_settings_that_leave_a_split_empty_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 2 people"):
        render.render_dataset(tmp_path / "demo", Settings(people=1))
    with pytest.raises(InputError, match="Brunch.*Tea"):
        render.render_dataset(tmp_path / "demo", Settings(activities=("Brunch",)))
    assert list(tmp_path.iterdir()) == []


def test_a_kind_of_an_object_looks_like_the_object_itself():
    """Rendered data sets name objects "jar:salt"; the demo's own names stay as they
    were."""
    look = plan.draw_look(1, "Coffee", np.random.default_rng(0))
    named = dataclasses.replace(
        look,
        items={f"{item}:x": colour for item, colour in look.items.items()} | look.items,
        shelf_x={f"{item}:x": x for item, x in look.shelf_x.items()},
    )
    style = scene.Style(amplitude=12, period_s=1, phase=0, pause=(0.5, 0))
    pictures = []
    for own, jar in ((look, "jar"), (named, "jar:x")):
        before = scene.Scene(placed=frozenset({jar}))
        pose = scene.pose_at(
            before, "stir", jar, u=0.4, seconds=2, look=own, style=style
        )
        canvas = paint.background(own, np.random.default_rng(0))
        paint.draw(canvas, pose, own)
        pictures.append(canvas)
    np.testing.assert_array_equal(*pictures)
