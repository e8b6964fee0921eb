"""Own labels and wrong ones in training's prompts. That several devices draw alike is
tested in tests/runtime/test_sharding.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
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
from svtas_jax.training.step import (
    init_carry,
    init_train_state,
    make_train_functions,
)

LOSS = dict(smooth_weight=0.15, clip_weight=1.0)
KEY = jax.random.key(1)


def accumulate_of(model, prompting):
    """Returns the jitted function; it is given copies of what it takes over."""
    run, _ = make_train_functions(model, optax.sgd(0.1), prompting=prompting, **LOSS)
    return lambda state, carry, chunks: run(
        *jax.tree.map(jnp.array, (state, carry)), chunks, KEY
    )


def begin(model, chunks):
    chunk = jax.tree.map(lambda leaf: leaf[0, :1], chunks)
    state = init_train_state(model, optax.sgd(0.1), chunk, jax.random.key(0))
    # Fresh weights let little of the image through: own labels shall differ.
    image = jax.tree.map(lambda leaf: 2 * leaf, state.params["image"])
    state = state.replace(params={**state.params, "image": image})
    return state, init_carry(state, model, 2)


def part(chunks, first, last):
    return jax.tree.map(lambda leaf: leaf[first:last], chunks)


def assert_same(ours, expected):
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * largest),
        ours,
        expected,
    )


@pytest.mark.parametrize("causal", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_own_labels_are_those_of_a_loop_by_hand(tiny, causal):
    model, chunks = tiny.model("transeger", causal=causal), tiny.chunks(3, 2)
    usual, own = accumulate_of(model, None), accumulate_of(model, Prompting(1.0))
    state, carry = first = begin(model, chunks)

    @jax.jit
    def labels_of(state, stream, chunk):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        rngs = {"dropout": KEY, "templates": KEY}
        _, output, _ = apply_chunk(model, variables, stream, chunk, rngs=rngs)
        return jnp.argmax(output.logits[-1], axis=-1).astype(jnp.int32)

    for index in range(3):
        chunk = part(chunks, index, index + 1)
        labels = labels_of(state, carry.stream, jax.tree.map(lambda x: x[0], chunk))
        state, carry = usual(state, carry, chunk)
        np.testing.assert_array_equal(carry.stream.labels, chunk.step_labels[0])
        carry = carry.replace(stream=carry.stream.replace(labels=labels))
        assert np.any(labels != chunk.step_labels[0])
    found_state, found = own(*first, chunks)
    np.testing.assert_array_equal(found.stream.labels, carry.stream.labels)
    assert_same(found.grads, carry.grads)
    assert_same(found_state.batch_stats, state.batch_stats)
    _, told = usual(*first, chunks)
    assert abs(float(told.metrics["loss"] - found.metrics["loss"])) > 1e-4
    halves = own(*own(*first, part(chunks, 0, 2)), part(chunks, 2, 3))
    assert_same(halves[1].grads, found.grads)


class Told:
    """Calls `Prompting.choose` after a chunk of many slots, without a model."""

    causal = False

    def __init__(self, tiny, num_slots=2000):
        self.chunk = jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, num_slots))
        self.logits = jax.random.normal(KEY, (num_slots, 4, 4))
        self.own = np.argmax(self.logits, axis=-1)
        self.true = np.array(self.chunk.step_labels)
        self.stream = tiny.model("transeger").initial_state(num_slots)

    def labels(self, prompting, *, key=KEY, step=0):
        arguments = self.stream, self.chunk, self.logits, key, step
        return np.array(prompting.choose(self, *arguments).labels)


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


def noisy(row, share, *, num_rows=4000, num_classes=5):
    labels = jnp.tile(jnp.array(row, jnp.int32), (num_rows, 1))
    return np.array(with_noise(labels, KEY, share=share, num_classes=num_classes))


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
@settings(max_examples=30, deadline=None)
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
