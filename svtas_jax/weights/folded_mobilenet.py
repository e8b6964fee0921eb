"""Converts MobileNetV2 weights whose batch norms were folded into the convolutions.

TFLite and Edge TPU files hold only kernels and biases, but training needs batch norms
with statistics. `convert` makes every batch norm add only the bias. `calibrate` then
gives it the statistics of the user's videos, and a scale and bias that undo them.
Inference stays the same, and training continues from these weights.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.models.image import with_separate_norms
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.models.norm import BatchNorm
from svtas_jax.structs import Chunk, Model, Params

_EPSILON = BatchNorm.epsilon
_LEARNED, _MEASURED = ("scale", "bias"), ("mean", "var")
_NAME = re.compile(r"(stem|head|block(\d+)\.(expand|depthwise|project))\.(kernel|bias)")


def convert(arrays: Mapping[str, np.ndarray]) -> tuple[Params, tuple[str, ...]]:
    """Converts folded arrays to variables of a system's image branch.

    Args:
        arrays: `stem`, `block0` ... `block16` with `expand` (not block 0), `depthwise`,
            `project`, and `head`; each with `.kernel` (H, W, in, out), depthwise
            (3, 3, 1, C) or (3, 3, C, 1), and `.bias` (out,).

    Returns:
        Variables that compute the same as the folded network, and the names that were
        not used, such as the classifier's.

    Raises:
        InputError: if no array has one of these names.
    """
    flat, unplaced = {}, []
    for name, array in arrays.items():
        match = _NAME.fullmatch(name)
        if not match:
            unplaced.append(name)
            continue
        module = _module_path(match[1], match[2], match[3])
        if match[4] == "kernel":
            flat[f"params/{module}/conv/kernel"] = _to_our_kernel(array, match[3])
            continue
        flat[f"params/{module}/bn/bias"] = np.asarray(array, np.float32)
        flat[f"params/{module}/bn/scale"] = np.ones_like(array, np.float32)
        flat[f"batch_stats/{module}/bn/mean"] = np.zeros_like(array, np.float32)
        flat[f"batch_stats/{module}/bn/var"] = np.full_like(array, 1 - _EPSILON)
    if not flat:
        raise InputError(
            "no array is named like one of a folded MobileNetV2: stem.kernel, "
            "block1.expand.kernel, block1.expand.bias, ..., head.bias."
        )
    return flax.traverse_util.unflatten_dict(flat, sep="/"), tuple(unplaced)


def _module_path(name: str, block: str | None, part: str | None) -> str:
    if block is None:
        return f"image/backbone/{dict(stem='conv1', head='conv2')[name]}"
    stage, index = _blocks()[int(block)]
    parts = (
        ("depthwise", "project") if stage == 1 else ("expand", "depthwise", "project")
    )
    return f"image/backbone/layer{stage}_{index}/conv_{parts.index(part)}"


@functools.cache
def _blocks() -> tuple[tuple[int, int], ...]:
    """Returns each block's stage (from 1) and index in the stage, in order."""
    return tuple(
        (stage, index)
        for stage, (_, _, num_blocks, _) in enumerate(STAGES, 1)
        for index in range(num_blocks)
    )


def _to_our_kernel(array: np.ndarray, part: str | None) -> np.ndarray:
    array = np.asarray(array, np.float32)
    if part == "depthwise":
        return array.reshape(*array.shape[:2], 1, -1)
    return array[0, 0] if array.shape[:2] == (1, 1) else array


def calibrate(model: Model, variables: Params, batches: Iterable[Chunk]) -> Params:
    """Gives the image branch's batch norms the statistics of these chunks.

    Args:
        model: the model of the variables.
        variables: "params" and "batch_stats", with the arrays of `convert`.
        batches: chunks, leaves (B, ...); a few hundred frames are enough.

    Returns:
        Variables that compute the same at inference.

    Raises:
        InputError: if the chunks contain no frame.
    """
    measure = jax.jit(functools.partial(_output_moments, with_separate_norms(model)))
    total, sums = 0.0, None
    for chunk in batches:
        count, moments = measure(variables, chunk)
        total += float(count)
        moments = jax.tree.map(lambda x: np.asarray(x, np.float64), moments)
        sums = moments if sums is None else jax.tree.map(np.add, sums, moments)
    if sums is None or not total:
        raise InputError("there is no frame to calibrate the batch norms on.")
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep="/")
    for module, (first, second) in sums.items():
        flat |= _normed(flat, module, first / total, second / total)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def _output_moments(model, variables, chunk):
    """Returns the number of valid steps and, for each batch norm, two sums over them:
    of its output's mean over the image, and of its mean square."""
    _, captured = model.apply(
        variables,
        model.initial_state(chunk.starts.shape[0]),
        chunk,
        capture_intermediates=_is_norm_output,
        mutable=["intermediates"],
    )
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(
        captured["intermediates"], sep="/"
    )
    valid = chunk.step_valid[..., None]

    def over_steps(values):
        return jnp.sum(jnp.where(valid, jnp.mean(values, (2, 3)), 0), (0, 1))

    moments = {
        # In bfloat16, the difference of the two sums would be noise.
        name.removesuffix("/__call__"): (over_steps(y), over_steps(jnp.square(y)))
        for name, y in ((n, y.astype(jnp.float32)) for n, (y,) in flat.items())
    }
    return jnp.sum(valid), moments


def _is_norm_output(module: nn.Module, method: str) -> bool:
    return module.name == "bn" and method == "__call__"


def _normed(flat, module, mean, mean_square):
    """Returns the arrays of a batch norm that normalises by its input's moments, but
    has the same output as before.

    Args:
        flat: the variables by path.
        module: path of the batch norm.
        mean, mean_square: moments of its output.
    """
    old = {
        name: np.asarray(flat[f"{collection}/{module}/{name}"], np.float64)
        for collection, names in (("params", _LEARNED), ("batch_stats", _MEASURED))
        for name in names
    }
    slope = old["scale"] / np.sqrt(old["var"] + _EPSILON)
    var = np.maximum(mean_square - np.square(mean), 0) / np.square(slope)
    values = {
        f"params/{module}/scale": slope * np.sqrt(var + _EPSILON),
        f"params/{module}/bias": mean,
        f"batch_stats/{module}/mean": (mean - old["bias"]) / slope + old["mean"],
        f"batch_stats/{module}/var": var,
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
