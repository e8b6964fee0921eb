"""The loaders of docs/export.md run, and say what the model says."""

import functools
import pathlib
import re

import numpy as np
import pytest

import svtas_jax
from data_pipeline.transforms import centre_crop, transform_frames
from svtas_jax.streaming import compile_inference, segment_chunk, start_streams
from svtas_jax.structs import Chunk

PAGE = pathlib.Path(svtas_jax.__file__).parents[1] / "docs" / "export.md"


@pytest.fixture(scope="module")
def names():
    """What the page defines; it imports nothing of this package."""
    code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(code) == 3 and "svtas_jax" not in "".join(code)
    found = {}
    for block in code:
        exec(compile(block, PAGE.name, "exec"), found)
    return found


def video(num_frames):
    """Frames of scenes, with a little noise."""
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (num_frames // 3 + 1, 6, 9, 3), np.uint8)
    frames = np.kron(scenes, np.ones((1, 10, 10, 1), np.uint8))
    frames = np.repeat(frames, 3, axis=0)[:num_frames]
    return frames // 2 + rng.integers(0, 128, frames.shape, np.uint8)


def native_labels(case, pictures):
    step = compile_inference(functools.partial(segment_chunk, model=case.model))
    state, found = start_streams(case.model, case.variables, 1), []
    steps = case.model.clip_steps
    for first in range(0, len(pictures), steps):
        part = np.zeros((1, steps, *pictures.shape[1:]), np.uint8)
        count = len(pictures[first : first + steps])
        part[0, :count] = pictures[first : first + steps]
        chunk = Chunk(
            frames=part,
            labels=np.zeros((1, steps), np.int32),
            valid=np.arange(steps)[None] < count,
            starts=np.array([first == 0]),
            num_chunks=np.ones(1, np.int32),
        )
        state, logits = step(case.variables, state, chunk)
        found.extend(np.asarray(logits[0, :count]).argmax(axis=-1))
    return found


@pytest.mark.parametrize("loader", ["Model", "OnnxModel"])
@pytest.mark.parametrize(
    "system, fields",
    [("sete", dict(causal=True)), ("transeger", dict(causal=True)), ("transeger", {})],
)
def test_labels_are_those_of_the_model(names, make_case, loader, system, fields):
    case, frames = make_case(system, **fields), video(30)
    model = names[loader](case.folder)
    ours = list(names["labels_of"](model, frames))
    pictures = np.stack([names["picture"](frame, model.facts) for frame in frames])
    expected = native_labels(case, pictures)
    assert ours == [model.facts["class_names"][label] for label in expected]
    assert len(set(ours)) > 1


def test_pictures_are_those_of_the_evaluation(names):
    frames = video(5)
    facts = {"resize": [32, 43], "size": 28}
    ours = np.stack([names["picture"](frame, facts) for frame in frames])
    crop = centre_crop((32, 43), 28)
    theirs = transform_frames(frames, resize=(32, 43), crop=crop)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1
