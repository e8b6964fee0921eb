"""What a stream tells the next chunk's prompts, replaced from outside."""

import functools

import jax
import numpy as np
import pytest

from svtas_jax.feedback import make_told_segmenter, segment_told_truth
from svtas_jax.streaming import compile_inference, make_segmenter, segment_chunk
from svtas_jax.structs import IGNORE_LABEL


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)]
)
def told(request, tiny):
    """A model, its variables, and three chunks of two videos, one of which ends."""
    model = tiny.model("transeger", causal=request.param)
    chunks = tiny.chunks(3, 2)
    valid, labels = np.array(chunks.valid), np.array(chunks.labels)
    valid[2, 1, 5:], labels[2, 1, 5:] = False, IGNORE_LABEL
    chunks = chunks.replace(valid=valid, labels=labels)
    return model, tiny.variables(model), chunks


def test_the_truth_told_is_that_of_a_loop_by_hand(told):
    model, variables, chunks = told
    step = compile_inference(functools.partial(segment_chunk, model=model))
    state, expected = model.initial_state(2), []
    for index in range(3):
        chunk = jax.tree.map(lambda leaf, i=index: leaf[i], chunks)
        state, logits = step(variables, state, chunk)
        state = state.replace(labels=chunk.step_labels)
        expected.append(logits)
    run = make_told_segmenter(model)
    _, found = run(variables, model.initial_state(2), chunks)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    _, own = make_segmenter(model)(variables, model.initial_state(2), chunks)
    np.testing.assert_array_equal(own[0], found[0])
    assert np.abs(own[1] - found[1]).max() > 1e-3


def test_a_chunk_without_frames_tells_nothing(told):
    model, variables, chunks = told
    run = jax.jit(functools.partial(segment_told_truth, model=model))
    state, _ = run(variables, model.initial_state(2), chunks)
    nothing = chunks.replace(
        valid=np.zeros_like(chunks.valid), starts=np.zeros_like(chunks.starts)
    )
    after, _ = run(variables, state, nothing)
    jax.tree.map(np.testing.assert_array_equal, after, state)
