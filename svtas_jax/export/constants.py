"""Computes, before a program is exported, all that depends on the weights alone.

That folds batch norms into convolutions and selects the tokens that prompts use, so
that the program holds no weight that a step does not read.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun


def folded(function: Callable[..., Any], *shapes: Any) -> Callable[..., Any]:
    """Returns the function with its constant parts replaced by their values.

    Args:
        function: closes over the weights, as arrays.
        shapes: trees of `jax.ShapeDtypeStruct`, of its arguments.
    """
    program, described = jax.make_jaxpr(function, return_shape=True)(*shapes)
    tree, program = jax.tree.structure(described), _with_values(program)

    def run(*arguments):
        found = jaxpr_as_fun(program)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(tree, found)

    return run


def _with_values(program: ClosedJaxpr) -> ClosedJaxpr:
    """Computes what depends on no argument, and keeps of it what the rest reads."""
    jaxpr, known = program.jaxpr, set(program.jaxpr.constvars)
    constant, rest = [], []
    for equation in jaxpr.eqns:
        is_constant = _is_constant(equation, known)
        (constant if is_constant else rest).append(equation)
        known |= set(equation.outvars) if is_constant else set()
    read = [v for e in rest for v in e.invars] + list(jaxpr.outvars)
    kept = list(dict.fromkeys(v for v in read if isinstance(v, Var) and v in known))
    first = jaxpr.replace(
        constvars=[], invars=list(jaxpr.constvars), outvars=kept, eqns=constant
    )
    first = first.replace(debug_info=first.debug_info.with_unknown_names())
    values = jaxpr_as_fun(ClosedJaxpr(first, []))(*program.consts)
    return ClosedJaxpr(jaxpr.replace(constvars=kept, eqns=rest), list(values))


def _is_constant(equation, known: set[Var]) -> bool:
    """Whether the results depend on no argument, nor on the size of one."""
    inputs = [value for value in equation.invars if isinstance(value, Var)]
    sizes = [size for out in equation.outvars for size in out.aval.shape]
    is_known = bool(inputs) and all(value in known for value in inputs)
    return is_known and all(isinstance(size, int) for size in sizes)
