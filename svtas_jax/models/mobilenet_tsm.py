"""MobileNetV2 with temporal shift: the image branch of SETE, METE and Transeger.

Sandler et al.: MobileNetV2, CVPR 2018; Lin, Gan, Han: TSM, ICCV 2019. Submodule names
follow the public PyTorch code, so that converting its weights is a table.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.convolution import (
    depthwise_conv3x3,
    patches3x3,
    temporal_shift,
)
from svtas_jax.models.layers import (
    BatchNorm,
    Kernel,
    Linear,
    kaiming_fan_out,
    relu6,
    where_valid,
)

# Of each stage: expansion, channels at width 1, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def num_channels(channels: int, width: float) -> int:
    """Returns `channels * width`, rounded to a multiple of 8 and never by over 10 %
    down, as MobileNet's authors do."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class MobileNetTSM(nn.Module):
    """Frames (B, T, H, W, 3) to features (B, T, H/32, W/32, 1280)."""

    width: float = 1.0
    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    shift_div: int = 8
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        """Args: x normalised frames; valid (B, T) bool; train selects batch
        statistics. Invalid steps come out as zeros."""
        if not self.reference_padding:
            x = where_valid(valid, x)
        counted = None if self.reference_padding else valid
        options = dict(counted=counted, train=train, momentum=self.norm_momentum)
        x = Conv3x3(num_channels(32, self.width), 2, self.dtype, name="conv1")(
            x.astype(self.dtype), **options
        )
        for stage, (expansion, channels, num_blocks, stride) in enumerate(
            self.stages, 1
        ):
            for block in range(num_blocks):
                x = InvertedResidual(
                    expansion=expansion,
                    features=num_channels(channels, self.width),
                    stride=stride if block == 0 else 1,
                    shift_div=self.shift_div,
                    dtype=self.dtype,
                    name=f"layer{stage}_{block}",
                )(x, **options)
            x = where_valid(valid, x)
        features = num_channels(1280, max(1.0, self.width))
        x = Conv1x1(features, dtype=self.dtype, name="conv2")(x, **options)
        return where_valid(valid, x)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; a residual and a shift where shapes
    allow."""

    expansion: int
    features: int
    stride: int
    shift_div: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, counted, **norm):
        residual = self.stride == 1 and x.shape[-1] == self.features
        options = dict(counted=counted, **norm)
        y, position = x, 0
        if self.expansion != 1:
            if residual:
                # A padded step must look like the chunk's end to its neighbour.
                y = y if counted is None else where_valid(counted, y)
                y = temporal_shift(y, self.shift_div)
            hidden = x.shape[-1] * self.expansion
            y = Conv1x1(hidden, dtype=self.dtype, name="conv_0")(y, **options)
            position = 1
        y = Depthwise(self.stride, self.dtype, name=f"conv_{position}")(y, **options)
        y = Conv1x1(
            self.features, act=False, dtype=self.dtype, name=f"conv_{position + 1}"
        )(y, **options)
        return x + y if residual else y


class Conv1x1(nn.Module):
    """1x1 convolution, batch normalisation and, if `act`, ReLU6."""

    features: int
    act: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, counted, train, momentum):
        x = Linear(self.features, False, self.dtype, kaiming_fan_out, name="conv")(x)
        x = BatchNorm(momentum, name="bn")(x, counted, train=train)
        return relu6(x) if self.act else x


class Conv3x3(nn.Module):
    """Full 3x3 convolution with symmetric padding, batch normalisation, ReLU6."""

    features: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, counted, train, momentum):
        shape = (3, 3, x.shape[-1], self.features)
        kernel = Kernel(kaiming_fan_out, name="conv")(shape).astype(self.dtype)
        patches = patches3x3(x.reshape((-1, *x.shape[2:])), self.stride)
        frames = jnp.matmul(
            patches.reshape(-1, patches.shape[-1]), kernel.reshape(-1, self.features)
        )
        x = frames.reshape((*x.shape[:2], *patches.shape[1:-1], self.features))
        return relu6(BatchNorm(momentum, name="bn")(x, counted, train=train))


class Depthwise(nn.Module):
    """Depthwise 3x3 convolution, batch normalisation, ReLU6."""

    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, counted, train, momentum):
        kernel = Kernel(kaiming_fan_out, name="conv")((3, 3, 1, x.shape[-1]))
        frames = x.reshape((-1, *x.shape[2:]))
        frames = depthwise_conv3x3(frames, kernel.astype(self.dtype), self.stride)
        x = frames.reshape((*x.shape[:2], *frames.shape[1:]))
        return relu6(BatchNorm(momentum, name="bn")(x, counted, train=train))
