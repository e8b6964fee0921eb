"""What a stream tells the next chunk's prompts, replaced from outside."""

import itertools

import jax
import numpy as np
import pytest
from contract import Kit, System, assert_close, cut, differ

from svtas_jax.feedback import make_told_segmenter


@pytest.fixture(scope="module")
def kit(transeger_of_features):
    return transeger_of_features


def test_the_truth_told_is_that_of_a_loop_by_hand(kit):
    chunks = cut(kit.video(3), index=(2, 1), num_valid=5)
    state, expected = kit.start(), []
    for index in range(3):
        chunk = jax.tree.map(lambda leaf, i=index: leaf[i], chunks)
        ahead = kit.prepare(kit.variables, state)
        state, logits = kit.step(kit.variables, state, chunk, ahead)
        state = state.replace(labels=chunk.step_labels)
        expected.append(logits)
    told = make_told_segmenter(kit.model)
    state, found = told(kit.variables, kit.start(), chunks)
    assert_close(found, np.stack(expected))
    _, own = kit.scan(chunks)
    assert_close(own[0], found[0])
    assert differ(own[1], found[1])
    nothing = chunks.replace(valid=chunks.valid & False, starts=chunks.starts & False)
    after, _ = told(kit.variables, state, nothing)
    jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize("causal", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_history_is_that_of_the_labels_told(causal):
    fields = dict(
        system="transeger",
        backbone="features",
        joint="fc",
        feedback="soft",
        causal=causal,
        prompt_parts=("history", "name"),
        history_runs=3,
        prompt_len=24,
    )
    with jax.enable_x64(True):
        kit = Kit(System("features", fields))
        chunks = kit.video(3)
        told = make_told_segmenter(kit.model)
        state, _ = told(kit.variables, kit.start(), chunks)
        own, _ = kit.scan(chunks)
    steps = np.asarray(chunks.step_labels)
    np.testing.assert_array_equal(state.labels, steps[2])
    runs = [[k for k, _ in itertools.groupby(np.ravel(steps[:2, n]))] for n in (0, 1)]
    np.testing.assert_array_equal(state.history, [row[-3:] for row in runs])
    assert np.any(np.asarray(own.history) != np.asarray(state.history))
