"""Averages of the weights: their formula, and who uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stopping import StopAt

from svtas_jax import models, runs
from svtas_jax.checkpoints import resume
from svtas_jax.runtime import interruption
from svtas_jax.structs import TrainState
from svtas_jax.training import averaging, loop, optim
from svtas_jax.training.validation import Selector

DECAY = 0.6


def state_of(value, step):
    """A state of one weight and one statistic."""
    params, stats = {"a": jnp.float32(value)}, {"b": jnp.float32(-value)}
    return TrainState(jnp.int32(step), params, stats, ())


def test_the_average_of_n_steps_is_its_closed_form():
    values = np.random.default_rng(0).normal(size=30)
    state, update = (
        averaging.begin(state_of(values[0], 0), DECAY),
        jax.jit(lambda state: averaging.update(state, DECAY)),
    )
    for step, value in enumerate(values[1:], 1):
        state = update(state_of(value, step).replace(average=state.average))
    kept = np.array([min(DECAY, (1 + t) / (10 + t)) for t in range(29)])
    # A value's share: taken in at its step, and then kept at all later ones.
    shares = np.append(1, 1 - kept) * np.append(np.cumprod(kept[::-1])[::-1], 1)
    assert shares.sum() == pytest.approx(1) and kept[:5].max() < DECAY == kept[-1]
    expected = float(np.sum(shares * values))
    assert float(state.average["params"]["a"]) == pytest.approx(expected, rel=1e-5)
    assert float(state.average["batch_stats"]["b"]) == pytest.approx(-expected, 1e-5)


def test_without_decay_there_is_no_average():
    state = averaging.begin(state_of(1, 0), 0.0)
    assert state.average is None and averaging.update(state, 0.0) is state
    assert state.variables["params"] is state.params


@pytest.fixture
def config(folder, tiny):
    """A SETE of features: quick to compile."""
    config = tiny.config("sete")
    (folder.root / "features").mkdir()
    for index, num_frames in enumerate((40, 17, 33, 24, 29)):
        folder.add(f"train {index}", num_frames, subsets=("train",))
        rows = np.random.default_rng(index).normal(size=(num_frames // 2, 200))
        path = folder.root / "features" / f"train {index}.npy"
        np.save(path, rows.astype(np.float32))
    config.data.update(root=str(folder.root), dataset="tiny", features="features")
    config.model.backbone = "features"
    config.train.update(num_epochs=2, chunks_per_call=1, chunks_per_step=2)
    config.train.update(ema=0.9, schedule="cosine", optimizer="adamw", clip_norm=1.0)
    config.train.update(warmup_epochs=0.5, label_smoothing=0.1, focal_gamma=1.0)
    config.train.update(logit_adjustment=1.0, boundary_smoothing=3)
    return config


@pytest.mark.slow
def test_a_run_is_used_with_its_averages_and_goes_on_with_its_weights(
    config, tmp_path, monkeypatch
):
    evaluated, evaluate = [], Selector.evaluate
    monkeypatch.setattr(
        Selector,
        "evaluate",
        lambda self, state: (
            evaluated.append(jax.tree.map(np.array, state.variables))
            or evaluate(self, state)
        ),
    )
    whole = loop.train(config, str(tmp_path / "whole"))
    differs = jax.tree.map(lambda a, b: not np.array_equal(a, b), *_both(whole))
    assert all(jax.tree.leaves(differs))
    _assert_equal(evaluated[-1], whole.average)
    _assert_equal(
        runs.load_trained(str(tmp_path / "whole"), "latest").variables, whole.average
    )

    parts = str(tmp_path / "parts")
    monkeypatch.setattr(loop, "Interruption", lambda: StopAt(5))
    with pytest.raises(interruption.Interrupted):
        loop.train(config, parts)
    assert (tmp_path / "parts" / resume.INTERRUPTED).is_dir()
    monkeypatch.setattr(loop, "Interruption", lambda: StopAt(-1))
    _assert_equal(loop.train(config, parts), whole)

    config.train.update(init_from=str(tmp_path / "whole"), ema=0.0)
    best = runs.load_trained(str(tmp_path / "whole")).variables
    model = models.build_model(config, tuple("abcd"))
    tx = optim.optimizer_of(config, 1)
    _assert_equal(loop.first_state(config, model, tx, 200).variables, best)


def _both(state):
    return {"params": state.params, "batch_stats": state.batch_stats}, state.average


def _assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
