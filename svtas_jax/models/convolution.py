"""Custom operators: the temporal shift, and convolutions over image, time or both."""

import functools
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.layers import torch_uniform, torch_uniform_of
from svtas_jax.runtime import parts


def temporal_shift(x: jax.Array, shift_div: int = 8) -> jax.Array:
    """Shifts a share of the channels by one step within the chunk.

    With `fold = C // shift_div`, channels [0, fold) of a step come from the next step,
    [fold, 2 fold) from the previous one, and the rest stay; zeros enter at both ends.
    Lin, Gan, Han: TSM, ICCV 2019.

    Args:
        x: (B, T, H, W, C).
    """
    fold = x.shape[-1] // shift_div
    ahead, behind, rest = jnp.split(x, (fold, 2 * fold), axis=-1)
    ahead = jnp.pad(ahead[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    behind = jnp.pad(behind[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate((ahead, behind, rest), axis=-1)


def causal_shift(
    previous: jax.Array, x: jax.Array, count: jax.Array, shift_div: int = 8
) -> tuple[jax.Array, jax.Array]:
    """Shifts a share of the channels to the next step, also of the next chunk.

    Channels [fold, 2 fold) come from the previous step and the rest stay, also those
    that `temporal_shift` takes from the next step: weights trained with it start well.
    This is the uni-directional shift of Lin, Gan, Han: TSM, ICCV 2019, section 4.2.

    Args:
        previous: (B, H, W, fold), channels [fold, 2 fold) of the step before.
        x: (B, T, H, W, C).
        count: (B,) number of valid steps, which come first.

    Returns:
        The same channels of the last valid step, `previous` if there is none, and the
        shifted steps (B, T, H, W, C).
    """
    fold = x.shape[-1] // shift_div
    stays, behind, rest = jnp.split(x, (fold, 2 * fold), axis=-1)
    extended = jnp.concatenate((previous.astype(x.dtype)[:, None], behind), axis=1)
    y = jnp.concatenate((stays, extended[:, :-1], rest), axis=-1)
    return after_steps(extended, count, 1)[:, 0].astype(previous.dtype), y


def steps_at(x: jax.Array, index: jax.Array) -> jax.Array:
    """Returns the steps of x (B, T, ...) at index (B, T'), as (B, T', ...); for an
    index outside of x any other step."""
    index = jnp.clip(index, 0, x.shape[1] - 1)
    index = index.reshape(index.shape + (1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1)


def after_steps(extended: jax.Array, count: jax.Array, length: int) -> jax.Array:
    """Returns the `length` steps that precede the next one.

    Args:
        extended: (B, length + T, ...), the `length` steps before a chunk and its own.
        count: (B,) number of valid steps in the chunk, which come first.
    """
    return steps_at(extended, count[:, None] + jnp.arange(length))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv3x3(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolves every channel with its own 3x3 filter, symmetric padding of 1.

    On CPU the convolution and its gradients are nine shifted multiply-adds, because
    XLA's grouped convolution is 5 to 50 times slower there. On a CUDA GPU the
    convolution and the gradient of x are, which XLA fuses with what surrounds them;
    the filter's gradient is cuDNN's, 2 to 10 times as fast there as sums of XLA's
    (docs/benchmarks.md). What remains is XLA's.

    Args:
        x: (B, H, W, C).
        kernel: (3, 3, 1, C).
        stride: along both image axes.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), C).
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_shifted_conv, stride=stride),
        cuda=functools.partial(_shifted_conv, stride=stride),
        default=functools.partial(_grouped_conv, stride=stride),
    )


def _depthwise_forward(x, kernel, stride):
    return depthwise_conv3x3(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride, residuals, grad):
    x, kernel = residuals
    return jax.lax.platform_dependent(
        x,
        kernel,
        grad,
        cpu=functools.partial(_shifted_gradients, stride=stride),
        cuda=functools.partial(_mixed_gradients, stride=stride),
        default=functools.partial(_grouped_gradients, stride=stride),
    )


depthwise_conv3x3.defvjp(_depthwise_forward, _depthwise_backward)


def _grouped_conv(x, kernel, *, stride):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _grouped_gradients(x, kernel, grad, *, stride):
    conv = functools.partial(_grouped_conv, stride=stride)
    return jax.vjp(conv, x, kernel)[1](grad)


def _shifted_conv(x, kernel, *, stride):
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return _shifted_sum(padded, kernel, stride)


def _shifted_sum(padded, kernel, stride):
    """Sums nine shifted copies of padded (B, H + 2, W + 2, C), weighted by kernel."""
    views = _views(padded, stride)
    weights = kernel.reshape(9, -1)
    total = sum(view * weight for view, weight in zip(views, weights, strict=True))
    return cast(jax.Array, total)  # not the 0 of no view: there are nine


def patches3x3(x: jax.Array, stride: int) -> jax.Array:
    """Returns the 3x3 neighbourhood of every `stride`-th pixel, symmetric padding of 1.

    One matrix product with these makes a convolution of few channels, and another its
    filter's gradient; as a convolution, XLA takes 4 s for this gradient on a CPU
    (3 channels to 32, 64 frames of 224x224).

    Args:
        x: (B, H, W, C).

    Returns:
        (B, ceil(H / stride), ceil(W / stride), 9 C).
    """
    # Columns first, then rows: a GPU computes what x comes from for three views, not
    # for nine (docs/benchmarks.md).
    for axis in (2, 1):
        pads = [(0, 0)] * x.ndim
        pads[axis] = (1, 1)
        size, x = x.shape[axis], jnp.pad(x, pads)
        ends = (stride * ((size - 1) // stride) + first for first in range(3))
        views = [
            jax.lax.slice_in_dim(x, first, end + 1, stride, axis)
            for first, end in enumerate(ends)
        ]
        x = jnp.concatenate(views, axis=-1)
    return x


def _views(padded, stride):
    """Returns the nine shifted views of padded (..., H + 2, W + 2, C), by filter row
    and column."""
    height, width = ((n - 3) // stride + 1 for n in padded.shape[-3:-1])
    rows = [slice(i, i + stride * (height - 1) + 1, stride) for i in range(3)]
    columns = [slice(j, j + stride * (width - 1) + 1, stride) for j in range(3)]
    return [padded[..., row, column, :] for row in rows for column in columns]


def _shifted_gradients(x, kernel, grad, *, stride):
    """Returns the gradients of x and kernel, from the same nine shifts."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # A scan over a batch that is split over devices would copy it to each of them.
    sums_over = _sums_over_batch if jax.device_count() > 1 else _sums_image_by_image
    sums = jnp.stack(sums_over(padded, grad, stride))
    kernel_grad = sums.reshape(kernel.shape).astype(kernel.dtype)
    return _shifted_x_gradient(x.shape, kernel, grad, stride), kernel_grad


def _mixed_gradients(x, kernel, grad, *, stride):
    conv = functools.partial(_grouped_conv, x, stride=stride)
    (kernel_grad,) = jax.vjp(conv, kernel)[1](grad)
    return _shifted_x_gradient(x.shape, kernel, grad, stride), kernel_grad


def _shifted_x_gradient(shape, kernel, grad, stride):
    """Returns the gradient of x (N, H, W, C).

    Pixels whose rows and columns leave the same rests after division by the stride
    belong to the same taps: of a stride of 2, to one, two, two and four of the nine.
    """
    rows, columns = grad.shape[1:3]
    padded = jnp.pad(grad, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def taps(rest):
        """Returns the filter's rows, or columns, and where their gradients begin."""
        places = ((i, divmod(rest + 1 - i, stride)) for i in range(3))
        return [(i, 1 + start) for i, (start, left) in places if not left]

    def phase(row, column):
        total = jnp.zeros_like(grad)
        for i, top in taps(row):
            for j, left in taps(column):
                view = padded[:, top : top + rows, left : left + columns]
                total += view * kernel[i, j, 0]
        return total

    if stride == 1:
        return phase(0, 0)
    phases = [jnp.stack([phase(i, j) for j in range(stride)], 3) for i in range(stride)]
    whole = jnp.stack(phases, axis=2).reshape(
        shape[0], rows * stride, columns * stride, shape[3]
    )
    return whole[:, : shape[1], : shape[2]]


def _sums_over_batch(padded, grad, stride):
    """Returns the gradients of the filter's nine taps, (C,) each."""
    wide = jnp.promote_types(grad.dtype, jnp.float32)
    return [
        jnp.sum(view * grad.astype(wide), axis=(0, 1, 2))
        for view in _views(padded, stride)
    ]


def _sums_image_by_image(padded, grad, stride):
    """Returns the same as `_sums_over_batch`, from nine images of sums over the batch,
    which stay in the cache. Summing whole images directly takes 2.3 times as long,
    because XLA copies the views."""
    wide = jnp.promote_types(grad.dtype, jnp.float32)

    def add_image(totals, image):
        views, image_grad = _views(image[0], stride), image[1].astype(wide)
        pairs = zip(totals, views, strict=True)
        return [total + view * image_grad for total, view in pairs], None

    totals = [parts.own(jnp.zeros(grad.shape[1:], wide))] * 9
    totals, _ = jax.lax.scan(add_image, totals, (padded, grad))
    return [jnp.sum(total, axis=(0, 1)) for total in totals]


class CausalConv(nn.Module):
    """A dilated convolution over time, kernel 3, whose left context is its state."""

    features: int
    dilation: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self, context: jax.Array, x: jax.Array, count: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the next context (B, 2 * dilation, D) and y (B, T, features).

        Args:
            context: (B, 2 * dilation, D), the inputs before this chunk.
            x: (B, T, D).
            count: (B,) number of valid steps, which come first; the others leave the
                context as it is.
        """
        extended = jnp.concatenate((context.astype(x.dtype), x), axis=1)
        y = _three_taps(self, extended, self.dilation)
        context_after = after_steps(extended, count, 2 * self.dilation)
        return context_after.astype(context.dtype), y


class DilatedConv(nn.Module):
    """A dilated convolution over time, kernel 3, zero-padded: it looks ahead."""

    features: int
    dilation: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, T, D) to (B, T, features)."""
        ends = (self.dilation, self.dilation)
        return _three_taps(self, jnp.pad(x, ((0, 0), ends, (0, 0))), self.dilation)


def _three_taps(module, extended, dilation):
    """Convolves (B, T + 2 * dilation, D) to (B, T, features) by one matrix product."""
    num_steps, width = extended.shape[1] - 2 * dilation, extended.shape[2]
    features, dtype = module.features, module.dtype
    kernel = module.param("kernel", torch_uniform, (3, width, features))
    bias = module.param("bias", torch_uniform_of(3 * width), (features,))
    starts = (0, dilation, 2 * dilation)
    taps = [extended[:, start : start + num_steps] for start in starts]
    stacked = jnp.concatenate(taps, axis=-1).astype(dtype)
    flat = kernel.reshape(3 * width, features).astype(dtype)
    return jnp.matmul(stacked, flat) + bias.astype(dtype)


class Conv3x3x3(nn.Module):
    """A dilated, zero-padded convolution over time and image, with a bias."""

    features: int
    dilation: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, T, h, w, D) to (B, T, h, w, features)."""
        shape = (3, 3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", torch_uniform, shape).astype(self.dtype)
        bias = self.param("bias", torch_uniform_of(27 * x.shape[-1]), (self.features,))
        y = conv3d(x.astype(self.dtype), kernel, dilation=self.dilation)
        return y + bias.astype(self.dtype)


def conv3d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> jax.Array:
    """Convolves over time and image, with zero padding.

    Neighbouring steps become channels. What remains is one convolution of images, or
    one matrix product if the kernel is one pixel wide; backends run both fast.

    Args:
        x: (B, T, H, W, C).
        kernel: (kt, kh, kw, C, D), odd sizes.
        stride: along both image axes.
        dilation: along all three axes.

    Returns:
        (B, T, ceil(H / stride), ceil(W / stride), D).
    """
    times, height, width, channels, features = kernel.shape
    x = _neighbours_in_time(x, times, dilation)
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(height, width, -1, features)
    if height == width == 1:
        x = x[:, :, ::stride, ::stride]
        y = jnp.matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0])
        return y.reshape(*x.shape[:-1], features)
    images = x.reshape(-1, *x.shape[2:])
    pads = [(dilation * (size // 2),) * 2 for size in (height, width)]
    y = jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _neighbours_in_time(x, count, dilation):
    """Concatenates the channels of each step and its neighbours in time, the step
    itself in the middle: (B, T, H, W, count * C)."""
    if count == 1:
        return x
    num_steps, reach = x.shape[1], dilation * (count // 2)
    padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0), (0, 0), (0, 0)))
    starts = range(0, 2 * reach + 1, dilation)
    return jnp.concatenate([padded[:, s : s + num_steps] for s in starts], axis=-1)
