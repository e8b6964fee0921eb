"""Exports programs as StableHLO, which `jax.export.deserialize` loads."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from svtas_jax.export.flat import flatten, unflatten
from svtas_jax.folding import folded
from svtas_jax.models.causal_transeger import CausalTranseger
from svtas_jax.streaming import keep_unless, look_ahead, reset_streams
from svtas_jax.structs import Chunk, Model, Params

PLATFORMS = ("cpu", "cuda")


def step_of(model: Model) -> Callable[..., Any]:
    """Returns the function (variables, state, frames, count, starts[, text]) -> (next
    state, logits), of a state by name; see docs/export.md."""
    if isinstance(model, CausalTranseger):
        model = model.clone(within_chunk=True)

    def step(variables, state, frames, count, starts, text=None):
        batch_size, num_steps = frames.shape[:2]
        valid = jnp.arange(num_steps) < count[:, None]
        chunk = Chunk(
            frames=frames,
            labels=jnp.zeros(valid.shape, jnp.int32),  # only losses read them
            valid=valid,
            starts=starts,
            num_chunks=jnp.ones(batch_size, jnp.int32),
        )
        before = unflatten(state, model.initial_state(batch_size))
        before = reset_streams(model, before, starts)
        after, output = model.apply(variables, before, chunk, ahead=text)
        after = jax.vmap(keep_unless)(count > 0, after, before)
        logits = output.logits[-1]
        if before.position is not None:
            end = model.clip_steps - before.position
            is_beyond = valid & (jnp.arange(num_steps) >= end[:, None])
            logits = jnp.where(is_beyond[..., None], jnp.nan, logits)
        return flatten(model, after), logits

    return step


def text_of(model: Model) -> Callable[..., Any]:
    """Returns the function (variables, labels (B, clip_steps)) -> text (B, clip_steps,
    D); with soft feedback, probabilities (B, clip_steps, K) are its last argument."""

    def text(variables, labels, scores=None):
        state = model.initial_state(labels.shape[0])
        state = dataclasses.replace(state, labels=labels, scores=scores)
        return look_ahead(variables, state, model=model)

    return text


def export_step(
    model: Model,
    variables: Params,
    *,
    state: Mapping[str, np.ndarray],
    picture: tuple[int, ...],
    text_width: int,
) -> bytes:
    """Exports `step_of`.

    Args:
        model, variables: see `svtas_jax.runs.TrainedRun`.
        state: arrays of one stream, (1, ...) each.
        picture: height, width, channels.
        text_width: D of the text features, 0 if the step reads none.
    """
    batch, steps = jax.export.symbolic_shape("b, t")
    steps = steps if model.causal else model.clip_steps
    shape = jax.ShapeDtypeStruct
    shapes = [
        {name: shape((batch, *a.shape[1:]), a.dtype) for name, a in state.items()},
        shape((batch, steps, *picture), np.uint8),
        shape((batch,), np.int32),
        shape((batch,), np.bool_),
    ]
    if text_width:
        shapes.append(shape((batch, model.clip_steps, text_width), np.float32))
    return _serialise(step_of(model), variables, *shapes)


def export_text(model: Model, variables: Params) -> bytes:
    """Exports `text_of`."""
    (batch,) = jax.export.symbolic_shape("b")
    state = model.initial_state(1)
    read = [array for array in (state.labels, state.scores) if array is not None]
    shapes = [jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in read]
    return _serialise(text_of(model), variables, *shapes)


def _serialise(function, variables, *shapes) -> bytes:
    """Serialises a program that holds the values of its weights."""
    values, run = folded(function, variables, *shapes)
    program = jax.jit(functools.partial(run, values))
    return bytes(jax.export.export(program, platforms=PLATFORMS)(*shapes).serialize())
