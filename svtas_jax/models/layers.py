"""Layers that all branches share: linear maps, batch norm, masking, ReLU6."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.structs import Array

BLOCK = "block"  # checkpoint name of a block's output, see `training.step.REMAT`

# PyTorch's default for linear and convolution weights: uniform in +-1/sqrt(fan_in).
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def where_valid(valid: Array, x: Array) -> jax.Array:
    """Sets invalid steps to zero, also where they hold NaN (a product would keep it).

    Args:
        valid: (B, T) bool.
        x: (B, T, ...) array.
    """
    valid = valid.reshape(valid.shape + (1,) * (x.ndim - valid.ndim))
    return jnp.where(valid, x, jnp.zeros((), x.dtype))


class Linear(nn.Module):
    """A linear map of the last axis, so also a 1x1 convolution; initialised as in
    PyTorch."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = torch_uniform

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = product(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            init = torch_uniform_of(x.shape[-1])
            bias = self.param("bias", init, (self.features,))
            y = y + bias.astype(self.dtype)
        return y


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies the last axis of x (..., C) with kernel (C, D)."""
    # With two axes only: XLA copies the transpose of a gradient that has more.
    y = jnp.matmul(x.reshape(-1, x.shape[-1]), kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


class Kernel(nn.Module):
    """Holds one filter, named "kernel" as in every other layer."""

    initializer: nn.initializers.Initializer

    @nn.compact
    def __call__(self, shape: tuple[int, ...]) -> jax.Array:
        return self.param("kernel", self.initializer, shape)


def torch_uniform_of(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for a bias: uniform in +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class BatchNorm(nn.Module):
    """Batch normalisation as in PyTorch, over the valid steps only.

    The running variance averages unbiased batch variances. Statistics are float32,
    whatever the type of `x`. A batch without a valid step does not change them.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    def __call__(
        self, x: jax.Array, valid: jax.Array | None, *, train: bool
    ) -> jax.Array:
        """Normalises x (B, T, ..., D); valid (B, T) bool, None if all steps count."""
        scale, bias, mean, var = self._arrays(x.shape[-1])
        if not train:
            return _scale_shift(x, mean.value, var.value, scale, bias, self.epsilon)
        y, batch_mean, batch_var, count = _normalise(
            x, scale, bias, valid, self.epsilon
        )
        if not self.is_initializing():
            unbiased = batch_var * count / jnp.maximum(count - 1, 1)
            rate = jnp.where(count > 0, self.momentum, 0.0)
            mean.value = _moved(mean.value, batch_mean, rate)
            var.value = _moved(var.value, unbiased, rate)
        return y

    def after(
        self,
        conv: Callable[[jax.Array], jax.Array],
        kernel: jax.Array,
        counted: jax.Array | None,
        *,
        train: bool,
        folded: bool,
        dtype: jnp.dtype,
    ) -> jax.Array:
        """Applies a convolution and normalises its output.

        In evaluation with `folded`, the convolution's kernel and bias contain the norm.

        Args:
            conv: maps a kernel to the output (B, T, ..., D).
            kernel: (..., D).
            counted: (B, T) bool, steps that enter the statistics; None for all.
            train: use batch statistics.
            folded: see above.
            dtype: of the computation.
        """
        if train or not folded:
            return self(conv(kernel.astype(dtype)), counted, train=train)
        kernel, bias = self.fold(kernel)
        return conv(kernel.astype(dtype)) + bias.astype(dtype)

    def fold(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the kernel (..., D) and bias (D,) of a convolution that equals, in
        evaluation, one with `kernel` followed by this norm."""
        scale, bias, mean, var = self._arrays(kernel.shape[-1])
        factor, offset = _affine(mean.value, var.value, scale, bias, self.epsilon)
        return kernel * factor, offset

    @nn.compact
    def _arrays(self, width):
        shape = (width,)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        return scale, bias, mean, var


def _moved(old, new, rate):
    return (old + rate * (new - old)).astype(old.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalise(x, scale, bias, valid, epsilon):
    """Returns y, the batch mean and biased variance (D,), and the number of positions.

    The custom gradient reads x and y's gradient twice; automatic differentiation reads
    them five times.
    """
    return _normalise_forward(x, scale, bias, valid, epsilon)[0]


def _normalise_forward(x, scale, bias, valid, epsilon):
    mean, var, count = _moments(x, valid)
    y = _scale_shift(x, mean, var, scale, bias, epsilon)
    return (y, mean, var, count), (x, scale, valid, mean, var, count)


def _normalise_backward(epsilon, residuals, grads):
    """The gradient in Ioffe, Szegedy: Batch Normalization, ICML 2015, section 3.

    The gradients of the returned moments are ignored: the moments only update the
    running statistics.
    """
    x, scale, valid, mean, var, count = residuals
    axes = tuple(range(x.ndim - 1))
    grad = grads[0].astype(mean.dtype)
    inverse = jax.lax.rsqrt(var + epsilon)
    bias_grad = jnp.sum(grad, axes)
    x_wide = x.astype(mean.dtype)
    scale_grad = jnp.sum(grad * (x_wide - mean), axes) * inverse
    # x - mean is spelt differently each time, here and in _moments: XLA would store a
    # common subexpression, which costs twice the memory traffic of subtracting again.
    divisor = jnp.maximum(count, 1)
    slope = inverse * scale_grad / divisor
    through = x_wide * slope + (bias_grad / divisor - mean * slope)
    if valid is not None:
        through = where_valid(valid, through)
    x_grad = (scale * inverse) * (grad - through)
    return x_grad.astype(x.dtype), scale_grad, bias_grad, None


_normalise.defvjp(_normalise_forward, _normalise_backward)


def _moments(x, valid):
    """Returns the mean and biased variance (D,), and the number of positions."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if valid is None:
        valid = jnp.ones(x.shape[:2], bool)
    count = jnp.sum(valid, dtype=jnp.float32) * (math.prod(x.shape[2:-1]))
    divisor = jnp.maximum(count, 1)

    def average(values):
        # Sum each step, then mask: a masked sum over all axes is three times slower.
        steps = jnp.sum(values, tuple(range(2, x.ndim - 1)))
        return jnp.sum(where_valid(valid, steps), (0, 1)) / divisor

    mean = average(x)
    return mean, average(jnp.square(x + -mean)), count


def _scale_shift(x, mean, var, scale, bias, epsilon):
    factor, offset = _affine(mean, var, scale, bias, epsilon)
    return x * factor.astype(x.dtype) + offset.astype(x.dtype)


def _affine(mean, var, scale, bias, epsilon):
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


@jax.custom_vjp
def relu6(x: jax.Array) -> jax.Array:
    """Clips to [0, 6]. The gradient at 0 and 6 is zero, as in PyTorch.

    The custom gradient also avoids the divisions with which JAX splits the gradient of
    a tie.
    """
    return jnp.clip(x, 0, 6)


def _relu6_forward(x):
    y = relu6(x)
    return y, y


def _relu6_backward(y, grad):
    return (jnp.where((y > 0) & (y < 6), grad, jnp.zeros((), grad.dtype)),)


relu6.defvjp(_relu6_forward, _relu6_backward)
