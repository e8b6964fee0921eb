"""Counts multiply-accumulates: of products in a jaxpr, of normalisations by module.

Products are matrix products and convolutions; a depthwise convolution counts as such,
however a backend computes it. Normalisations count as in fvcore, which the field uses:
2 per value of batch norm, 5 per value of layer norm. Activations, pooling and softmax
count as 0.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
from jax.extend import core

from svtas_jax.models.image import with_separate_norms
from svtas_jax.models.norm import BatchNorm
from svtas_jax.structs import Chunk, Model, Params, StreamState


def count_macs(function: Callable[..., Any], *args: Any) -> int:
    """Returns the multiply-accumulates of one call, from the shapes alone.

    Args:
        function: traced, not run.
        args: arrays or shapes.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _of_dot(equation)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    if name == "cond":
        branches = [branch.jaxpr for branch in params["branches"]]
        if not all(branch.eqns for branch in branches):
            return 0  # may be skipped, as causal Transeger does if no chunk ends inside
        # `platform_dependent` has a branch per backend; the largest has the products.
        return max(map(_of_jaxpr, branches))
    if name == "while":
        raise ValueError(
            "the multiply-accumulates of a while loop are not known in advance."
        )
    times = params["length"] if name == "scan" else 1
    if name == "shard_map":  # what every device computes
        times = params["mesh"].size
    return times * sum(map(_of_jaxpr, _inner(params)))


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the function that an equation calls, if any, without its gradients."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in params:
            inner = params[name]
            yield getattr(inner, "jaxpr", inner)
            return


def _of_dot(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    depth = math.prod(left[axis] for axis in contracted)
    return depth * math.prod(equation.outvars[0].aval.shape)


def _of_convolution(equation) -> int:
    numbers = equation.params["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    # The kernel's input axis holds the channels of one group.
    _, channels, *spatial = (kernel[axis] for axis in numbers.rhs_spec)
    return channels * math.prod(spatial) * math.prod(equation.outvars[0].aval.shape)


_NORMS = ((BatchNorm, 2), (nn.LayerNorm, 5))


def count_normalisations(
    model: Model, variables: Params, state: StreamState, chunk: Chunk
) -> int:
    """Returns the multiply-accumulates of one chunk's normalisations, folded ones
    included; arguments are arrays or shapes."""
    model, total = with_separate_norms(model), 0
    for kind, cost in _NORMS:
        apply = functools.partial(
            model.apply,
            capture_intermediates=lambda module, method, k=kind: (
                isinstance(module, k) and method == "__call__"
            ),
            mutable=["intermediates"],
        )
        _, captured = jax.eval_shape(apply, variables, state, chunk)
        values = jax.tree.leaves(captured.get("intermediates", {}))
        total += cost * sum(math.prod(value.shape) for value in values)
    return total


def parameters_by_module(params: Params) -> dict[str, int]:
    """Returns the number of parameters of each top-level module."""
    return {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(module))
        for name, module in params.items()
    }
