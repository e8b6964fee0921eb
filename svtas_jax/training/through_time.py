"""How far back in time a loss is differentiated: through some consecutive chunks.

Truncated backpropagation through time (Williams, Peng, 1990). Chunks are taken in
groups. Within a group, what a chunk remembers of those before it is differentiated too;
the state in which a group begins is data.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from svtas_jax.runtime import parts
from svtas_jax.streaming import keep_unless
from svtas_jax.structs import Chunk, Params, StreamState

# Parameters, batch statistics, stream, chunks of a group, key of the step, index of the
# first chunk and the number of the step to the loss, and with it stream, statistics,
# metrics, and which losses of the chunks are not finite.
GroupLoss = Callable[
    [Params, Params, StreamState, Chunk, jax.Array, jax.Array, jax.Array],
    tuple[jax.Array, tuple[StreamState, Params, dict[str, jax.Array], jax.Array]],
]


def loss_of_group(loss_fn: Callable[..., Any], num_chunks: int) -> GroupLoss:
    """Returns a function that computes the loss of a group of chunks.

    A chunk gets the random key of its index, whatever its group.

    Args:
        loss_fn: of one chunk, see `step.make_loss`.
        num_chunks: of a group. The leaves of its chunks are (num_chunks, B, ...); those
            of a single chunk are (B, ...).
    """
    if num_chunks == 1:
        return _of_one(loss_fn)

    def in_a_row(params, batch_stats, stream, chunks, step_key, first, step):
        def add_chunk(before, own):
            stream, batch_stats = before
            chunk, index = own
            key = jax.random.fold_in(step_key, index)
            loss, (*after, metrics) = loss_fn(
                params, batch_stats, stream, chunk, key, step
            )
            counts = parts.any_of(chunk.valid)
            stream, batch_stats = keep_unless(counts, tuple(after), before)
            # The loss does not depend on running statistics: nothing to store for them.
            kept = jax.lax.stop_gradient((batch_stats, metrics))
            return (stream, kept[0]), (loss, kept[1])

        indices = first + jnp.arange(num_chunks, dtype=jnp.int32)
        (stream, batch_stats), (losses, metrics) = jax.lax.scan(
            add_chunk, (stream, batch_stats), (chunks, indices)
        )
        is_bad = ~jnp.isfinite(metrics["loss"])
        metrics = jax.tree.map(jnp.sum, metrics)
        return jnp.sum(losses), (stream, batch_stats, metrics, is_bad)

    return in_a_row


def _of_one(loss_fn) -> GroupLoss:
    def alone(params, batch_stats, stream, chunk, step_key, index, step):
        key = jax.random.fold_in(step_key, index)
        loss, (*after, metrics) = loss_fn(params, batch_stats, stream, chunk, key, step)
        return loss, (*after, metrics, ~jnp.isfinite(metrics["loss"])[None])

    return alone


def in_groups(chunks: Chunk, size: int) -> Chunk:
    """Returns chunks (K, B, ...) with leaves (K / size, size, B, ...); for a size of 1
    as they are."""
    if size == 1:
        return chunks
    return jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), chunks)
