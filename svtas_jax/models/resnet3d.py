"""3D residual networks: I3D-ResNet-50 and R(2+1)D-34.

Carreira, Zisserman: Quo Vadis, CVPR 2017, in its ResNet form; Tran et al.: A Closer
Look at Spatiotemporal Convolutions, CVPR 2018. Time is never strided. Submodule names
follow SVTAS's public PyTorch code, so that a table can convert its weights.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from svtas_jax.models.convolution import conv3d
from svtas_jax.models.layers import BLOCK, kaiming_fan_out, where_valid
from svtas_jax.models.norm import BatchNorm
from svtas_jax.structs import Contexts

BLOCKS = (3, 4, 6, 3)  # residual blocks in each stage, in both networks
# Per stage and block of I3D: whether the first convolution covers three steps.
INFLATED = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))


class ResNet3D(nn.Module):
    """Maps frames (B, T, H, W, 3) to features (B, T, H/32, W/32, D).

    At `width` 64, `kind` "i3d" has bottleneck blocks and D = 2048; "r2plus1d" has basic
    blocks of convolutions split into space and time, and D = 512. If `folded`,
    evaluation folds the batch norms into the convolutions.
    """

    kind: str = "i3d"
    width: int = 64
    blocks: tuple[int, ...] = BLOCKS
    norm_momentum: float = 0.1
    reference_padding: bool = False
    folded: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns nothing: a chunk is all that the network sees."""
        del batch_size
        return ()

    @nn.compact
    def __call__(
        self, context: Contexts, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        """Returns the context as it is, and features; zero in invalid steps.

        Args:
            context: empty.
            x: normalised frames.
            valid: (B, T) bool.
            train: use batch statistics.
        """
        if not self.reference_padding:
            x = where_valid(valid, x)
        counted = None if self.reference_padding else valid
        norm = dict(counted=counted, train=train, momentum=self.norm_momentum)
        split = self.kind == "r2plus1d"
        common = dict(folded=self.folded, dtype=self.dtype)
        shape = dict(split=split, **common)
        x = ConvNorm(self.width, (3, 7, 7), 2, **shape, name="conv1")(
            x.astype(self.dtype), **norm
        )
        x = _max_pool(x)
        for stage, num_blocks in enumerate(self.blocks):
            for index in range(num_blocks):
                options = dict(
                    width=self.width * 2**stage,
                    stride=2 if stage and index == 0 else 1,
                    name=f"layer{stage + 1}_{index}",
                    **common,
                )
                if split:
                    block = SplitBlock(**options)
                else:
                    block = Bottleneck(inflated=bool(INFLATED[stage][index]), **options)
                x = block(x, **norm)
            x = where_valid(valid, x)
        return context, x


class Bottleneck(nn.Module):
    """1x1 (over three steps if `inflated`), 3x3, 1x1 convolution, residual."""

    width: int
    stride: int
    inflated: bool
    folded: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, **norm: Any) -> jax.Array:
        features = 4 * self.width
        kind = dict(folded=self.folded, dtype=self.dtype)
        first = (3, 1, 1) if self.inflated else (1, 1, 1)
        y = ConvNorm(self.width, first, **kind, name="conv1")(_clean(x, norm), **norm)
        y = ConvNorm(self.width, (1, 3, 3), self.stride, **kind, name="conv2")(
            y, **norm
        )
        kind["act"] = False
        y = ConvNorm(features, (1, 1, 1), **kind, name="conv3")(y, **norm)
        if self.stride != 1 or x.shape[-1] != features:
            x = ConvNorm(features, (1, 1, 1), self.stride, **kind, name="downsample")(
                x, **norm
            )
        return checkpoint_name(nn.relu(x + y), BLOCK)


class SplitBlock(nn.Module):
    """Two 3x3x3 convolutions, each split into space and time, residual."""

    width: int
    stride: int
    folded: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, **norm: Any) -> jax.Array:
        shape = dict(split=True, folded=self.folded, dtype=self.dtype)
        y = ConvNorm(self.width, (3, 3, 3), self.stride, **shape, name="conv1")(
            _clean(x, norm), **norm
        )
        y = ConvNorm(self.width, (3, 3, 3), act=False, **shape, name="conv2")(
            _clean(y, norm), **norm
        )
        if self.stride != 1 or x.shape[-1] != self.width:
            x = ConvNorm(
                self.width,
                (1, 1, 1),
                self.stride,
                act=False,
                **shape,
                name="downsample",
            )(x, **norm)
        return checkpoint_name(nn.relu(x + y), BLOCK)


def _clean(x, norm):
    """Zeros padded steps, so that their neighbours see the zeros of a chunk's end."""
    return x if norm["counted"] is None else where_valid(norm["counted"], x)


class ConvNorm(nn.Module):
    """Convolution over time and image, batch normalisation and, if `act`, ReLU.

    If `split`, the convolution is a `SplitConv`.
    """

    features: int
    kernel: tuple[int, int, int]
    stride: int = 1
    act: bool = True
    split: bool = False
    folded: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        counted: jax.Array | None,
        train: bool,
        momentum: float,
    ) -> jax.Array:
        common = dict(folded=self.folded, dtype=self.dtype)
        norm = BatchNorm(momentum, name="bn")
        if self.split:
            conv = SplitConv(
                self.features, self.kernel, self.stride, **common, name="conv"
            )
            x = conv(x, norm, counted=counted, train=train, momentum=momentum)
        else:
            conv = Conv(self.features, self.kernel, self.stride, **common, name="conv")
            x = conv(x, norm, counted=counted, train=train)
        return nn.relu(x) if self.act else x


class Conv(nn.Module):
    """A zero-padded convolution over time and image, and a batch norm."""

    features: int
    kernel: tuple[int, int, int]
    stride: int
    folded: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: jax.Array, norm: BatchNorm, *, counted: jax.Array | None, train: bool
    ) -> jax.Array:
        # A 1x1x1 kernel is stored as a matrix; the weight converter relies on it.
        shape = (*self.kernel, x.shape[-1], self.features)
        stored = shape[3:] if self.kernel == (1, 1, 1) else shape
        kernel = self.param("kernel", kaiming_fan_out, stored)
        return norm.after(
            lambda kernel: conv3d(x, kernel.reshape(shape), stride=self.stride),
            kernel,
            counted,
            train=train,
            folded=self.folded,
            dtype=self.dtype,
        )


class SplitConv(nn.Module):
    """A convolution over the image, batch norm, ReLU, one over time, batch norm.

    The width between them gives about as many weights as the unsplit convolution has
    (computed for three steps whatever the kernel, as in SVTAS's public code).
    """

    features: int
    kernel: tuple[int, int, int]
    stride: int
    folded: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        norm: BatchNorm,
        *,
        counted: jax.Array | None,
        train: bool,
        momentum: float,
    ) -> jax.Array:
        times, height, width = self.kernel
        area = x.shape[-1] * height * width
        middle = 3 * area * self.features // (area + 3 * self.features)
        common = dict(folded=self.folded, dtype=self.dtype)
        norm_s = BatchNorm(momentum, name="bn_s")
        conv_s = Conv(middle, (1, height, width), self.stride, **common, name="conv_s")
        conv_t = Conv(self.features, (times, 1, 1), 1, **common, name="conv_t")
        x = nn.relu(conv_s(x, norm_s, counted=counted, train=train))
        x = x if counted is None else where_valid(counted, x)
        return conv_t(x, norm, counted=counted, train=train)


def _max_pool(x):
    """Max-pools every step: 3x3, stride 2, symmetric padding of 1."""
    images = x.reshape(-1, *x.shape[2:])
    pads = ((1, 1), (1, 1))
    y = nn.max_pool(images, (3, 3), strides=(2, 2), padding=pads)
    return y.reshape(*x.shape[:2], *y.shape[1:])
