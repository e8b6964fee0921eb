"""The optimizer against PyTorch's formula; golden files pin its numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from svtas_jax.config import default_config
from svtas_jax.training.optim import make_optimizer, make_schedule, optimizer_of

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


def plain_adamw(params, gradients, rates, decay):
    """PyTorch's AdamW: the decay, times the rate, is taken off the parameters."""
    undecayed = plain_steps(gradients, rates)
    for step, rate in zip(undecayed, rates, strict=True):
        params = params * (1 - rate * decay) - step
        yield params


def plain_steps(gradients, rates):
    """The steps of Adam without any decay."""
    before = np.zeros_like(gradients[0])
    for params in plain_adam(before, gradients, rates, 0):
        yield before - params
        before = params


def test_adamw_takes_its_decay_off_matrices_alone():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 4)), rng.normal(size=(6, 2, 4))
    names = ("kernel", "bias", "token_embedding", "scale")
    tx = make_optimizer(learning_rate=0.01, weight_decay=0.5, kind="adamw")
    params = {name: jnp.asarray(start, jnp.float32) for name in names}
    params["scale"] = params["scale"].ravel()
    state, update = tx.init(params), jax.jit(tx.update)
    for gradient in gradients:
        gradient = jax.tree.map(lambda p, g=gradient: jnp.reshape(g, p.shape), params)
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    *_, decayed = plain_adamw(start, gradients, [0.01] * 6, 0.5)
    *_, undecayed = plain_adamw(start, gradients, [0.01] * 6, 0)
    assert np.abs(decayed - undecayed).max() > 0.01
    for name, expected in (("kernel", decayed), *((n, undecayed) for n in names[1:])):
        found = np.reshape(params[name], expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_long_gradients_are_scaled_as_a_whole(kind):
    options = dict(learning_rate=0.01, weight_decay=0.1, kind=kind)
    start = {"a": jnp.ones((2, 2)), "b": jnp.ones(3)}
    gradients = {"a": jnp.full((2, 2), 2.0), "b": jnp.zeros(3).at[0].set(3.0)}  # 5 long
    short = jax.tree.map(lambda g: g / 5, gradients)
    clipped, plain = make_optimizer(**options, clip_norm=1.0), make_optimizer(**options)
    for given, tx, same in (
        (gradients, plain, short),
        (short, plain, short),
    ):
        found, _ = clipped.update(given, clipped.init(start), start)
        expected, _ = tx.update(same, tx.init(start), start)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected
        )
    # Adam's first step hides lengths: look at the moments.
    moments = jax.tree.leaves(clipped.update(gradients, clipped.init(start), start)[1])
    expected = jax.tree.leaves(plain.update(short, plain.init(start), start)[1])
    for ours, theirs in zip(moments, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def rates_of(kind, num_steps=10, **options):
    schedule = make_schedule(kind, learning_rate=0.4, num_steps=num_steps, **options)
    return [float(schedule(jnp.int32(step))) for step in range(num_steps)]


def test_cosine_falls_to_nothing_at_the_end():
    expected = [0.2 * (1 + np.cos(np.pi * step / 10)) for step in range(10)]
    np.testing.assert_allclose(rates_of("cosine"), expected, rtol=1e-5)
    warm = rates_of("cosine", warmup_steps=3)
    np.testing.assert_allclose(warm[:3], [0.1, 0.2, 0.3], rtol=1e-5)
    expected = [0.2 * (1 + np.cos(np.pi * step / 7)) for step in range(7)]
    np.testing.assert_allclose(warm[3:], expected, rtol=1e-5)


def test_milestones_are_counted_from_the_first_step():
    steps = dict(milestones=(5, 8), decay=0.5)
    expected = 5 * [0.4] + 3 * [0.2] + 2 * [0.1]
    np.testing.assert_allclose(rates_of("steps", **steps), expected, rtol=1e-5)
    expected[:3] = [0.1, 0.2, 0.3]
    warm = rates_of("steps", warmup_steps=3, **steps)
    np.testing.assert_allclose(warm, expected, rtol=1e-5)


def test_the_config_counts_in_epochs():
    config = default_config()
    config.train.update(num_epochs=4, warmup_epochs=0.5, schedule="cosine")
    config.train.update(learning_rate=0.4, weight_decay=0.0)
    found = run(optimizer_of(config, 6), jnp.zeros(1), jnp.ones((24, 1)))
    # Adam's steps with a constant gradient are as long as the rate.
    rates = -np.diff([0, *(float(params[0]) for params in found)])
    expected = make_schedule("cosine", learning_rate=0.4, num_steps=24, warmup_steps=3)
    np.testing.assert_allclose(
        rates, [expected(n) for n in range(24)], rtol=1e-3, atol=1e-6
    )


def test_the_default_optimizer_is_bit_for_bit_that_of_the_paper():
    config, rng = default_config(), np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(4, 5))
    config.train.lr_milestones = (2,)
    paper = optax.chain(
        optax.add_decayed_weights(1e-4),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(optax.piecewise_constant_schedule(5e-4, {2: 0.1})),
    )
    arrays = [jnp.asarray(x, jnp.float32) for x in (start, gradients)]
    ours, theirs = optimizer_of(config, 1), paper
    np.testing.assert_array_equal(run(ours, *arrays), run(theirs, *arrays))
    names = jax.tree.structure(theirs.init(arrays[0]))
    assert jax.tree.structure(ours.init(arrays[0])) == names  # of checkpoints
