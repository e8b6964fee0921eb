"""The optimizer against PyTorch's formula; golden files pin its numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from svtas_jax.training.optim import make_optimizer

TOLERANCE = 1e-6  # relative, float32 against float64


def run(tx, params, gradients):
    """Returns the parameters after every step."""
    state, update, history = tx.init(params), jax.jit(tx.update), []
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        history.append(np.asarray(params))
    return history


def plain_adam(params, gradients, rates, decay):
    """PyTorch's Adam: decay is part of the gradient, eps stands outside the root."""
    first = second = 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        gradient = gradient + decay * params
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        params = params - rate * first / (1 - 0.9**step) / unbiased
        yield params


def test_it_is_adam_with_coupled_decay_and_a_multi_step_rate():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=8), rng.normal(size=(6, 8))
    tx = make_optimizer(
        learning_rate=0.01, weight_decay=0.1, milestones=(2, 4), decay=0.1
    )
    ours = run(tx, jnp.asarray(start, jnp.float32), jnp.asarray(gradients, jnp.float32))
    rates = [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    expected = plain_adam(start, gradients, rates, 0.1)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE)


def test_decay_alone_moves_every_parameter_by_the_rate():
    """Decoupled decay would move them in proportion to their size."""
    params = jnp.array([2.0, -1.0, 0.5])
    tx = make_optimizer(learning_rate=0.01, weight_decay=1e-4)
    (after,) = run(tx, params, [jnp.zeros(3)])
    np.testing.assert_allclose(after, [1.99, -0.99, 0.49], rtol=1e-3)


@pytest.mark.parametrize("decay", [0.0, 1e-4])
def test_without_gradient_or_decay_nothing_moves(decay):
    params = jnp.array([2.0, 0.0])
    tx = make_optimizer(learning_rate=0.01, weight_decay=decay)
    (after,) = run(tx, params, [jnp.zeros(2)])
    assert after[1] == 0 and (after[0] == 2.0) == (decay == 0)
