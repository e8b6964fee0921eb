"""What a stream did before the chunk that its prompt describes: runs of labels.

A run is a maximal sequence of equal labels. The history of a row holds the classes of
its last N runs, the latest one last, and NO_LABEL in front where there were fewer.
"""

import jax
import jax.numpy as jnp

from svtas_jax.structs import NO_LABEL


def extended(history: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the history (B, N) after a chunk.

    A run that goes on from one chunk to the next is one run. Labels that are missing
    (negative) are passed over.

    Args:
        history: (B, N) int32 before the chunk.
        labels: (B, T) int32 of the chunk.
    """
    size = history.shape[1]
    sequence = jnp.concatenate((history, labels), axis=1)
    is_label = sequence >= 0
    begins = is_label & (sequence != _label_before(sequence, is_label))
    number = jnp.cumsum(begins, axis=1, dtype=jnp.int32)
    place = number - number[:, -1:] + size - 1  # the last run comes last
    own = begins[:, :, None] & (place[:, :, None] == jnp.arange(size))
    found = jnp.max(jnp.where(own, sequence[:, :, None], NO_LABEL), axis=1)
    return found.astype(history.dtype)


def _label_before(sequence: jax.Array, is_label: jax.Array) -> jax.Array:
    """Returns for each element the nearest label before it, NO_LABEL without one."""
    index = jnp.where(is_label, jnp.arange(sequence.shape[1]), -1)
    index = jnp.pad(index, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    index = jax.lax.cummax(index, axis=1)
    label = jnp.take_along_axis(sequence, jnp.maximum(index, 0), axis=1)
    return jnp.where(index >= 0, label, NO_LABEL)


def ended(history: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the history (B, N) without the run that goes on in the chunk.

    Args:
        history: (B, N) before the chunk.
        labels: (B, T) of the chunk.
    """
    goes_on = history[:, -1:] == labels[:, :1]
    earlier = jnp.pad(history, ((0, 0), (1, 0)), constant_values=NO_LABEL)[:, :-1]
    return jnp.where(goes_on, earlier, history)
