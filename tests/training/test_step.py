"""One optimizer step from whole videos, in calls of two chunks of two videos.

That grouping, padding and neighbours change nothing: tests/test_contract.py.
"""

import jax
import numpy as np
import optax
import pytest

from svtas_jax.structs import IGNORE_LABEL
from svtas_jax.training.step import (
    REMAT,
    init_carry,
    init_train_state,
    make_loss,
    make_train_functions,
)

RTOL = 1e-4  # of the largest gradient; sums in another order
SYSTEMS = ("sete", pytest.param("mete", marks=pytest.mark.slow), "transeger")


class Trainer:
    """A model with its compiled step functions; plain SGD keeps steps comparable."""

    def __init__(self, model, chunks):
        self.model, self.tx = model, optax.sgd(0.1)
        chunk = jax.tree.map(lambda leaf: leaf[0, :1], chunks)
        self.init = lambda: init_train_state(model, self.tx, chunk, jax.random.key(0))
        self.accumulate, self.apply = make_train_functions(
            model, self.tx, smooth_weight=0.15, clip_weight=1.0
        )

    def begin(self):
        """Returns state and carry before the first chunk."""
        state = self.init()
        return state, init_carry(state, self.model, 2)

    def run(self, chunks, group=2, begin=None):
        """Accumulates `group` chunks a call; returns state and carry."""
        state, carry = begin or self.begin()
        for first in range(0, chunks.starts.shape[0], group):
            part = jax.tree.map(lambda leaf, i=first: leaf[i : i + group], chunks)
            state, carry = self.accumulate(state, carry, part, jax.random.key(1))
        return state, carry


@pytest.fixture(scope="module", params=SYSTEMS)
def trainer(request, tiny):
    return Trainer(tiny.model(request.param), tiny.chunks(1, 1))


def assert_same(a, b):
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(b))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=RTOL * largest), a, b
    )


def test_every_parameter_gets_a_gradient(trainer, tiny):
    """From `init`'s own start, too."""
    _, carry = trainer.run(tiny.chunks(4, 2))
    for path, grad in jax.tree_util.tree_leaves_with_path(carry.grads):
        assert np.isfinite(grad).all(), path
        assert np.abs(grad).max() > 0, path


def test_apply_steps_and_clears(trainer, tiny):
    chunks = tiny.chunks(2, 2)
    state, carry = trainer.run(chunks)
    before = jax.tree.map(np.array, state.params)
    grads = jax.tree.map(np.array, carry.grads)
    state, carry, metrics = trainer.apply(state, carry)
    assert int(state.step) == 1
    jax.tree.map(
        lambda new, old, grad: np.testing.assert_allclose(
            new, old - 0.1 * grad, atol=1e-6
        ),
        state.params,
        before,
        grads,
    )
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(carry.grads))
    assert float(metrics["loss"]) > 0 and float(metrics["grad_norm"]) > 0


def test_accumulate_compiles_once_for_any_length(trainer, tiny):
    for num_chunks in (2, 4, 6):
        trainer.run(tiny.chunks(num_chunks, 2))
    sizes = trainer.accumulate._cache_size()
    trainer.run(tiny.chunks(8, 2))
    assert trainer.accumulate._cache_size() == sizes


@pytest.mark.parametrize("trainer", ["transeger"], indirect=True)
def test_loss_falls_when_a_batch_is_repeated(trainer, tiny):
    chunks, losses = tiny.chunks(2, 2), []
    state, carry = trainer.begin()
    for _ in range(15):
        state, carry = trainer.accumulate(state, carry, chunks, jax.random.key(1))
        state, carry, metrics = trainer.apply(state, carry)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]


def test_the_next_video_follows_in_its_slot(trainer, tiny):
    """Packed: two videos in a row give the gradients of the two alone."""
    first, second = tiny.chunks(1, 2), tiny.chunks(3, 2, seed=1)
    nothing = first.replace(
        valid=np.zeros_like(first.valid),
        labels=np.full_like(first.labels, IGNORE_LABEL),
        starts=np.zeros_like(first.starts),
    )
    row = joined(first, second)
    assert row.starts[:, 0].tolist() == [True, True, False, False]
    state, carry = trainer.run(row)
    alone, own = trainer.run(joined(first, nothing))
    # Templates are drawn by the place in the row: it must be the same.
    place = jax.numpy.int32(1)
    own = own.replace(stream=trainer.model.initial_state(2), chunk_index=place)
    alone, own = trainer.run(joined(second, nothing), begin=(alone, own))
    assert_same(own.grads, carry.grads)
    assert_same(own.stream, carry.stream)
    assert_same(alone.batch_stats, state.batch_stats)


def joined(first, second):
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


def test_a_video_remembers_across_steps(trainer, tiny):
    chunks = tiny.chunks(4, 2)
    assert chunks.starts[:, 0].tolist() == [True, False, False, False]
    state, carry = trainer.run(jax.tree.map(lambda leaf: leaf[:2], chunks))
    before = jax.tree.map(np.array, carry.stream)
    state, carry, _ = trainer.apply(state, carry)
    jax.tree.map(np.testing.assert_array_equal, carry.stream, before)
    rest = jax.tree.map(lambda leaf: leaf[2:], chunks)
    fresh = init_carry(state, trainer.model, 2)
    copy = jax.tree.map(np.array, state)
    _, after = trainer.accumulate(state, carry, rest, jax.random.key(1))
    _, forgot = trainer.accumulate(copy, fresh, rest, jax.random.key(1))
    assert float(after.metrics["loss"]) != float(forgot.metrics["loss"])


@pytest.mark.parametrize("trainer", ["sete"], indirect=True)
def test_the_first_chunk_without_a_finite_loss_is_remembered(trainer, tiny):
    chunks = tiny.chunks(4, 2)
    _, carry = trainer.run(chunks)
    assert int(carry.bad_chunk) == -1
    state = trainer.init()
    broken = jax.tree.map(np.array, state)  # the state itself is given away
    broken = broken.replace(params=jax.tree.map(lambda x: x * np.nan, broken.params))
    carry = init_carry(state, trainer.model, 2)
    first, rest = (jax.tree.map(lambda x, s=s: x[s], chunks) for s in ([0, 1], [2, 3]))
    _, carry = trainer.accumulate(state, carry, first, jax.random.key(1))
    broken, carry = trainer.accumulate(broken, carry, rest, jax.random.key(1))
    assert int(carry.bad_chunk) == 2
    _, carry, metrics = trainer.apply(broken, carry)
    assert int(metrics["bad_chunk"]) == 2 and int(carry.bad_chunk) == -1


@pytest.mark.parametrize("trainer", ["sete"], indirect=True)
def test_a_chunk_that_is_not_finite_can_be_left_out(trainer, tiny):
    """It then counts as little as one without a valid frame."""
    accumulate, apply = make_train_functions(
        trainer.model, trainer.tx, skip_bad=True, smooth_weight=0.15, clip_weight=1.0
    )
    chunks, key = tiny.chunks(3, 2), jax.random.key(1)
    chunks = chunks.replace(frames=chunks.frames.astype(np.float32) / 256)
    bad = chunks.replace(frames=chunks.frames.copy())
    bad.frames[1, 0] = np.nan
    valid, labels = np.array(chunks.valid), np.array(chunks.labels)
    valid[1], labels[1] = False, IGNORE_LABEL
    found = {}
    for name, given in (
        ("bad", bad),
        ("padded", chunks.replace(valid=valid, labels=labels)),
    ):
        state = trainer.init()
        carry = init_carry(state, trainer.model, 2)
        found[name] = accumulate(state, carry, given, key)
    (state, carry), (expected_state, expected) = found["bad"], found["padded"]
    assert (int(carry.bad_chunk), int(carry.num_bad)) == (1, 1)
    assert (int(expected.bad_chunk), int(expected.num_bad)) == (-1, 0)
    for name in ("grads", "stream", "metrics"):
        jax.tree.map(
            np.testing.assert_array_equal,
            getattr(carry, name),
            getattr(expected, name),
        )
    jax.tree.map(
        np.testing.assert_array_equal, state.batch_stats, expected_state.batch_stats
    )
    _, carry, metrics = apply(state, carry)
    assert int(metrics["num_bad"]) == 1 and int(carry.num_bad) == 0


@pytest.mark.parametrize(
    "system", ["sete", pytest.param("transeger", marks=pytest.mark.slow)]
)
def test_rematerialisation_keeps_less_and_changes_nothing(tiny, system):
    model = tiny.model(system)
    chunk = jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, 2))
    variables, state = tiny.variables(model), model.initial_state(2)
    kept, gradients = {}, {}
    for name in REMAT:
        loss_fn = make_loss(model, smooth_weight=0.15, clip_weight=1.0, remat=name)

        def run(params, f=loss_fn):
            key = jax.random.key(1)
            return f(params, variables["batch_stats"], state, chunk, key, 0)[0]

        params = variables["params"]
        backward = jax.eval_shape(lambda p, r=run: jax.vjp(r, p)[1], params)
        kept[name] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward))
        gradients[name] = jax.jit(jax.grad(run))(params)
    assert kept["blocks"] < kept["products"] < kept["none"]
    assert_same(gradients["products"], gradients["none"])
    assert_same(gradients["blocks"], gradients["none"])
