"""The contract of a stream, kept by every system of `contract.SYSTEMS`: a scan, a loop
and the live stream are one; padding and neighbours change nothing; what is remembered
is remembered, and nothing else."""

import functools
import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import (
    CLASS_NAMES,
    CLIP_STEPS,
    SYSTEMS,
    Kit,
    assert_close,
    cut,
    differ,
    params,
    small_model,
    with_padding,
)

from svtas_jax.config import BACKBONES, HEAD_NORMS, HEADS, JOINTS, PROMPTS
from svtas_jax.streaming import apply_chunk
from svtas_jax.structs import IGNORE_LABEL


@pytest.fixture(scope="module", params=params(SYSTEMS))
def kit(request):
    with jax.enable_x64(True):
        yield Kit(request.param)


def part(chunks, first, last):
    return jax.tree.map(lambda leaf: leaf[first:last], chunks)


def row(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index : index + 1], tree)


def test_every_choice_of_a_config_is_in_the_table():
    chosen = {value for system in SYSTEMS for value in system.model.values()}
    usual = {"memory_tcn", "mobilenet_tsm", "learned", "batch"}
    choices = {*BACKBONES, *HEADS, *JOINTS, *PROMPTS, *HEAD_NORMS}
    assert choices - usual <= chosen


def test_scan_loop_and_live_stream_are_one(kit):
    """Four chunks in two scans of two videos, and chunk by chunk, alone."""
    chunks = kit.video(4)
    between, first = kit.scan(part(chunks, 0, 2))
    state, second = kit.scan(part(chunks, 2, 4), between)
    own = kit.start(1)
    for index, logits in enumerate((*first, *second)):
        ahead = kit.prepare(kit.variables, own)
        chunk = row(jax.tree.map(lambda leaf, i=index: leaf[i], chunks), 0)
        own, scores = kit.step(kit.variables, own, chunk, ahead)
        assert_close(scores, row(logits, 0))
    assert_close(own, row(state, 0))
    assert (ahead is not None) == (kit.system.labels or kit.system.scores)
    if ahead is not None:  # and it is used
        _, other = kit.step(kit.variables, kit.start(1), chunk, 1 + ahead)
        _, scores = kit.step(kit.variables, kit.start(1), chunk, ahead)
        assert differ(other, scores)


def test_one_shape_compiles_once(kit):
    state = None
    for seed in range(2):
        state, _ = kit.scan(kit.video(2, seed), state)
    assert kit.segmenter._cache_size() == 1


@pytest.mark.parametrize("system", params(SYSTEMS))
def test_state_is_a_fixed_point(system):
    model = small_model(system)
    state = model.initial_state(2)
    leaves = jax.tree.leaves(state)
    # A step that takes over the memory of its arguments refuses an array twice.
    assert len({id(leaf) for leaf in leaves}) == len(leaves)
    with jax.enable_x64(True):
        chunk = jax.tree.map(lambda leaf: leaf[0], Kit(system).video(1))
    key = jax.random.key(0)
    variables = {"batch_stats": {}} | jax.eval_shape(model.init, key, state, chunk)
    before = (state, variables["batch_stats"])
    for rngs in (None, {"templates": key, "dropout": key}):
        step = functools.partial(apply_chunk, model, rngs=rngs)
        after, _, stats = jax.eval_shape(step, variables, state, chunk)
        described = jax.tree.map(lambda x: (x.shape, x.dtype), (after, stats))
        assert described == jax.tree.map(lambda x: (x.shape, x.dtype), before)


def test_padded_frames_change_nothing(kit):
    chunks = cut(kit.video(2), index=(1, 1), num_valid=5)
    state, logits = kit.scan(chunks)
    assert not np.any(logits[1, 1, 3:]) and np.all(np.any(logits[1, 1, :3], axis=-1))
    for frames in (np.nan, kit.video(2, seed=1).frames):
        assert_close(kit.scan(with_padding(chunks, frames)), (state, logits))


def test_neighbours_in_a_batch_do_not_see_each_other(kit):
    chunks, other = kit.video(2), kit.video(2, seed=1)
    state, logits = kit.scan(chunks)
    for frames in (other.frames, np.nan * other.frames):
        mixed = jax.tree.map(np.array, chunks.replace(labels=other.labels))
        mixed.frames[:, 1] = frames[:, 1]
        mixed_state, mixed_logits = kit.scan(mixed)
        assert_close(mixed_logits[:, 0], logits[:, 0])
        assert_close(row(mixed_state, 0), row(state, 0))
        assert not np.allclose(mixed_logits[:, 1], logits[:, 1])


def test_a_new_stream_forgets_the_old_one(kit):
    chunks = kit.video(4)
    starting = jax.tree.map(np.array, chunks)
    starting.starts[2, 1] = True
    between, _ = kit.scan(part(chunks, 0, 2))
    _, logits = kit.scan(part(starting, 2, 4), between)
    _, whole = kit.scan(part(chunks, 2, 4), between)
    _, fresh = kit.scan(part(chunks, 2, 4))
    assert_close(logits, np.stack([whole[:, 0], fresh[:, 1]], axis=1))
    system = kit.system
    remembers = system.context or system.labels or system.scores or system.image
    assert differ(logits[0, 1], whole[0, 1]) == remembers


def test_empty_chunks_leave_the_state(kit):
    state, _ = kit.scan(kit.video(2))
    empty = kit.video(2, seed=1)
    empty = empty.replace(valid=np.zeros_like(empty.valid), starts=empty.starts & False)
    for frames in (empty.frames, np.nan):
        after, logits = kit.scan(with_padding(empty, frames), state)
        assert_close(after, state)
        assert not np.any(logits)


def test_labels_do_not_leak_into_evaluation(kit):
    chunks = kit.video(2)
    expected = kit.scan(chunks)
    for labels in (np.full_like(chunks.labels, IGNORE_LABEL), 10 - chunks.labels):
        assert_close(kit.scan(chunks.replace(labels=labels)), expected)


def test_every_frame_matters(kit):
    chunks = kit.video(2)
    _, logits = kit.scan(chunks)
    for step in range(CLIP_STEPS // 2):
        changed = jax.tree.map(np.array, chunks)
        changed.frames[1, 0, step] += 2
        changed.frames[1, 1, -1 - step] += 2
        _, others = kit.scan(changed)
        for other, expected in zip(others[1], logits[1], strict=True):
            assert differ(other, expected), step


def altered(state):
    """Yields the name of every array of a state, and states in which it is another."""
    labels = (state.labels + 1) % len(CLASS_NAMES)
    yield "labels", state.replace(labels=labels)
    if state.scores is not None:
        yield "scores", state.replace(scores=jnp.roll(state.scores, 1, axis=-1))
    for name in ("context", "image"):
        own = getattr(state, name)
        leaves, tree = jax.tree.flatten(own)
        for index, leaf in enumerate(leaves):
            changed = [*leaves[:index], 1 + leaf, *leaves[index + 1 :]]
            yield name, state.replace(**{name: jax.tree.unflatten(tree, changed)})
        yield name, state.replace(**{name: jax.tree.map(jnp.zeros_like, own)})


def test_what_is_remembered_matters(kit):
    state, _ = kit.scan(kit.video(2))
    assert bool(state.image) == kit.system.image
    if kit.system.context:
        assert jax.tree.leaves(state.context)
    chunks = kit.video(2, seed=1)
    chunks = chunks.replace(starts=chunks.starts & False)
    _, logits = kit.scan(chunks, state)
    for name, changed in altered(state):
        _, other = kit.scan(chunks, changed)
        assert differ(other[0], logits[0]) == getattr(kit.system, name), name


def test_own_labels_are_fed_back_in_evaluation(kit):
    chunks = cut(kit.video(2), index=(1, 1), num_valid=5)
    state, logits = kit.scan(chunks)
    if kit.system.feeds_back:
        best = np.argmax(logits[-1], axis=-1)
        own = state.labels
        if kit.system.model.get("causal"):  # the second row's chunk is not full
            np.testing.assert_array_equal(state.position, [0, 3])
            np.testing.assert_array_equal(own[1], np.argmax(logits[0, 1], axis=-1))
            own = np.stack((own[0], [*state.running[1, :3], 0, 0, 0]))
        np.testing.assert_array_equal(own, best)
        assert not np.any(own[1, 3:])
    else:
        np.testing.assert_array_equal(state.labels, kit.start().labels)


def learned(state, carry):
    """All that comes out of an accumulation."""
    return carry.grads, state.batch_stats, carry.stream, carry.metrics


def assert_same_training(ours, expected):
    for own, wanted in zip(learned(*ours), learned(*expected), strict=True):
        assert_close(own, wanted)


USUAL = ("transeger memory_tcn learned",)


@pytest.mark.parametrize(
    "kit",
    [
        pytest.param(system, marks=() if system.name in USUAL else pytest.mark.slow)
        for system in SYSTEMS
    ],
    indirect=True,
    ids=lambda system: system.name,
)
def test_grouping_of_chunks_changes_nothing_in_training(kit):
    """What memories there are, and random templates; the rest are like these."""
    chunks = kit.video(2)
    assert_same_training(kit.train(chunks, group=2), kit.train(chunks))


def test_padded_frames_change_nothing_in_training(kit):
    chunks = cut(kit.video(2), index=(1, 1), num_valid=5)
    trained = kit.train(chunks)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(trained))
    assert_same_training(kit.train(with_padding(chunks, np.nan)), trained)


def test_a_video_that_is_over_does_not_disturb_its_neighbour_in_training(kit):
    chunks = cut(kit.video(2), index=(1, 1), num_valid=0)
    state, carry = kit.train(chunks)
    for frames in (np.nan, kit.video(2, seed=1).frames):
        other_state, other = kit.train(with_padding(chunks, frames))
        assert_close(other.grads, carry.grads)
        assert_close(other_state.batch_stats, state.batch_stats)
        assert_close(other.metrics, carry.metrics)
        assert_close(row(other.stream, 0), row(carry.stream, 0))


def test_empty_chunks_change_nothing_in_training(kit):
    trained = kit.train(kit.video(1))
    empty = kit.video(1, seed=1)
    empty = cut(cut(empty, index=(0, 0), num_valid=0), index=(0, 1), num_valid=0)
    empty = empty.replace(starts=empty.starts & False)
    for frames in (empty.frames, np.nan):
        after = kit.train(with_padding(empty, frames), begin=trained)
        assert_same_training(after, trained)
        assert float(after[1].metrics["valid_steps"]) == 2 * CLIP_STEPS


def test_every_parameter_learns(kit):
    """But those that the table names, on which nothing depends."""
    # GTRM's borders learn nothing from a chunk of one segment.
    _, carry = kit.train(kit.video(3))
    sizes = jax.tree.map(lambda leaf: float(np.abs(leaf).max()), carry.grads)
    sizes = flax.traverse_util.flatten_dict(sizes, sep="/")
    noise = 1e-9 * max(sizes.values())
    pattern = f"{kit.system.normed}|{kit.system.constant}"
    constant = {name for name in sizes if re.search(pattern, name)}
    assert {name for name, size in sizes.items() if size <= noise} == constant


def test_what_is_remembered_matters_in_training(kit):
    """Transeger hears of the last chunk's true labels, METE of this one's."""
    chunks = kit.video(2)
    trained, carry = kit.train(part(chunks, 0, 1))
    second = part(chunks, 1, 2)
    _, expected = kit.train(second, begin=(trained, carry))
    if kit.system.feeds_back:
        np.testing.assert_array_equal(carry.stream.labels, chunks.labels[0, :, ::2])
    for name, changed in altered(carry.stream):
        begin = (trained, carry.replace(stream=changed))
        loss = kit.train(second, begin=begin)[1].metrics["loss"]
        assert differ(loss, expected.metrics["loss"]) == getattr(kit.system, name), name
