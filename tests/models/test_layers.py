"""The custom operators against plain formulas."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax.models.convolution import (
    CausalConv,
    causal_shift,
    depthwise_conv3x3,
    temporal_shift,
)
from svtas_jax.models.layers import Linear, gelu, where_valid
from svtas_jax.models.norm import BatchNorm

TOLERANCE = 1e-5  # of sums of at most some hundred float32 products of size 1


def all_of(x):
    """Returns the number of steps in every row of x (B, T, ...)."""
    return jnp.full(len(x), x.shape[1])


def grouped_conv(x, kernel, stride):
    """XLA's own depthwise convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_gradients(conv, x, kernel, stride):
    y, pull_back = jax.vjp(lambda x, k: conv(x, k, stride), x, kernel)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    return y, *pull_back(weights.astype(y.dtype))


@pytest.mark.parametrize(
    "batch_size, height, width, channels, stride",
    [
        (2, 7, 4, 3, 1),
        (1, 1, 2, 2, 1),
        (3, 9, 6, 2, 2),
        (1, 4, 1, 1, 2),
        (2, 1, 1, 4, 2),
    ],
)
def test_depthwise_conv_is_the_grouped_one(batch_size, height, width, channels, stride):
    rng = np.random.default_rng(height * 10 + width)
    x = rng.normal(size=(batch_size, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 1, channels)).astype(np.float32)
    ours = value_and_gradients(depthwise_conv3x3, x, kernel, stride)
    expected = value_and_gradients(grouped_conv, x, kernel, stride)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_depthwise_conv_keeps_dtypes(dtype):
    x, kernel = jnp.ones((2, 5, 5, 3), dtype), jnp.ones((3, 3, 1, 3), dtype)
    found = value_and_gradients(depthwise_conv3x3, x, kernel, 2)
    assert [leaf.dtype for leaf in found] == [dtype] * 3


def test_depthwise_filter_gradients_are_summed_in_float32():
    x = jnp.ones((2, 20, 20, 1), jnp.bfloat16)
    conv = jax.jit(lambda kernel: jnp.sum(depthwise_conv3x3(x, kernel, 1)))
    gradient = jax.grad(conv)(jnp.ones((3, 3, 1, 1), jnp.bfloat16))
    # Counting 800 ones in bfloat16 would stop at 256.
    assert gradient[1, 1, 0, 0] == 800


def test_temporal_shift_moves_channels_one_step():
    x = np.random.default_rng(0).normal(size=(2, 4, 2, 3, 17)).astype(np.float32)
    shifted = np.asarray(temporal_shift(jnp.asarray(x)))
    expected = x.copy()
    expected[:, :-1, ..., :2], expected[:, -1, ..., :2] = x[:, 1:, ..., :2], 0
    expected[:, 1:, ..., 2:4], expected[:, 0, ..., 2:4] = x[:, :-1, ..., 2:4], 0
    np.testing.assert_array_equal(shifted, expected)


def test_causal_shift_moves_channels_from_the_step_before():
    """Ten steps at once, or in chunks of which some steps are not valid."""
    rng = np.random.default_rng(0)
    x, previous = rng.normal(size=(2, 10, 1, 2, 16)), rng.normal(size=(2, 1, 2, 2))
    after, whole = causal_shift(jnp.asarray(previous), jnp.asarray(x), all_of(x))
    before = np.concatenate((previous[:, None], x[:, :-1, ..., 2:4]), axis=1)
    expected = np.concatenate((x[..., :2], before, x[..., 4:]), axis=-1)
    np.testing.assert_array_equal(whole, np.float32(expected))
    np.testing.assert_array_equal(after, np.float32(x[:, -1, ..., 2:4]))
    context = jnp.asarray(previous)
    for start, num_valid in ((0, 3), (3, 0), (3, 1), (4, 6)):
        own = np.full_like(x[:, :7], np.nan)
        own[:, :num_valid] = x[:, start : start + num_valid]
        count = jnp.full(2, num_valid)
        context, y = causal_shift(context, jnp.asarray(own), count)
        own = slice(start, start + num_valid)
        np.testing.assert_array_equal(y[:, :num_valid], whole[:, own])
    np.testing.assert_array_equal(context, after)


def test_temporal_shift_of_few_channels_or_one_step():
    x = jnp.ones((1, 3, 1, 1, 7))
    np.testing.assert_array_equal(temporal_shift(x), x)
    alone = temporal_shift(jnp.ones((1, 1, 1, 1, 8)))
    np.testing.assert_array_equal(alone[0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1])


def test_where_valid_keeps_no_nan():
    x = jnp.array([[1.0, jnp.nan]])[..., None]
    valid = jnp.array([[True, False]])
    np.testing.assert_array_equal(where_valid(valid, x)[0, :, 0], [1, 0])
    gradient = jax.grad(lambda x: jnp.sum(where_valid(valid, x) ** 2))(x)
    np.testing.assert_array_equal(gradient[0, :, 0], [2, 0])


def norm_variables(width, rng):
    names = ("scale", "bias"), ("mean", "var")
    params, stats = (
        {n: rng.uniform(0.5, 2, width).astype(np.float32) for n in group}
        for group in names
    )
    return {"params": params, "batch_stats": stats}


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 2, 2, 5)])
def test_batch_norm_counts_valid_steps_only(shape):
    rng = np.random.default_rng(1)
    x = rng.normal(2, 3, shape).astype(np.float32)
    valid = rng.random(shape[:2]) < 0.6
    x[~valid] = np.nan
    variables = norm_variables(shape[-1], rng)
    y, updates = BatchNorm().apply(
        variables, x, jnp.asarray(valid), train=True, mutable=["batch_stats"]
    )
    kept = x[valid].reshape(-1, shape[-1]).astype(np.float64)
    mean, var = kept.mean(0), kept.var(0)
    params, stats = variables["params"], variables["batch_stats"]
    normal = (x[valid] - mean) / np.sqrt(var + 1e-5)
    expected = normal * params["scale"] + params["bias"]
    np.testing.assert_allclose(np.asarray(y)[valid], expected, rtol=1e-4, atol=1e-4)
    after = updates["batch_stats"]
    np.testing.assert_allclose(
        after["mean"], 0.9 * stats["mean"] + 0.1 * mean, rtol=TOLERANCE
    )
    np.testing.assert_allclose(
        after["var"], 0.9 * stats["var"] + 0.1 * kept.var(0, ddof=1), rtol=TOLERANCE
    )


def test_batch_norm_without_a_valid_step_changes_nothing():
    rng = np.random.default_rng(2)
    variables = norm_variables(3, rng)
    x = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)
    valid = jnp.zeros((2, 4), bool)

    def total(params, x):
        y, updates = BatchNorm().apply(
            {**variables, "params": params},
            x,
            valid,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.sum(where_valid(valid, y)), (y, updates["batch_stats"])

    gradients, (y, after) = jax.grad(total, (0, 1), has_aux=True)(
        variables["params"], x
    )
    assert np.all(np.isfinite(y))
    assert all(np.all(g == 0) for g in jax.tree.leaves(gradients))
    jax.tree.map(np.testing.assert_array_equal, after, variables["batch_stats"])


def test_batch_norm_uses_running_statistics_in_evaluation():
    rng = np.random.default_rng(3)
    variables = norm_variables(3, rng)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    y = BatchNorm().apply(variables, x, None, train=False)
    params, stats = variables["params"], variables["batch_stats"]
    normal = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    expected = normal * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_statistics_stay_float32_for_bfloat16():
    x = jnp.full((2, 300, 4), 1.001, jnp.bfloat16)
    variables = BatchNorm().init(jax.random.key(0), x, None, train=True)
    y, updates = BatchNorm().apply(
        variables, x, None, train=True, mutable=["batch_stats"]
    )
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "dilation, chunk_steps",
    [(1, (1, 1, 3)), (2, (5, 3)), (2, (1, 4, 2)), (8, (3, 5, 1, 2))],
)
def test_causal_conv_does_not_depend_on_how_time_is_cut(dilation, chunk_steps):
    rng = np.random.default_rng(sum(chunk_steps))
    x = jnp.asarray(rng.normal(size=(2, sum(chunk_steps), 3)), jnp.float32)
    conv = CausalConv(4, dilation)
    start = jnp.zeros((2, 2 * dilation, 3))
    variables = conv.init(jax.random.key(0), start, x, all_of(x))
    end, whole = conv.apply(variables, start, x, all_of(x))
    context, parts = start, []
    for part in jnp.split(x, np.cumsum(chunk_steps)[:-1].tolist(), axis=1):
        context, y = conv.apply(variables, context, part, all_of(part))
        parts.append(y)
    np.testing.assert_array_equal(context, end)
    joined = jnp.concatenate(parts, axis=1)
    np.testing.assert_allclose(joined, whole, rtol=TOLERANCE, atol=TOLERANCE)


def test_causal_conv_sees_the_past_only():
    conv = CausalConv(2, 2)
    start, x = jnp.zeros((1, 4, 2)), jnp.ones((1, 9, 2))
    variables = conv.init(jax.random.key(0), start, x, all_of(x))
    _, before = conv.apply(variables, start, x, all_of(x))
    _, after = conv.apply(variables, start, x.at[:, 5].add(1), all_of(x))
    changed = np.any(np.asarray(before != after), axis=(0, 2))
    np.testing.assert_array_equal(np.flatnonzero(changed), [5, 7])


def test_linear_starts_as_in_pytorch():
    variables = Linear(2000).init(jax.random.key(0), jnp.ones((1, 100)))
    for name in ("kernel", "bias"):
        values = np.asarray(variables["params"][name])
        assert np.abs(values).max() <= 0.1  # uniform in +-1/sqrt(100)
        assert values.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.05)


def test_gelu_and_its_slope_are_those_of_flax():
    def exact(x):
        return nn.gelu(x, approximate=False)

    x = jnp.linspace(-6, 6, 1001)
    np.testing.assert_array_equal(gelu(x), exact(x))
    slopes = (jax.vmap(jax.grad(function))(x) for function in (gelu, exact))
    np.testing.assert_allclose(*slopes, atol=1e-6)
