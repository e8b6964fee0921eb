"""The state of a stream as flat, named arrays.

A field of `StreamState` that holds one array gives its name to it; a field that holds
several numbers them: `context_0`, `context_1`, and so on.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from svtas_jax.models.transeger import Transeger
from svtas_jax.structs import Array, Model, StreamState

_FIELDS = (
    *("labels", "context", "image", "running", "position"),
    *("scores", "running_scores"),
)


def flatten(model: Model, state: StreamState) -> dict[str, Any]:
    """Returns the arrays of a state by name, (B, ...) each.

    The labels of SETE and METE, which never change and which nothing reads, are not
    among them.
    """
    named = {}
    for field in _FIELDS:
        value = getattr(state, field)
        named |= dict(zip(_names(field, value), jax.tree.leaves(value), strict=True))
    if not isinstance(model, Transeger):
        del named["labels"]
    return named


def unflatten(arrays: Mapping[str, Array], fresh: StreamState) -> StreamState:
    """Returns the state with these arrays; those without a name are as in `fresh`."""
    changes = {}
    for field in _FIELDS:
        value = getattr(fresh, field)
        leaves, tree = jax.tree.flatten(value)
        pairs = zip(_names(field, value), leaves, strict=True)
        own = [arrays.get(name, leaf) for name, leaf in pairs]
        changes[field] = jax.tree.unflatten(tree, own)
    return dataclasses.replace(fresh, **changes)


def initial_values(model: Model) -> dict[str, np.ndarray]:
    """Returns the arrays of one new stream, (1, ...) each; all values of an array are
    the same."""
    arrays = flatten(model, model.initial_state(1))
    return {name: np.asarray(array) for name, array in arrays.items()}


def _names(field: str, value: Any) -> list[str]:
    leaves = jax.tree.leaves(value)
    if isinstance(value, tuple):
        return [f"{field}_{index}" for index in range(len(leaves))]
    return [field] * len(leaves)
