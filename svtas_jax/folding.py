"""Splits an inference function into what depends on the weights alone, and the rest.

The first part is computed once, when a model is loaded: it folds batch norms into
convolutions, converts weights to the type of the computation and looks up the tokens
that prompts use. The rest holds no weight that a step does not read.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun

Values = list[jax.Array]  # what a function reads of its weights


def folded(
    function: Callable[..., Any], weights: Any, *arguments: Any
) -> tuple[Values, Callable[..., Any]]:
    """Folds the weights of `function(weights, *arguments)`.

    Args:
        function: can be traced by JAX.
        weights: a tree of arrays.
        arguments: trees of arrays or of `jax.ShapeDtypeStruct`.

    Returns:
        The values that depend on the weights alone, and a function of them and of
        arguments with the same shapes. Values may depend on the shapes.
    """
    shapes = jax.eval_shape(lambda: weights)
    constant, rest, tree = _split(function, shapes, arguments)

    def run(values, *arguments):
        found = jaxpr_as_fun(rest)(*values, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(tree, found)

    return jax.jit(jaxpr_as_fun(constant))(*jax.tree.leaves(weights)), run


def _split(
    function, weights, arguments
) -> tuple[ClosedJaxpr, ClosedJaxpr, jax.tree_util.PyTreeDef]:
    """Returns the programs weights -> values and (values, arguments) -> results, and
    the tree of the results."""
    program, described = jax.make_jaxpr(function, return_shape=True)(
        weights, *arguments
    )
    jaxpr, number = program.jaxpr, len(jax.tree.leaves(weights))
    known, constant, rest = {*jaxpr.invars[:number], *jaxpr.constvars}, [], []
    for equation in jaxpr.eqns:
        is_constant = _is_constant(equation, known)
        (constant if is_constant else rest).append(equation)
        known |= set(equation.outvars) if is_constant else set()
    known -= set(jaxpr.constvars)
    read = [v for e in rest for v in e.invars] + list(jaxpr.outvars)
    kept = list(dict.fromkeys(v for v in read if isinstance(v, Var) and v in known))
    unnamed = jaxpr.replace(debug_info=jaxpr.debug_info.with_unknown_names())
    first = unnamed.replace(invars=jaxpr.invars[:number], outvars=kept, eqns=constant)
    second = unnamed.replace(invars=kept + jaxpr.invars[number:], eqns=rest)
    return (
        ClosedJaxpr(first, program.consts),
        ClosedJaxpr(second, program.consts),
        jax.tree.structure(described),
    )


def _is_constant(equation, known: set[Var]) -> bool:
    """Whether the results depend on no argument, nor on the size of one."""
    inputs = [value for value in equation.invars if isinstance(value, Var)]
    sizes = [size for out in equation.outvars for size in out.aval.shape]
    is_known = bool(inputs) and all(value in known for value in inputs)
    return is_known and all(isinstance(size, int) for size in sizes)
