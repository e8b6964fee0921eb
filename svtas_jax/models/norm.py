"""Batch normalisation, also of a convolution and with a ReLU6 after it."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.layers import relu6, where_valid
from svtas_jax.runtime import parts


class BatchNorm(nn.Module):
    """Batch normalisation as in PyTorch, over the valid steps only.

    The running variance averages unbiased batch variances. Statistics are float32,
    whatever the type of `x`. A batch without a valid step does not change them.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    def __call__(
        self,
        x: jax.Array,
        valid: jax.Array | None,
        *,
        train: bool,
        clipped: bool = False,
    ) -> jax.Array:
        """Normalises x (B, T, ..., D).

        Args:
            x: see above.
            valid: (B, T) bool, None if all steps count.
            train: use batch statistics.
            clipped: apply `relu6` afterwards.
        """
        scale, bias, mean, var = self._arrays(x.shape[-1])
        if not train:
            y = _scale_shift(x, mean.value, var.value, scale, bias, self.epsilon)
            return relu6(y) if clipped else y
        y, batch_mean, batch_var, count = _normalise(
            x, scale, bias, mean.value, valid, self.epsilon, clipped
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
        clipped: bool = False,
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
            clipped: apply `relu6` afterwards.
        """
        if train:
            y = conv(kernel.astype(dtype))
            return self(y, counted, train=True, clipped=clipped)
        if folded:
            kernel, bias = self.fold(kernel)
            y = conv(kernel.astype(dtype)) + bias.astype(dtype)
        else:
            y = self(conv(kernel.astype(dtype)), counted, train=False)
        return relu6(y) if clipped else y

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _normalise(x, scale, bias, near, valid, epsilon, clipped):
    """Returns y, the batch mean and biased variance (D,), and the number of positions.

    The custom gradient reads x and y's gradient twice; automatic differentiation reads
    them five times.

    Args:
        near: (D,) see `_moments`.
    """
    return _normalise_forward(x, scale, bias, near, valid, epsilon, clipped)[0]


def _normalise_forward(x, scale, bias, near, valid, epsilon, clipped):
    mean, var, count = _moments(x, near, valid)
    y = _scale_shift(x, mean, var, scale, bias, epsilon)
    y = relu6(y) if clipped else y
    return (y, mean, var, count), (x, y, scale, bias, valid, mean, var, count)


def _normalise_backward(epsilon, clipped, residuals, grads):
    """The gradient in Ioffe, Szegedy: Batch Normalization, ICML 2015, section 3.

    The gradients of the returned moments are ignored: the moments only update the
    running statistics.
    """
    x, y, scale, bias, valid, mean, var, count = residuals
    inverse = jax.lax.rsqrt(var + epsilon)
    x_wide, grad = x.astype(mean.dtype), grads[0].astype(mean.dtype)
    first = last = grad
    if clipped:
        affine = _affine(mean, var, scale, bias, epsilon)
        first, last = _unclipped(grad, x_wide, y, *affine)
    bias_grad, scale_grad = _sums((first, first * (x_wide - mean)))
    scale_grad *= inverse
    bias_total, scale_total = parts.total((bias_grad, scale_grad))
    # x - mean is spelt differently each time, here and in _moments: XLA would store a
    # common subexpression, which costs twice the memory traffic of subtracting again.
    divisor = jnp.maximum(count, 1)
    slope = inverse * scale_total / divisor
    through = x_wide * slope + (bias_total / divisor - mean * slope)
    if valid is not None:
        through = where_valid(valid, through)
    x_grad = (scale * inverse) * (last - through)
    return x_grad.astype(x.dtype), scale_grad, bias_grad, None, None


def _unclipped(grad, x, y, factor, offset):
    """Returns the gradient where `relu6` did not clip y = x * factor + offset, twice:
    for the sums and for the gradient of x.

    A GPU computes y again each time, in two spellings for the reason above. On a CPU,
    XLA stores the result, and y is at hand.
    """

    def again(grad, x, y, factor, offset):
        del y
        scaled = x * factor
        inside = (scaled > -offset) & (scaled < 6 - offset)
        first = jnp.where(jnp.abs(scaled + (offset - 3)) < 3, grad, 0)
        return first, jnp.where(inside, grad, 0)

    def once(grad, x, y, factor, offset):
        del x, factor, offset
        result = jnp.where((y > 0) & (y < 6), grad, 0)
        return result, result

    return jax.lax.platform_dependent(
        *(grad, x, y, factor, offset), cuda=again, default=once
    )


_normalise.defvjp(_normalise_forward, _normalise_backward)


def _moments(x, near, valid):
    """Returns the mean and biased variance (D,), and the number of positions.

    A GPU reads x once and sums x - near and its square. The variance is the difference
    of two sums, which is accurate if `near` is not many standard deviations from the
    mean: it is the running mean. A CPU, which has no sums of two terms at a time, first
    computes the mean.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if valid is None:
        valid = jnp.ones(x.shape[:2], bool)
    count = jnp.sum(valid, dtype=jnp.float32) * (math.prod(x.shape[2:-1]))
    return jax.lax.platform_dependent(
        *(x, near.astype(x.dtype), valid, count),
        cuda=_moments_at_once,
        default=_mean_first,
    )


def _moments_at_once(x, near, valid, count):
    centred = x - near
    first, second = _sums_at_once((centred, jnp.square(centred)), valid)
    first, second, count = parts.total((first, second, count))
    first, second = (each / jnp.maximum(count, 1) for each in (first, second))
    return near + first, jnp.maximum(second - jnp.square(first), 0), count


def _mean_first(x, near, valid, count):
    del near

    def add_up(values):
        # Sum each step, then mask: a masked sum over all axes is three times slower.
        steps = jnp.sum(values, tuple(range(2, x.ndim - 1)))
        return jnp.sum(where_valid(valid, steps), (0, 1))

    first, count = parts.total((add_up(x), count))
    mean = first / jnp.maximum(count, 1)
    second = parts.total(add_up(jnp.square(x + -mean)))
    return mean, second / jnp.maximum(count, 1), count


def _sums(terms):
    """Sums arrays (B, T, ..., D) over all axes but the last."""
    return jax.lax.platform_dependent(
        *terms,
        cuda=lambda *terms: _sums_at_once(terms, None),
        default=lambda *terms: tuple(
            jnp.sum(term, tuple(range(term.ndim - 1))) for term in terms
        ),
    )


def _sums_at_once(terms, valid):
    """Sums arrays (B, T, ..., D) over the valid steps, in one pass over what they are
    computed from."""
    batch_size, num_steps, *image, width = terms[0].shape
    parts = _num_parts(*image) if image else 1
    shape = (batch_size, num_steps, parts, -1, width)
    sums = _reduce_each([term.reshape(shape) for term in terms], (3,))
    if valid is not None:
        sums = [where_valid(valid, each) for each in sums]
    return _reduce_each(sums, (0, 1, 2))


def _reduce_each(terms, axes):
    """Sums several arrays over the same axes, in one loop."""
    zeros = tuple(jnp.zeros((), term.dtype) for term in terms)

    def add(a, b):
        return tuple(x + y for x, y in zip(a, b, strict=True))

    return tuple(jax.lax.reduce(tuple(terms), zeros, add, axes))


def _num_parts(height: int, *others: int) -> int:
    """Returns into how many parts an image is cut, so that a GPU has enough sums to
    compute at a time: about 800 pixels each, measured on an H200."""
    wanted, parts = height * math.prod(others) // 800, 1
    while parts < wanted and height % (2 * parts) == 0:
        parts *= 2
    return parts


def _scale_shift(x, mean, var, scale, bias, epsilon):
    factor, offset = _affine(mean, var, scale, bias, epsilon)
    return x * factor.astype(x.dtype) + offset.astype(x.dtype)


def _affine(mean, var, scale, bias, epsilon):
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor
