"""Trees of hundreds of arrays as a few: a checkpoint costs time by the array.

Small arrays of one type lie behind one another in a vector, in the order of their
names; large ones stay as they are. What lay where is told by a layout that is stored
beside them.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding

from svtas_jax.runtime.sharding import put, repeated
from svtas_jax.structs import Params

SMALL = 2**18  # numbers; larger arrays stay by themselves. Checkpoints rest on it.

Layout = dict[str, list[Any]]  # of every array's name its shape and type, for JSON


def layout_of(tree: Params) -> Layout:
    """Returns names, shapes and types of a tree of arrays."""
    return {
        name: [list(leaf.shape), jnp.dtype(leaf.dtype).name]
        for name, leaf in sorted(_named(tree).items())
    }


def pack(tree: Params) -> tuple[dict[str, jax.Array], Layout]:
    """Returns copies of a tree's arrays (JAX's), the small ones in few vectors, and
    what lies where.

    Large ones lie on the devices as they did, vectors are repeated on all of them.
    """
    leaves = _named(tree)
    layout = layout_of(leaves)
    shardings = {name: leaf.sharding for name, leaf in leaves.items()}
    own = [s.mesh for s in shardings.values() if isinstance(s, NamedSharding)]
    meshes = [mesh for mesh in own if isinstance(mesh, Mesh)]  # all, of real arrays
    everywhere = repeated(meshes[0]) if meshes else None
    outputs = {_key(name): shardings[name] for name in _large(layout)}
    outputs |= {_vector(kind): everywhere for kind in _small(layout)}
    return _packer(tuple(sorted(outputs.items())))(leaves), layout


def shapes_of(layout: Layout, template: Params | None = None) -> dict[str, Any]:
    """Returns what tells Orbax to read what `pack` made.

    Args:
        layout: of the tree.
        template: the tree; its large arrays tell where on the devices they shall lie.
            What it has no array of is read to the host, as vectors are.
    """
    leaves = {} if template is None else _named(template)
    shapes: dict[str, Any] = {}
    for name in _large(layout):
        shape, kind = layout[name]
        leaf = leaves.get(name)
        shapes[_key(name)] = (
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            if isinstance(leaf, jax.Array)
            else np.empty(shape, jnp.dtype(kind))
        )
    for kind, names in _small(layout).items():
        size = sum(math.prod(layout[name][0]) for name in names)
        shapes[_vector(kind)] = np.empty(size, jnp.dtype(kind))
    return shapes


def unpack(packed: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Returns the arrays of a tree by their names; the small ones on the host."""
    arrays = {name: packed[_key(name)] for name in _large(layout)}
    for kind, names in _small(layout).items():
        sizes = [math.prod(layout[name][0]) for name in names]
        parts = np.split(packed[_vector(kind)], list(itertools.accumulate(sizes))[:-1])
        for name, part in zip(names, parts, strict=True):
            arrays[name] = part.reshape(layout[name][0])
    return arrays


def rebuild(arrays: Mapping[str, Any], template: Params) -> Params:
    """Returns the tree that `unpack` named, on the devices of the template's arrays."""

    def take(path, leaf):
        array = arrays[_name(path)]
        if isinstance(leaf, jax.Array) and not isinstance(array, jax.Array):
            return put(array, leaf.sharding)
        return jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(take, template)


@functools.cache
def _packer(outputs: tuple[tuple[str, Sharding | None], ...]):
    # Nothing but copies: there is nothing to optimise.
    quick = {"xla_backend_optimization_level": 0}
    return jax.jit(_packed, out_shardings=dict(outputs), compiler_options=quick)


def _packed(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    layout = layout_of(leaves)
    packed = {_key(name): jnp.copy(leaves[name]) for name in _large(layout)}
    for kind, names in _small(layout).items():
        parts = [leaves[name].ravel() for name in names]
        packed[_vector(kind)] = jnp.copy(jnp.concatenate(parts))
    return packed


def _named(tree: Params) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _large(layout: Layout) -> list[str]:
    return [n for n, (shape, _) in sorted(layout.items()) if math.prod(shape) > SMALL]


def _small(layout: Layout) -> dict[str, list[str]]:
    """Returns the names of the small arrays of every type."""
    small: dict[str, list[str]] = {}
    for name, (shape, kind) in sorted(layout.items()):
        if math.prod(shape) <= SMALL:
            small.setdefault(kind, []).append(name)
    return small


def _key(name: str) -> str:
    return name.replace("/", ".")  # a slash would be a folder


def _vector(kind: str) -> str:
    return f"packed_{kind}"
