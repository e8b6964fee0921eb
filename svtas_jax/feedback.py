"""Replaces what a stream tells Transeger's prompts about the chunk that it has seen.

By itself, the model keeps the true labels in training and its own in evaluation.
Training may show it its own, too (`training.prompting`), and an evaluation the true
ones, which shows how much it loses by its own mistakes.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from svtas_jax.models import prompts
from svtas_jax.streaming import (
    Segmenter,
    compile_inference,
    keep_unless,
    scan_chunks,
    segment_chunk,
)
from svtas_jax.structs import Chunk, Model, Params, StreamState


def true_labels(chunk: Chunk) -> jax.Array:
    """Returns the labels (B, T) that prompts are made of, see `prompt_labels`."""
    return prompts.prompt_labels(chunk.labels, chunk.step_valid.shape[1])


def replace_labels(
    model: Model,
    state: StreamState,
    chunk: Chunk,
    labels: jax.Array,
    scores: jax.Array | None = None,
) -> StreamState:
    """Returns the state with other labels for the next chunk's prompts.

    Args:
        model: a Transeger.
        state: after the chunk.
        chunk: leaves (B, ...), a whole one, as in training and evaluation.
        labels: (B, T) int32.
        scores: (B, T, K) probabilities, for soft feedback; by default the labels are
            certain.
    """
    labels = labels.astype(jnp.int32)
    if state.scores is not None:
        if scores is None:
            scores = jax.nn.one_hot(labels, state.scores.shape[-1])
        scores = scores.astype(state.scores.dtype)
    if model.causal:  # its prompts describe full chunks only
        is_full = jnp.all(chunk.step_valid, axis=1)
        labels, scores = jax.vmap(keep_unless)(
            is_full, (labels, scores), (state.labels, state.scores)
        )
    return dataclasses.replace(state, labels=labels, scores=scores)


def segment_told_truth(
    variables: Params, state: StreamState, chunks: Chunk, *, model: Model
) -> tuple[StreamState, jax.Array]:
    """Does what `streaming.segment_video` does, but the prompts about every last chunk
    are made of its true labels: a ceiling, and nothing that a stream could do."""

    def step(variables, state, chunk):
        after, logits = segment_chunk(variables, state, chunk, model=model)
        after = replace_labels(model, after, chunk, true_labels(chunk))
        return keep_unless(jnp.any(chunk.valid), after, state), logits

    return scan_chunks(step, variables, state, chunks)


def make_told_segmenter(
    model: Model, sharding: jax.sharding.Sharding | None = None
) -> Segmenter:
    """Returns `segment_told_truth` for this model, jitted; `sharding` is for the
    states."""
    run = functools.partial(segment_told_truth, model=model)
    return compile_inference(run, out_shardings=(sharding, None))
