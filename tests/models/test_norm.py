"""Batch norm's forms for a GPU and for a CPU agree, also with a ReLU6 after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax.models import convolution, norm
from svtas_jax.models.layers import relu6

TOLERANCE = 2e-5  # of sums of some thousand float32 numbers around 1
SHAPES = [(2, 3, 8), (2, 3, 6, 5, 8), (1, 2, 112, 16, 4)]


def steps(shape, rng, mean=0.0):
    x = jnp.asarray(rng.normal(mean, 2, shape), jnp.float32)
    return x, jnp.asarray(np.arange(shape[0] * shape[1]) % 3 != 1).reshape(shape[:2])


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_in_one_pass_are_the_sums(shape):
    x, valid = steps(shape, np.random.default_rng(0))
    kept = np.float64(x)[np.asarray(valid)].reshape(-1, shape[-1])
    first, second = norm._sums_at_once((x, jnp.square(x)), valid)
    np.testing.assert_allclose(first, kept.sum(0), rtol=TOLERANCE, atol=1e-3)
    np.testing.assert_allclose(second, (kept**2).sum(0), rtol=TOLERANCE)
    everything = norm._sums_at_once((x,), None)[0]
    expected = np.float64(x).reshape(-1, shape[-1]).sum(0)
    np.testing.assert_allclose(everything, expected, rtol=TOLERANCE, atol=1e-3)


def test_sums_in_one_pass_keep_no_nan_of_invalid_steps():
    x, valid = steps((2, 3, 4, 4, 8), np.random.default_rng(0))
    x = jnp.where(valid[..., None, None, None], x, jnp.nan)
    assert jnp.isfinite(norm._sums_at_once((x,), valid)[0]).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [0.0, 300.0])
def test_moments_in_one_pass_are_those_in_two(shape, mean):
    """Also far from zero, if the running mean is near."""
    x, valid = steps(shape, np.random.default_rng(1), mean)
    near = jnp.full(shape[-1], mean * 1.001)
    count = jnp.float32(valid.sum() * np.prod(shape[2:-1], dtype=int))
    once = norm._moments_at_once(x, near, valid, count)
    twice = norm._mean_first(x, near, valid, count)
    for mine, theirs in zip(once, twice, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_the_variance_of_equal_numbers_is_not_negative():
    x = jnp.full((1, 4, 3, 3, 2), 0.1)
    valid, near = jnp.ones((1, 4), bool), jnp.full(2, -5.0)
    _, var, _ = norm._moments_at_once(x, near, valid, jnp.float32(36))
    assert (var >= 0).all()


@pytest.mark.parametrize("height", [1, 7, 14, 56, 112, 128, 113])
def test_images_are_cut_evenly(height):
    parts = norm._num_parts(height, height)
    assert height % parts == 0
    assert parts == 1 or height * height / parts >= 400


def variables_of(width, rng):
    params = {n: rng.uniform(0.5, 2, width) for n in ("scale", "bias")}
    stats = {"mean": np.zeros(width), "var": np.ones(width)}
    return jax.tree.map(jnp.float32, {"params": params, "batch_stats": stats})


@pytest.mark.parametrize("train", [True, False])
def test_clipping_within_is_relu6_afterwards(train):
    rng = np.random.default_rng(2)
    x, valid = steps((2, 3, 4, 4, 8), rng)
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    variables = variables_of(8, rng)

    def total(clipped, x, params):
        y, _ = norm.BatchNorm().apply(
            {**variables, "params": params},
            *(x, valid),
            train=train,
            clipped=clipped,
            mutable=["batch_stats"],
        )
        return jnp.sum(weights * (y if clipped else relu6(y)))

    found, expected = (
        jax.jit(jax.grad(total, (1, 2)), static_argnums=0)(
            clipped, x, variables["params"]
        )
        for clipped in (True, False)
    )
    for mine, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_both_spellings_of_what_is_clipped_agree(monkeypatch):
    """The form for a GPU, on the CPU."""
    rng = np.random.default_rng(3)
    grad, x = (jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    factor, offset = jnp.full(4, 3.0), jnp.full(4, 2.0)
    y = relu6(x * factor + offset)
    expected, _ = norm._unclipped(grad, x, y, factor, offset)

    def for_cuda(*arguments, cuda, default):
        del default
        return cuda(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", for_cuda)
    for found in norm._unclipped(grad, x, y, factor, offset):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(7, 4), (6, 9), (1, 5)])
def test_gradients_for_a_gpu_are_those_of_the_grouped_convolution(size, stride):
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 1, 3)), jnp.float32)
    grad = convolution._grouped_conv(x, kernel, stride=stride)
    ours = convolution._mixed_gradients(x, kernel, grad, stride=stride)
    theirs = convolution._grouped_gradients(x, kernel, grad, stride=stride)
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-4, atol=1e-4)
