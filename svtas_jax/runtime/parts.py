"""A batch of which every device computes its own slots.

Training on several devices runs in `jax.shard_map`: the program sees the slots of one
device, and says where it needs the whole batch. Outside of it, a batch is whole, and
these functions change nothing.
"""

import itertools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")  # of arrays

AXIS = "data"  # the mesh's axis that splits a batch


def is_apart() -> bool:
    """Whether the program that is being traced sees one device's slots only."""
    return AXIS in jax.sharding.get_abstract_mesh().manual_axes


def total(tree: Tree) -> Tree:
    """Adds up the devices' arrays, those of one type in one message."""
    if not is_apart():
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    sums = list(leaves)
    for kind in dict.fromkeys(leaf.dtype for leaf in leaves):  # in an order that lasts
        places = [n for n, leaf in enumerate(leaves) if leaf.dtype == kind]
        # XLA would pack them too, but after it has decided which kernels to fuse.
        packed = jnp.concatenate([leaves[n].ravel() for n in places])
        ends = itertools.accumulate(leaves[n].size for n in places)
        parts = jnp.split(jax.lax.psum(packed, AXIS), list(ends)[:-1])
        for n, part in zip(places, parts, strict=True):
            sums[n] = part.reshape(leaves[n].shape)
    return jax.tree.unflatten(structure, sums)


def any_of(flags: jax.Array) -> jax.Array:
    """Returns whether any flag of any device is True, as a scalar."""
    return total(jnp.any(flags).astype(jnp.int32)) > 0


def own(tree: Tree) -> Tree:
    """Marks arrays that are the same on all devices as each device's own.

    The gradient of the result is then a device's share. Without the mark, JAX sums the
    shares wherever the array meets one that is a device's own.
    """
    if not is_apart():
        return tree
    return jax.tree.map(lambda leaf: jax.lax.pcast(leaf, AXIS, to="varying"), tree)


def draw(
    sample: Callable[[tuple[int, ...]], jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """Returns the random numbers of a device's slots: those that one device would draw.

    Args:
        sample: draws an array of a shape.
        shape: (B, ...) with the slots that the program sees.
    """
    if not is_apart():
        return sample(shape)
    whole = sample((shape[0] * jax.lax.axis_size(AXIS), *shape[1:]))
    first = jax.lax.axis_index(AXIS) * shape[0]
    return jax.lax.dynamic_slice_in_dim(whole, first, shape[0])
