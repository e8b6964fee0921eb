"""Features drawn from labels: what they hold, and that they are written whole."""

import dataclasses

import draw_features
import numpy as np
import pytest

from data_pipeline.rendered.source import Source
from svtas_jax.errors import InputError

SOURCE = Source(
    classes=("cut", "pour"),
    idle=(),
    splits={1: {"train": ("A1", "A2"), "test": ("B1",)}},
    labels={
        "A1": ("cut",) * 40 + ("pour",) * 40,
        "A2": ("pour",) * 80,
        "B1": ("cut",) * 80,
    },
    people={"A1": "A", "A2": "A", "B1": "B"},
)
CLEAR = draw_features.Drawing(hidden=0.0, noise=0.05)


def drawn(name, drawing=CLEAR):
    return draw_features.draw(SOURCE, name, drawing).astype(np.float64)


def likeness(a, b):
    a, b = a.mean(axis=0), b.mean(axis=0)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_a_class_looks_alike_in_every_video():
    cut, pour = np.split(drawn("A1"), 2)
    assert likeness(cut, drawn("B1")) > 0.5 > likeness(cut, drawn("A2"))
    assert likeness(pour, drawn("A2")) > 0.5 > likeness(pour, drawn("B1"))


def test_a_hidden_segment_shows_little_of_its_class():
    hidden = drawn("A2", dataclasses.replace(CLEAR, hidden=1.0))
    classes = np.linalg.norm(drawn("A2").mean(axis=0))
    assert np.linalg.norm(hidden.mean(axis=0)) < classes


def test_the_same_seed_draws_the_same():
    assert np.array_equal(drawn("A1"), drawn("A1"))
    other = drawn("A1", dataclasses.replace(CLEAR, seed=1))
    assert not np.array_equal(drawn("A1"), other)


def test_half_of_the_noise_stays():
    noisy = drawn("A2", draw_features.Drawing(hidden=0.0, noise=1.0, hold=4))
    steps = np.diff(noisy, axis=0)
    at_ends = steps[3::4]
    assert np.std(at_ends) > 1.2 * np.std(np.delete(steps, np.s_[3::4], axis=0))


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="another --output"):
        draw_features.write(tmp_path / "taken" / "drawn", SOURCE, CLEAR)


def test_a_set_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    output = tmp_path / "drawn"

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(draw_features.np, "save", fail)
        with pytest.raises(InputError, match="--output"):
            draw_features.write(output, SOURCE, CLEAR)
    assert not any(tmp_path.iterdir())
    draw_features.write(output, SOURCE, CLEAR)
    found = np.load(output / "features/A1.npy")
    assert found.shape == (80, 16) and found.dtype == np.float16
    labels = (output / "groundTruth/A1.txt").read_text().split()
    assert tuple(labels) == SOURCE.labels["A1"]
    with pytest.raises(InputError, match="exists"):
        draw_features.write(output, SOURCE, CLEAR)
