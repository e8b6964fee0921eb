"""Own labels and wrong ones in training's prompts. That several devices draw alike is
tested in tests/runtime/test_sharding.py."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contract import assert_close, differ
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.config import default_config
from svtas_jax.streaming import apply_chunk
from svtas_jax.structs import IGNORE_LABEL
from svtas_jax.training.prompting import (
    MOST_MOVED_STEPS,
    Prompting,
    prompting_of,
    with_noise,
)
from svtas_jax.training.step import make_train_functions

KEY = jax.random.key(1)  # as that of `contract.Kit.train`
LOSS = dict(smooth_weight=0.15, clip_weight=1.0)


@pytest.fixture(scope="module")
def kit(transeger_of_features):
    return transeger_of_features


def with_prompting(kit, prompting):
    """Returns `kit.train` with such prompts."""
    run, _ = make_train_functions(
        kit.model, optax.sgd(0.1), prompting=prompting, **LOSS
    )
    other = copy.copy(kit)
    other.__dict__["accumulate"] = run
    return other.train


def labels_of(kit, state, stream, chunk):
    """Returns the model's own labels (B, T) of a chunk in training."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    rngs = {"dropout": KEY, "templates": KEY}
    _, output, _ = apply_chunk(kit.model, variables, stream, chunk, rngs=rngs)
    return jnp.argmax(output.logits[-1], axis=-1).astype(jnp.int32)


def part(chunks, first, last):
    return jax.tree.map(lambda leaf: leaf[first:last], chunks)


def test_own_labels_are_those_of_a_loop_by_hand(kit):
    chunks, own = kit.video(3), with_prompting(kit, Prompting(1.0))
    begin, find = kit.start_training(), jax.jit(functools.partial(labels_of, kit))
    state, carry = begin
    for index in range(3):
        chunk = jax.tree.map(lambda leaf, i=index: leaf[i], chunks)
        labels = find(state, carry.stream, chunk)
        state, carry = kit.train(part(chunks, index, index + 1), begin=(state, carry))
        np.testing.assert_array_equal(carry.stream.labels, chunk.step_labels)
        carry = carry.replace(stream=carry.stream.replace(labels=labels))
        assert np.any(labels != chunk.step_labels)
    found_state, found = own(chunks)
    np.testing.assert_array_equal(found.stream.labels, carry.stream.labels)
    assert_close(found.grads, carry.grads)
    assert_close(found_state.batch_stats, state.batch_stats)
    told = kit.train(chunks)[1].metrics["loss"]
    assert differ(told, found.metrics["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("transeger_of_features", [False], indirect=True)
def test_a_stopped_step_goes_on_with_the_same_draws(kit):
    chunks = kit.video(3)
    train = with_prompting(kit, Prompting(own_labels=0.5, label_noise=0.5))
    first = jax.tree.map(np.array, train(part(chunks, 0, 2)))
    state, carry = train(part(chunks, 2, 3), begin=first)
    expected_state, expected = train(chunks)
    jax.tree.map(np.testing.assert_array_equal, carry, expected)
    jax.tree.map(np.testing.assert_array_equal, state, expected_state)
    told = kit.train(chunks)[1]
    assert differ(told.metrics["loss"], carry.metrics["loss"])


class Told:
    """Calls `Prompting.choose` after a chunk of many slots, without a model."""

    causal = False

    def __init__(self, tiny, num_slots=2000, **fields):
        self.chunk = jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, num_slots))
        self.logits = jax.random.normal(KEY, (num_slots, 4, 4))
        self.own = np.argmax(self.logits, axis=-1)
        self.true = np.array(self.chunk.step_labels)
        self.stream = tiny.model("transeger", **fields).initial_state(num_slots)

    def chosen(self, prompting, *, key=KEY, step=0):
        arguments = self.stream, self.chunk, self.logits, key, step
        return prompting.choose(self, *arguments)

    def labels(self, prompting, **given):
        return np.array(self.chosen(prompting, **given).labels)


def test_each_slot_draws_its_share(tiny):
    told = Told(tiny)
    found = told.labels(Prompting(0.3))
    is_own = np.all(found == told.own, axis=1)
    assert np.all(is_own | np.all(found == told.true, axis=1))
    assert abs(is_own.mean() - 0.3) < 0.05
    np.testing.assert_array_equal(found, told.labels(Prompting(0.3)))
    assert np.any(found != told.labels(Prompting(0.3), key=jax.random.key(2)))


def test_the_share_grows_over_epochs(tiny):
    config = default_config()
    config.model.system = "transeger"
    config.train.update(own_labels=0.5, own_labels_from=2, own_labels_ramp=4)
    prompting = prompting_of(config, 10)
    shares = [float(prompting.share(step)) for step in (0, 20, 30, 40, 60, 99)]
    assert shares == pytest.approx([0, 0, 0.125, 0.25, 0.5, 0.5])
    config.train.own_labels_ramp = 0
    at_once = prompting_of(config, 10)
    assert [float(at_once.share(step)) for step in (0, 19, 20)] == [0, 0, 0.5]
    told = Told(tiny, 100)
    np.testing.assert_array_equal(told.labels(at_once, step=19), told.true)
    assert np.any(told.labels(at_once, step=20) != told.true)


def test_the_paper_has_no_other_labels():
    assert prompting_of(default_config(), 10) is None


_with_noise = jax.jit(with_noise, static_argnames="num_classes")


def noisy(row, share, *, num_rows=4000, num_classes=5):
    labels = jnp.tile(jnp.array(row, jnp.int32), (num_rows, 1))
    return np.array(_with_noise(labels, KEY, share=share, num_classes=num_classes))


def test_noise_is_as_frequent_as_asked():
    found = noisy([0] * 10 + [1] * 10, 0.4)
    first, second = found[:, 5], found[:, 15]  # no border comes here
    classes = np.bincount(first, minlength=5) / len(found)
    # A first run has no run before it, so another class takes its place.
    np.testing.assert_allclose(classes, [0.6, 0.1, 0.1, 0.1, 0.1], atol=0.03)
    classes = np.bincount(second, minlength=5) / len(found)
    np.testing.assert_allclose(classes, [0.25, 0.6, 0.05, 0.05, 0.05], atol=0.03)
    kept = found[(first == 0) & (second == 1)]
    places = np.argmax(kept, axis=1) - 10
    assert set(places) == {-2, -1, 0, 1, 2} and MOST_MOVED_STEPS == 2
    shares = np.bincount(places + 2) / len(kept)
    np.testing.assert_allclose(shares, [0.1, 0.1, 0.6, 0.1, 0.1], atol=0.03)


@given(
    row=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    share=st.sampled_from((0.0, 0.3, 1.0)),
    num_classes=st.sampled_from((1, 3)),
)
@settings(max_examples=20, deadline=None)
def test_noise_keeps_to_the_classes(row, share, num_classes):
    row = np.minimum(row, num_classes - 1)
    found = noisy(row, share, num_rows=8, num_classes=num_classes)
    assert found.min() >= 0 and found.max() < num_classes
    if share == 0 or num_classes == 1:
        np.testing.assert_array_equal(found, np.tile(row, (8, 1)))


def test_missing_labels_stay_missing():
    row = [IGNORE_LABEL] * 6
    np.testing.assert_array_equal(noisy(row, 1.0, num_rows=2), [row, row])


def test_noise_is_in_the_prompts_of_training(tiny):
    told = Told(tiny)
    found = told.labels(Prompting(label_noise=0.2))
    wrong = np.mean(found != told.true)
    assert 0.1 < wrong < 0.5
    both = told.labels(Prompting(own_labels=1.0, label_noise=0.2))
    np.testing.assert_array_equal(both, told.own)


def test_soft_feedback_is_certain_of_true_labels_only(tiny):
    told = Told(tiny, 200, feedback="soft")
    found = told.chosen(Prompting(own_labels=0.5, label_noise=0.2))
    apart = np.abs(found.scores - jax.nn.softmax(told.logits))
    is_own = np.all(apart < 1e-6, axis=(1, 2))
    assert 0.3 < is_own.mean() < 0.7
    np.testing.assert_array_equal(found.labels[is_own], told.own[is_own])
    certain = jax.nn.one_hot(found.labels, 4)
    np.testing.assert_array_equal(found.scores[~is_own], certain[~is_own])
    assert np.any(found.labels[~is_own] != told.true[~is_own])
