"""Where a training's arrays lie: which device holds what of its state and carry.

Streams, and the sums of gradients that a device has of its own slots, lie on that
device. Weights lie on all, or in parts on each (FSDP), see `runtime.sharding`.
"""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from svtas_jax.models.text_encoder import VOCABULARY
from svtas_jax.runtime import sharding
from svtas_jax.structs import BatchCarry, TrainState


def lay_out(
    state: TrainState, carry: BatchCarry, mesh: Mesh, split_from: int = 0
) -> tuple[TrainState, BatchCarry]:
    """Returns the sharding of every array of state and carry.

    Streams are split over the devices by slot, and so are the shares of gradients; see
    `sharding.in_parts` for weights.

    Args:
        state: arrays or shapes.
        carry: arrays or shapes, after `share_out`.
        mesh: see `sharding.make_mesh`.
        split_from: split weight arrays with at least this many elements; 0 replicates
            all.
    """

    def weights(leaf):
        return sharding.in_parts(leaf.shape, mesh, split_from)

    def gradients(leaf, param):
        return slots if leaf.ndim > param.ndim else weights(leaf)

    slots = sharding.by_slot(mesh)
    everywhere: Any = sharding.repeated(mesh)  # where the carry has an array
    return (
        jax.tree.map(weights, state),
        dataclasses.replace(
            carry,
            grads=jax.tree.map(gradients, carry.grads, state.params),
            stream=jax.tree.map(lambda _: slots, carry.stream),
            metrics=jax.tree.map(lambda _: everywhere, carry.metrics),
            chunk_index=everywhere,
            bad_chunk=everywhere,
            num_bad=everywhere,
        ),
    )


def place(
    state: TrainState, carry: BatchCarry, mesh: Mesh, split_from: int = 0
) -> tuple[TrainState, BatchCarry, tuple[TrainState, BatchCarry]]:
    """Puts state and carry on the devices; returns both and their `lay_out`."""
    carry = share_out(state, carry, mesh, split_from)
    shardings = lay_out(state, carry, mesh, split_from)
    return (*jax.tree.map(sharding.put, (state, carry), shardings), shardings)


def share_out(
    state: TrainState, carry: BatchCarry, mesh: Mesh, split_from: int = 0
) -> BatchCarry:
    """Returns the carry with the shares of gradients that these devices sum.

    The shares of as many devices are kept. The sum of others becomes the share of the
    first device.

    Args:
        state: arrays or shapes.
        carry: from `init_carry`, or of any other devices.
        mesh, split_from: see `lay_out`.
    """
    num_parts = 0 if split_from else sharding.num_parts(mesh)

    def share(path, grad, param):
        has_shares = num_parts > 1 and path[-1].key != VOCABULARY
        shape = (num_parts, *param.shape) if has_shares else param.shape
        if isinstance(grad, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(shape, grad.dtype)
        if grad.shape == shape:
            return grad
        whole = grad.sum(axis=0) if grad.ndim > param.ndim else grad
        return sharding.put_first(whole, mesh) if has_shares else whole

    grads = jax.tree_util.tree_map_with_path(share, carry.grads, state.params)
    return dataclasses.replace(carry, grads=grads)
