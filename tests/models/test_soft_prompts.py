"""Soft prompts: those of a certain label, and means of these."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax.config import PROMPT_PARTS
from svtas_jax.models import prompts, soft_prompts
from svtas_jax.structs import IGNORE_LABEL, NO_LABEL

NAMES = ("take", "open the jar", "background")  # of 1, 3 and 1 words
WIDTH, NUM_CONTEXT = 3, 2
LABELS = np.array(
    [[0, 0, 1, 1], [2, 1, 0, 2], 4 * [NO_LABEL], 4 * [IGNORE_LABEL]], np.int32
)
HISTORY = np.array([[NO_LABEL, 1], [1, 2], 2 * [NO_LABEL], [0, 1]], np.int32)


class Prompts:
    """The tables of prompts, and random vectors of their tokens."""

    def __init__(self, kind, position, max_len, parts=PROMPT_PARTS):
        self.tables = prompts.build_tables(
            NAMES,
            kind=kind,
            clip_steps=4,
            max_len=max_len,
            num_context=NUM_CONTEXT,
            class_position=position,
            parts=parts,
            history_runs=HISTORY.shape[1],
        )
        rng, used = np.random.default_rng(0), self.tables.token_ids()
        context = jnp.asarray(rng.normal(size=(len(NAMES), NUM_CONTEXT, WIDTH)))
        tokens = jnp.asarray(rng.normal(size=(len(used), WIDTH)))
        self.vectors = used, tokens, context if kind == "learned" else None

    def hard(self, labels, history=None):
        ids = prompts.prompt_ids(self.tables, jnp.asarray(labels), history=history)
        return prompts.embed(ids, jnp.asarray(labels), *self.vectors)

    def soft(self, labels, scores, history=None):
        tables = soft_prompts.split(self.tables, len(NAMES))
        labels, scores = jnp.asarray(labels), jnp.asarray(scores)
        return soft_prompts.embed(
            tables, labels, scores, *self.vectors, history=history
        )


def certain(labels):
    return np.eye(len(NAMES), dtype=np.float32)[np.maximum(labels, 0)]


@pytest.mark.parametrize("max_len", [50, 26])  # 26 cuts within the tail
@pytest.mark.parametrize(
    ("kind", "position"), [("learned", "end"), ("learned", "middle"), ("fixed", "end")]
)
def test_certain_labels_have_their_own_prompts(kind, position, max_len):
    own = Prompts(kind, position, max_len)
    found = own.soft(LABELS, certain(LABELS))
    np.testing.assert_array_equal(found, own.hard(LABELS))
    other = own.soft(LABELS, certain((LABELS + 1) % 3))
    is_told = np.any(np.asarray(found != other), axis=(2, 3))
    assert is_told[:2].all() and not is_told[2:].any()


@pytest.mark.parametrize("max_len", [60, 32])  # 32 cuts within some tails
@pytest.mark.parametrize("kind", ["learned", "fixed"])
def test_soft_prompts_tell_the_history(kind, max_len):
    own = Prompts(kind, "end", max_len, ("history", *PROMPT_PARTS))
    history = jnp.asarray(HISTORY)
    found = own.soft(LABELS, certain(LABELS), history)
    np.testing.assert_array_equal(found, own.hard(LABELS, history))
    other = own.soft(LABELS, certain(LABELS), history.at[:, 0].set(0))
    is_told = np.any(np.asarray(found != other), axis=(2, 3))
    assert is_told[:2].all() and not is_told[2:].any()


def test_uncertain_labels_have_the_mean_of_their_prompts():
    own = Prompts("learned", "end", 50)
    runs = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]], np.int32)
    each = own.hard(runs)
    shares = np.float32([0.2, 0.5, 0.3])
    found = own.soft(runs[1:2], np.broadcast_to(shares, (1, 4, 3)))
    expected = np.tensordot(shares, each, axes=1)[None]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_probabilities_learn():
    own = Prompts("learned", "end", 50)
    weights = np.random.default_rng(1).normal(size=(4, 4, 50, WIDTH))
    scores = jnp.asarray(certain(LABELS))
    grads = jax.grad(lambda s: jnp.sum(weights * own.soft(LABELS, s)))(scores)
    assert np.all(np.any(np.asarray(grads[:2]) != 0, axis=-1))
    assert not np.any(grads[2:])  # no label, no say
