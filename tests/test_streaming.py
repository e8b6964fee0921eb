"""The streaming contract: scan == loop; padding and neighbours change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax import streaming
from svtas_jax.models.transeger import Transeger
from svtas_jax.streaming import (
    look_ahead,
    make_segmenter,
    segment_chunk,
    start_streams,
)
from svtas_jax.structs import IGNORE_LABEL

SYSTEMS = ("sete", "mete", "transeger")
ATOL = 2e-5  # float32; logits are of order 1


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request, tiny):
    """A model, its variables and its compiled segmenter."""
    model = tiny.model(request.param)
    return model, tiny.variables(model), make_segmenter(model)


def run(system, chunks):
    model, variables, segmenter = system
    state = model.initial_state(chunks.starts.shape[1])
    return segmenter(variables, state, chunks)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=ATOL), a, b)


def test_scan_equals_loop(system, tiny):
    model, variables, _ = system
    chunks = tiny.chunks(3, 2)
    state, logits = run(system, chunks)
    step = jax.jit(functools.partial(segment_chunk, model=model))
    own = model.initial_state(2)
    for index in range(3):
        chunk = jax.tree.map(lambda leaf, i=index: leaf[i], chunks)
        own, scores = step(variables, own, chunk)
        close(scores, logits[index])
    close(own, state)


def test_looking_ahead_changes_nothing(system, tiny):
    model, variables, _ = system
    chunks = tiny.chunks(3, 2)
    state, logits = run(system, chunks)
    step = jax.jit(functools.partial(segment_chunk, model=model))
    prepare = jax.jit(functools.partial(look_ahead, model=model))
    own = model.initial_state(2)
    for index in range(3):
        ahead = prepare(variables, own)
        chunk = jax.tree.map(lambda leaf, i=index: leaf[i], chunks)
        own, scores = step(variables, own, chunk, ahead)
        close(scores, logits[index])
    close(own, state)
    assert (ahead is not None) == isinstance(model, Transeger)
    if ahead is not None:  # and it is used
        _, other = step(variables, model.initial_state(2), chunk, 1 + ahead)
        assert np.abs(other - scores).max() > 0.01


def test_grouping_of_chunks_changes_nothing(system, tiny):
    model, variables, segmenter = system
    chunks = tiny.chunks(4, 2)
    _, logits = run(system, chunks)
    state = model.initial_state(2)
    for first in (0, 2):
        part = jax.tree.map(lambda leaf, i=first: leaf[i : i + 2], chunks)
        state, scores = segmenter(variables, state, part)
        close(scores, logits[first : first + 2])


def test_batch_neighbours_change_nothing(system, tiny):
    chunks = tiny.chunks(3, 2)
    other = tiny.chunks(3, 2, seed=1)
    mixed = jax.tree.map(
        lambda a, b: np.stack([a[:, 0], b[:, 1]], axis=1), chunks, other
    )
    _, logits = run(system, chunks)
    _, mixed_logits = run(system, mixed)
    close(mixed_logits[:, 0], logits[:, 0])
    assert np.abs(mixed_logits[:, 1] - logits[:, 1]).max() > 0.01


def test_starts_equals_a_fresh_state(system, tiny):
    chunks = tiny.chunks(3, 2)
    starts = chunks.starts.copy()
    starts[2, 1] = True
    _, logits = run(system, chunks.replace(starts=starts))
    _, whole = run(system, chunks)
    alone = jax.tree.map(lambda leaf: leaf[2:3], chunks.replace(starts=starts))
    _, fresh = run(system, alone)
    close(logits[2, 1], fresh[0, 1])
    close(logits[2, 0], whole[2, 0])
    assert np.abs(logits[2, 1] - whole[2, 1]).max() > 0.01


def test_content_of_padded_steps_changes_nothing(system, tiny):
    chunks = tiny.chunks(2, 1)
    valid = chunks.valid.copy()
    valid[1, 0, 4:] = False
    frames = np.float32(chunks.frames) / 128 - 1
    clean = chunks.replace(frames=frames, valid=valid)
    dirty = frames.copy()
    dirty[1, 0, 2:] = np.nan
    _, logits = run(system, clean)
    _, dirty_logits = run(system, clean.replace(frames=dirty))
    np.testing.assert_array_equal(logits, dirty_logits)
    assert not np.any(logits[1, 0, 2:])


def test_empty_chunks_leave_the_state(system, tiny):
    model, variables, segmenter = system
    chunks = tiny.chunks(2, 2)
    state, _ = run(system, chunks)
    empty = chunks.replace(
        valid=np.zeros_like(chunks.valid), starts=np.zeros_like(chunks.starts)
    )
    after, logits = segmenter(variables, state, empty)
    close(after, state)
    assert not np.any(logits)


def test_state_is_a_fixed_point(system, tiny):
    model, variables, _ = system
    chunk = jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, 3))
    state = model.initial_state(3)
    after, _ = jax.eval_shape(
        functools.partial(segment_chunk, model=model), variables, state, chunk
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)


def test_labels_do_not_leak_into_evaluation(system, tiny):
    chunks = tiny.chunks(3, 1)
    unknown = chunks.replace(labels=np.full_like(chunks.labels, IGNORE_LABEL))
    close(run(system, chunks)[1], run(system, unknown)[1])


def test_segmenter_compiles_once(system, tiny):
    model, variables, _ = system
    # A restored checkpoint lies on a device of its own choice.
    variables = jax.device_put(variables, jax.devices()[0])
    segmenter = make_segmenter(model)
    state = start_streams(model, variables, 2)
    for seed in range(3):
        state, _ = segmenter(variables, state, tiny.chunks(2, 2, seed=seed))
    assert segmenter._cache_size() == 1


def test_bfloat16_computes_close_to_float32(tiny):
    exact, rough = tiny.model(), tiny.model(dtype="bfloat16")
    variables = tiny.variables(exact)
    chunks = tiny.chunks(2, 1)
    _, logits = run((exact, variables, make_segmenter(exact)), chunks)
    _, rough_logits = run((rough, variables, make_segmenter(rough)), chunks)
    assert rough_logits.dtype == jnp.float32
    assert np.abs(logits - rough_logits).max() < 0.05 * np.abs(logits).max()


def test_options_that_xla_does_not_know_are_left_out(monkeypatch):
    known = {"xla_cpu_prefer_vector_width": 256}
    monkeypatch.setattr(
        streaming, "_CPU_OPTIONS", {**known, "xla_cpu_no_such_option": True}
    )
    streaming._inference_options.cache_clear()
    expected = known if jax.default_backend() == "cpu" else {}
    assert streaming._inference_options() == expected
    assert streaming.compile_inference(lambda x: 2 * x)(3) == 6
    streaming._inference_options.cache_clear()
