"""The gradient flows through the memory of a group of chunks, and no further."""

import jax
import numpy as np
import optax
import pytest
from contract import (
    SYSTEMS,
    Kit,
    System,
    assert_close,
    cut,
    differ,
    wide,
    with_padding,
)

from svtas_jax.training.step import init_carry, make_loss, make_train_functions

WEIGHTS = dict(smooth_weight=0.15, clip_weight=1.0)
BY_NAME = {system.name: system for system in SYSTEMS}
MEMORIES = ("transeger memory_tcn learned", "sete gru", "causal sete")


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def kit():
    """A memory TCN of features, quick to compile."""
    fields = dict(system="sete", backbone="features", num_stages=1)
    return Kit(System("small", fields))


def compiled(kit, options):
    """Returns `accumulate` with these options, compiled once for a kit."""
    known = kit.__dict__.setdefault("compiled", {})
    key = tuple(sorted(options.items()))
    if key not in known:
        options = WEIGHTS | options
        known[key] = make_train_functions(kit.model, optax.sgd(0.1), **options)[0]
    return known[key]


def train(kit, chunks, *, group=None, begin=None, **options):
    """Returns train state and carry after the chunks, `group` of them a call."""
    accumulate = compiled(kit, options)
    state, carry = jax.tree.map(np.array, begin or kit.start_training())
    group = group or len(chunks.starts)
    for first in range(0, len(chunks.starts), group):
        own = part(chunks, first, first + group)
        state, carry = accumulate(state, carry, own, jax.random.key(1))
    return state, carry


def part(chunks, first, last):
    return jax.tree.map(lambda leaf: leaf[first:last], chunks)


def starting(chunks, index, row):
    """Lets a new video begin in a row of a chunk."""
    starts = chunks.starts.copy()
    starts[index, row] = True
    return chunks.replace(starts=starts)


def broken(chunks, index, row):
    """Puts what is not finite into a row of a chunk."""
    frames = chunks.frames.copy()
    frames[index, row] = np.nan
    return chunks.replace(frames=frames)


def emptied(chunks, *indices):
    """Takes the valid frames from some chunks."""
    for index in indices:
        for row in range(2):
            chunks = cut(chunks, index=(index, row), num_valid=0)
    return chunks


def assert_same(ours, expected):
    """All that comes out of training is the same."""
    for name in ("grads", "stream", "metrics"):
        assert_close(getattr(ours[1], name), getattr(expected[1], name))
    assert_close(ours[0].batch_stats, expected[0].batch_stats)


def check_against_an_unrolled_loss(kit):
    """Four chunks in groups of two, the second of which begins with a state as data."""
    chunks = kit.video(4)
    loss_fn = make_loss(kit.model, **WEIGHTS)
    start, carry = kit.start_training()
    key = jax.random.fold_in(jax.random.key(1), start.step)

    def unrolled(params, stats, stream, first):
        total = 0.0
        for index in (first, first + 1):
            chunk = jax.tree.map(lambda leaf, i=index: leaf[i], chunks)
            own = jax.random.fold_in(key, index)
            given = (params, stats, stream, chunk, own, start.step)
            loss, (stream, stats, _) = loss_fn(*given)
            total += loss
        return total, (stats, stream)

    gradients = jax.jit(jax.value_and_grad(unrolled, has_aux=True), static_argnums=3)
    stats, stream, total, grads = start.batch_stats, carry.stream, 0.0, carry.grads
    for first in (0, 2):
        (loss, (stats, stream)), own = gradients(start.params, stats, stream, first)
        total, grads = total + loss, jax.tree.map(np.add, grads, own)
    state, carry = train(kit, chunks, gradient_chunks=2)
    assert_close(carry.grads, grads)
    assert_close((carry.stream, carry.metrics["loss"]), (stream, total))
    assert_close(state.batch_stats, stats)


def test_the_gradient_is_that_of_an_unrolled_loss(kit):
    check_against_an_unrolled_loss(kit)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORIES)
def test_the_gradient_is_that_of_an_unrolled_loss_with_other_memories(name):
    kit = Kit(BY_NAME[name])
    check_against_an_unrolled_loss(kit)
    chunks = kit.video(2)
    through = train(kit, chunks, gradient_chunks=2)
    assert_same(train(kit, chunks, gradient_chunks=2, remat="blocks"), through)
    alone = train(kit, chunks)
    assert_close(alone[1].metrics, through[1].metrics)
    assert differ(*(flat(carry.grads) for _, carry in (alone, through)))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.slow
def test_how_chunks_are_grouped_into_calls_changes_nothing(kit):
    chunks = kit.video(4)
    in_two = train(kit, chunks, group=2, gradient_chunks=2)
    assert_same(train(kit, chunks, group=4, gradient_chunks=2), in_two)
    assert int(in_two[1].chunk_index) == 4


def test_the_gradient_reaches_the_chunk_before_but_not_another_video(kit):
    chunks = kit.video(4)
    alone, through = train(kit, chunks), train(kit, chunks, gradient_chunks=2)
    assert_close(through[1].metrics, alone[1].metrics)
    assert_close(through[1].stream, alone[1].stream)
    both = differ(flat(through[1].grads), flat(alone[1].grads))
    cut_off = starting(starting(chunks, 1, 0), 3, slice(None))
    one = train(kit, cut_off, gradient_chunks=2)
    assert differ(flat(one[1].grads), flat(train(kit, cut_off)[1].grads))
    cut_off = starting(cut_off, 1, 1)
    assert both
    assert_same(train(kit, cut_off, gradient_chunks=2), train(kit, cut_off))


def test_empty_chunks_in_a_group_change_nothing(kit):
    chunks = emptied(kit.video(4), 1, 3)
    alone = train(kit, chunks)
    for frames in (0, np.nan):
        padded = with_padding(chunks, frames)
        assert_same(train(kit, padded, gradient_chunks=2), alone)


def test_padded_steps_in_a_group_change_nothing(kit):
    chunks = cut(kit.video(4), index=(0, 1), num_valid=5)
    trained = train(kit, chunks, gradient_chunks=2)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(trained))
    assert_same(train(kit, with_padding(chunks, np.nan), gradient_chunks=2), trained)


def test_the_first_chunk_without_a_finite_loss_is_named(kit):
    bad = broken(kit.video(4), 3, 1)
    _, carry = train(kit, bad, gradient_chunks=2)
    assert (int(carry.bad_chunk), int(carry.num_bad)) == (3, 2)


@pytest.mark.slow
def test_a_group_that_is_not_finite_is_left_out_as_a_whole(kit):
    chunks = kit.video(4)
    found = train(kit, broken(chunks, 1, 1), gradient_chunks=2, skip_bad=True)
    assert (int(found[1].bad_chunk), int(found[1].num_bad)) == (1, 2)
    assert_same(found, train(kit, emptied(chunks, 0, 1), gradient_chunks=2))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_a_stream_that_starts_in_what_is_left_out_forgets_the_old_one(kit, size):
    chunks, options = kit.video(4), dict(gradient_chunks=size)
    bad = starting(broken(chunks, 3, 1), 3, 1)
    before, carry = train(kit, bad, **options, skip_bad=True)
    assert int(carry.num_bad) == size
    left_out = emptied(chunks, *range(4 - size, 4))
    old = train(kit, left_out, **options)[1].stream
    fresh = wide(init_carry(before, kit.model, 2)).stream
    for row, expected in enumerate((old, fresh)):
        own = [jax.tree.map(lambda x, r=row: x[r], s) for s in (carry.stream, expected)]
        assert_close(*own)
    assert differ(flat(old.context), flat(fresh.context))


@pytest.mark.slow
def test_a_chunk_has_the_random_numbers_of_its_index():
    """A head with dropout and without a memory learns the same in any group."""
    fields = dict(head="asformer", backbone="features", num_stages=1, dropout=0.3)
    kit = Kit(System("asformer with dropout", {"system": "sete"} | fields))
    chunks = kit.video(2)
    alone = train(kit, chunks)
    assert_same(train(kit, chunks, gradient_chunks=2), alone)
    key = jax.random.key(2)  # others
    state, carry = jax.tree.map(np.array, kit.start_training())
    other = compiled(kit, {"gradient_chunks": 2})(state, carry, chunks, key)[1]
    assert differ(flat(other.grads), flat(alone[1].grads))
