"""Runs that earlier versions began go on as they would have."""

import pathlib
import zipfile

import jax
import numpy as np
import pytest

from svtas_jax.checkpoints import resume
from svtas_jax.training import loop

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
ATOL = 1e-4  # two machines' rounding, through six optimizer steps
# A bias before batch norm has rounding noise for a gradient, which Adam makes large.
NOISE = ("/conv_1x1/bias", "/norm/mean")


@pytest.fixture
def old_run(tmp_path, monkeypatch, tiny):
    """A tiny SETE of features that commit b206b8b trained: stopped within the tenth of
    15 steps, its data, and the arrays that the commit itself went on to."""
    with zipfile.ZipFile(GOLDEN / "run_b206b8b.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = tiny.config("sete")
    config.data.update(root="data", dataset="tiny", features="features")
    config.data.update(clip_frames=8, frame_stride=2)
    config.model.update(backbone="features")
    config.train.update(num_epochs=4, chunks_per_call=1, chunks_per_step=2)
    config.train.update(log_every_steps=3, save_every_steps=5)
    return config


def test_a_run_of_b206b8b_goes_on(old_run):
    ((folder, step),) = resume.newest("stopped")
    assert (folder, step) == ("interrupted", 9)
    state = loop.train(old_run, "stopped")
    expected = np.load("final.npz")
    leaves = dict(jax.tree_util.tree_leaves_with_path(state))
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves.items()
    }
    assert found.keys() == set(expected)
    assert int(found["step"]) == 15
    named = [name for name in expected if not name.endswith(NOISE)]
    for name in named:
        np.testing.assert_allclose(found[name], expected[name], atol=ATOL, err_msg=name)
    large = [name for name in named if np.abs(expected[name]).max() > 100 * ATOL]
    assert len(large) > 10  # the bound says something
