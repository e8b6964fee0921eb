"""Folding the weights changes no result, and leaves nothing to compute of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax.folding import folded
from svtas_jax.streaming import segment_chunk, with_weights

WEIGHTS = {"a": jnp.arange(6.0).reshape(2, 3), "unused": jnp.ones(7)}


def function(weights, x, y):
    norm = jax.lax.rsqrt(jnp.sum(jnp.square(weights["a"])) + 1)
    return {"sum": x @ (weights["a"] * norm) + y, "size": jnp.float32(len(x))}


def names_in(jaxpr):
    return {equation.primitive.name for equation in jaxpr.eqns}


def test_what_depends_on_weights_alone_is_computed_once():
    x, y = jnp.ones((4, 2)), jnp.ones(3)
    values, run = folded(function, WEIGHTS, x, y)
    assert [value.shape for value in values] == [(2, 3)]
    left = names_in(jax.make_jaxpr(run)(values, x, y).jaxpr)
    assert "rsqrt" not in left and "dot_general" in left
    jax.tree.map(np.testing.assert_allclose, run(values, x, y), function(WEIGHTS, x, y))


def test_shapes_are_enough():
    shape = jax.ShapeDtypeStruct((4, 2), jnp.float32)
    values, run = folded(function, WEIGHTS, shape, jnp.ones(3))
    x = jnp.full((4, 2), 2.0)
    expected = function(WEIGHTS, x, jnp.ones(3))
    jax.tree.map(np.testing.assert_allclose, run(values, x, jnp.ones(3)), expected)


def test_it_can_be_traced():
    """As in a scan over the chunks of a video."""

    @jax.jit
    def both(weights, xs):
        values, run = folded(function, weights, xs[0], jnp.ones(3))
        return jax.lax.map(lambda x: run(values, x, jnp.ones(3)), xs)

    xs = jnp.arange(16.0).reshape(2, 4, 2)
    for index in range(2):
        found = jax.tree.map(lambda leaf, i=index: leaf[i], both(WEIGHTS, xs))
        expected = function(WEIGHTS, xs[index], jnp.ones(3))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected
        )


def test_values_may_depend_on_shapes():
    def repeated(weights, x):
        return x + jnp.broadcast_to(weights, (len(x), 3))

    run = with_weights(repeated, jnp.arange(3.0))
    for size in (1, 4, 1):
        x = jnp.ones((size, 3))
        np.testing.assert_array_equal(run(x), x + jnp.arange(3.0))


@pytest.mark.parametrize(
    ("system", "causal"),
    [
        ("sete", False),
        ("transeger", False),
        pytest.param("transeger", True, marks=pytest.mark.slow),
    ],
)
def test_a_model_keeps_its_answers(tiny, system, causal):
    model = tiny.model(system, causal=causal)
    variables = tiny.variables(model)
    segment = functools.partial(segment_chunk, model=model)
    run, plain = with_weights(segment, variables), jax.jit(segment)
    for size in (2, 1):
        chunk = jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, size))
        state = model.initial_state(size)
        found, expected = run(state, chunk), plain(variables, state, chunk)
        assert expected[1].shape[:2] == (size, 4)
        for mine, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            largest = max(1.0, np.abs(theirs).max())  # sums end in float32
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * largest)
