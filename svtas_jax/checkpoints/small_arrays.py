"""Packs hundreds of arrays into a few, because each array of a checkpoint costs time.

Small arrays of one type are concatenated to a vector, in the order of their names;
large ones stay as they are. A layout, stored beside them, lists all arrays.
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

SMALL = 2**18  # most elements of a packed array; stored checkpoints depend on it

Layout = dict[str, list[Any]]  # name of each array -> [shape, type], for JSON


def layout_of(tree: Params) -> Layout:
    """Returns names, shapes and types of a tree of arrays."""
    return {
        name: [list(leaf.shape), jnp.dtype(leaf.dtype).name]
        for name, leaf in sorted(_named(tree).items())
    }


def pack(tree: Params) -> tuple[dict[str, jax.Array], Layout]:
    """Returns copies of a tree's arrays, with the small ones packed, and the layout.

    Large arrays keep their sharding; vectors are replicated on all devices.
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
    """Returns the template with which Orbax reads the arrays of `pack`.

    Args:
        layout: of the tree.
        template: the tree; Orbax reads large arrays to the devices of the template's
            arrays of that name, or to the host if there are none. Vectors are read to
            the host.
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
    """Returns the arrays of a tree by name; small ones are on the host."""
    arrays = {name: packed[_key(name)] for name in _large(layout)}
    for kind, names in _small(layout).items():
        sizes = [math.prod(layout[name][0]) for name in names]
        parts = np.split(packed[_vector(kind)], list(itertools.accumulate(sizes))[:-1])
        for name, part in zip(names, parts, strict=True):
            arrays[name] = part.reshape(layout[name][0])
    return arrays


def rebuild(arrays: Mapping[str, Any], template: Params) -> Params:
    """Returns the tree of the arrays from `unpack`, on the devices of the template."""

    def take(path, leaf):
        array = arrays[name_of(path)]
        if isinstance(leaf, jax.Array) and not isinstance(array, jax.Array):
            return put(array, leaf.sharding)
        return jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(take, template)


@functools.cache
def _packer(outputs: tuple[tuple[str, Sharding | None], ...]):
    # These are only copies, with nothing to optimise.
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
    return {name_of(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def name_of(path: tuple[Any, ...]) -> str:
    """Returns the name of the array at a path of a tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _large(layout: Layout) -> list[str]:
    return [n for n, (shape, _) in sorted(layout.items()) if math.prod(shape) > SMALL]


def _small(layout: Layout) -> dict[str, list[str]]:
    """Returns the names of the small arrays by type."""
    small: dict[str, list[str]] = {}
    for name, (shape, kind) in sorted(layout.items()):
        if math.prod(shape) <= SMALL:
            small.setdefault(kind, []).append(name)
    return small


def _key(name: str) -> str:
    return name.replace("/", ".")  # Orbax would make a folder of a slash


def _vector(kind: str) -> str:
    return f"packed_{kind}"
