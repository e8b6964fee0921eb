"""Converts weights with the names of SVTAS's public PyTorch code to Flax variables,
and back.

`svtas_jax.weights.rules` maps the modules' names; this module converts the arrays'
layouts. It needs no model, only the arrays' names and shapes.

    variables, unplaced = from_torch(state, system_rules("transeger"))
    state = to_torch(variables, system_rules("transeger"))
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.structs import Params
from svtas_jax.weights.rules import Rules


def _weight_and_bias(axes: int):
    return ((".weight", "params", "/kernel", axes), (".bias", "params", "/bias", None))


_SCALE_AND_BIAS = (
    (".weight", "params", "/scale", None),
    (".bias", "params", "/bias", None),
)

# The arrays of a layout: PyTorch's name; our collection and name; for a kernel, the
# number of its time and image axes, otherwise None.
_LEAVES = {
    "linear": _weight_and_bias(0),
    "conv1d": _weight_and_bias(1),
    "conv2d": _weight_and_bias(2),
    "conv3d": _weight_and_bias(3),
    "layer_norm": _SCALE_AND_BIAS,
    "batch_norm": (
        *_SCALE_AND_BIAS,
        (".running_mean", "batch_stats", "/mean", None),
        (".running_var", "batch_stats", "/var", None),
    ),
    "matrix": (("", "params", "", 0),),
    "array": (("", "params", "", None),),
}

# Counters and constants that PyTorch saves along with the weights.
_NO_WEIGHTS = re.compile(
    r"(.*\.)?(num_batches_tracked|position_ids|decoder_position_encoding\.pe)"
)


def from_torch(
    state: Mapping[str, np.ndarray], rules: Rules
) -> tuple[Params, tuple[str, ...]]:
    """Converts a PyTorch state dict.

    Args:
        state: arrays by PyTorch's name.
        rules: see `svtas_jax.weights.rules`.

    Returns:
        The Flax variables ("params" and, if there are any, "batch_stats"), and the
        names without a rule. Counters and constants are dropped silently.

    Raises:
        InputError: if an array has the wrong number of axes for its name.
    """
    flat, unplaced = {}, []
    for name, array in state.items():
        if _NO_WEIGHTS.fullmatch(name):
            continue
        path, axes = _translate(_without_shift(name), _from_torch_table(rules))
        if path is None:
            unplaced.append(name)
            continue
        flat[path] = _to_our_layout(name, np.asarray(array), axes)
    return flax.traverse_util.unflatten_dict(flat, sep="/"), tuple(unplaced)


def to_torch(variables: Params, rules: Rules) -> dict[str, np.ndarray]:
    """Converts Flax variables, or their gradients, to a PyTorch state dict.

    Raises:
        ValueError: if a variable has no rule.
    """
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep="/")
    shifted = _shifted_blocks(flat)
    state = {}
    for path, array in flat.items():
        name, axes = _translate(path, _to_torch_table(rules))
        if name is None:
            raise ValueError(f"variable {path} has no PyTorch name in these rules.")
        state[_with_shift(name, path, shifted)] = _to_torch_layout(array, axes)
    return state


_Table = tuple[tuple[re.Pattern, str, int | None], ...]


@functools.cache
def _from_torch_table(rules: Rules) -> _Table:
    return _table(rules, lambda there, here: (there, here))


@functools.cache
def _to_torch_table(rules: Rules) -> _Table:
    return _table(rules, lambda there, here: (here, there))


def _table(rules: Rules, order: Callable) -> _Table:
    """Lists (pattern of a name, template of the other name, axes) for each array."""
    table = []
    for rule in rules:
        for there, collection, here, axes in _LEAVES[rule.layout]:
            names = (rule.torch + there, f"{collection}/{rule.ours}{here}")
            source, target = order(*names)
            pattern = re.escape(source).replace(r"\{\}", "([a-z0-9]+)")
            table.append((re.compile(pattern), target, axes))
    return tuple(table)


def _translate(name: str, table: _Table) -> tuple[str | None, int | None]:
    for pattern, target, axes in table:
        match = pattern.fullmatch(name)
        if match:
            return target.format(*match.groups()), axes
    return None, None


# In PyTorch the shift wraps the convolution after it: conv.0 becomes conv.0.net.
_EXPANSION = re.compile(r"(layer\d+\.\d+\.conv\.0\.)net\.")
_BLOCK = re.compile(r"(?:.*/)?layer(\d+)_(\d+)/conv_0/")


def _without_shift(name: str) -> str:
    return _EXPANSION.sub(r"\1", name)


def _with_shift(name: str, path: str, shifted: set[str]) -> str:
    match = _BLOCK.match(path)
    if not match or match[0] not in shifted:
        return name
    return re.sub(r"(layer\d+\.\d+\.conv\.0\.)", r"\1net.", name)


def _shifted_blocks(flat: Mapping[str, np.ndarray]) -> set[str]:
    """Returns the path prefixes of the convolutions after a shift, which are in blocks
    with an expansion and a residual connection."""
    shifted = set()
    for path, kernel in flat.items():
        match = _BLOCK.match(path)
        if not match or not path.endswith("/conv/kernel") or kernel.ndim != 2:
            continue
        stage, block = int(match[1]), int(match[2])
        project = flat.get(path.replace("/conv_0/", "/conv_2/"))
        stride = STAGES[stage - 1][3] if block == 0 else 1
        if project is not None and stride == 1 and len(kernel) == project.shape[1]:
            shifted |= {match[0], match[0].replace("params/", "batch_stats/", 1)}
    return shifted


def _to_our_layout(name: str, array: np.ndarray, axes: int | None) -> np.ndarray:
    """Transposes (out, in, *axes) to (*axes, in, out), or (in, out) for 1x1 kernels."""
    if axes is None:
        return array
    if array.ndim != axes + 2:
        raise InputError(
            f"{name} has shape {array.shape}, but should have {axes + 2} axes. The "
            "file holds another architecture than the config describes."
        )
    if np.prod(array.shape[2:], dtype=int) == 1:
        return np.ascontiguousarray(array.reshape(array.shape[:2]).T)
    return np.ascontiguousarray(np.moveaxis(array, (0, 1), (-1, -2)))


def _to_torch_layout(array: np.ndarray, axes: int | None) -> np.ndarray:
    array = np.asarray(array)
    if axes is None:
        return array
    if array.ndim == 2:
        return np.ascontiguousarray(array.T).reshape(array.shape[::-1] + (1,) * axes)
    return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)))
