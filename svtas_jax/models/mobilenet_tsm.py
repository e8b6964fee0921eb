"""MobileNetV2 with temporal shift: the image branch of SETE, METE and Transeger.

Sandler et al.: MobileNetV2, CVPR 2018; Lin, Gan, Han: TSM, ICCV 2019. Submodule names
follow SVTAS's public PyTorch code, so that a table can convert its weights.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from svtas_jax.models.convolution import (
    causal_shift,
    depthwise_conv3x3,
    patches3x3,
    temporal_shift,
)
from svtas_jax.models.layers import (
    BLOCK,
    Kernel,
    kaiming_fan_out,
    product,
    where_valid,
)
from svtas_jax.models.norm import BatchNorm
from svtas_jax.structs import Contexts

# Per stage: expansion, channels at width 1, blocks, stride of the first block.
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
    """Rounds `channels * width` to a multiple of 8, down by at most 10 %, as
    MobileNet's authors do."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class Block(NamedTuple):
    """The shape of an inverted residual block.

    Attributes:
        expansion: its hidden channels for each input channel.
        channels, features: of input and output.
        stride: along both image axes.
    """

    expansion: int
    channels: int
    features: int
    stride: int

    @property
    def is_residual(self) -> bool:
        """Whether its input is added to its output."""
        return self.stride == 1 and self.channels == self.features

    @property
    def is_shifted(self) -> bool:
        """Whether its input is shifted in time."""
        return self.is_residual and self.expansion != 1


class MobileNetTSM(nn.Module):
    """Maps frames (B, T, H, W, 3) to features (B, T, H/32, W/32, 1280).

    If `folded`, evaluation folds the batch norms into the convolutions. If `causal`,
    channels are shifted from earlier steps only, also from those of earlier chunks:
    the context holds them. Then frames are `size` pixels high and wide, and the valid
    steps of a chunk come first.
    """

    width: float = 1.0
    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    shift_div: int = 8
    norm_momentum: float = 0.1
    reference_padding: bool = False
    folded: bool = True
    causal: bool = False
    size: int = 224
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns the shifted channels before a stream's first step: zeros
        (B, h, w, C // shift_div) per shifted block; nothing if not causal."""
        context, size = (), -(-self.size // 2)
        for block in itertools.chain.from_iterable(self._blocks()):
            size = -(-size // block.stride)
            if self.causal and block.is_shifted:
                fold = block.features // self.shift_div
                context += (jnp.zeros((batch_size, size, size, fold)),)
        return context

    def _blocks(self) -> Iterator[list[Block]]:
        """Yields the blocks of each stage."""
        channels = num_channels(32, self.width)
        for expansion, features, num_blocks, stride in self.stages:
            features = num_channels(features, self.width)
            first = Block(expansion, channels, features, stride)
            others = [Block(expansion, features, features, 1)] * (num_blocks - 1)
            yield [first, *others]
            channels = features

    @nn.compact
    def __call__(
        self, context: Contexts, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        """Returns the next context, and features; zero in invalid steps.

        Args:
            context: see `initial_context`.
            x: normalised frames, finite also in invalid steps. Until the first shift in
                time, which sets these to zero, frames do not see each other.
            valid: (B, T) bool.
            train: use batch statistics.
        """
        counted = None if self.reference_padding else valid
        options = dict(counted=counted, train=train)
        memory = _Memory(context, valid, self.shift_div)
        shift = functools.partial(temporal_shift, shift_div=self.shift_div)
        shape = dict(momentum=self.norm_momentum, folded=self.folded, dtype=self.dtype)
        stem = (3, 3, x.shape[-1], num_channels(32, self.width))
        stem_norm = ConvNorm(stem, 2, clipped=True, **shape, name="conv1")
        x = stem_norm(x.astype(self.dtype), **options)
        for stage, blocks in enumerate(self._blocks(), 1):
            for index, block in enumerate(blocks):
                x = InvertedResidual(block, shape, name=f"layer{stage}_{index}")(
                    x, memory.shift if self.causal else shift, **options
                )
            x = where_valid(valid, x)
        head = (x.shape[-1], num_channels(1280, max(1.0, self.width)))
        x = ConvNorm(head, clipped=True, **shape, name="conv2")(x, **options)
        return memory.after, where_valid(valid, x)


class _Memory:
    """Hands each shifted block its context, and gathers the next ones in order."""

    def __init__(self, context: Contexts, valid: jax.Array, shift_div: int) -> None:
        self._context, self._shift_div = iter(context), shift_div
        self._count = jnp.sum(valid, axis=1, dtype=jnp.int32)
        self.after: Contexts = ()

    def shift(self, x: jax.Array) -> jax.Array:
        """Shifts the channels of the next block, see `causal_shift`."""
        previous = cast(jax.Array, next(self._context))  # each shift remembers
        after, y = causal_shift(previous, x, self._count, self._shift_div)
        self.after += (after,)
        return y


class InvertedResidual(nn.Module):
    """Expands, convolves each channel, projects.

    If input and output shapes agree there is a residual, and with an expansion also a
    temporal shift.
    """

    block: Block
    norm: Mapping[str, Any]  # momentum, folded and dtype of each `ConvNorm`

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        shift: Callable[[jax.Array], jax.Array],
        *,
        counted: jax.Array | None,
        train: bool,
    ) -> jax.Array:
        block = self.block
        hidden = block.channels * block.expansion
        options = dict(counted=counted, train=train)
        y, position = x, 0
        if block.expansion != 1:
            if block.is_shifted:
                # Shift zeros out of padded steps, as at a chunk's end.
                y = shift(y if counted is None else where_valid(counted, y))
            shape = (block.channels, hidden)
            expand = ConvNorm(shape, clipped=True, **self.norm, name="conv_0")
            y, position = expand(y, **options), 1
        depthwise = ConvNorm(
            (3, 3, 1, hidden),
            block.stride,
            clipped=True,
            **self.norm,
            name=f"conv_{position}",
        )
        project = ConvNorm(
            (hidden, block.features), **self.norm, name=f"conv_{position + 1}"
        )
        y = project(depthwise(y, **options), **options)
        return checkpoint_name(x + y if block.is_residual else y, BLOCK)


class ConvNorm(nn.Module):
    """A convolution without bias, then batch normalisation and, if `clipped`, ReLU6.

    The kernel's shape selects the convolution: (C, D) is 1x1, (3, 3, 1, D) depthwise
    3x3, (3, 3, C, D) full 3x3.
    """

    shape: tuple[int, ...]
    stride: int = 1
    momentum: float = 0.1
    folded: bool = True
    clipped: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    def setup(self) -> None:
        self.conv = Kernel(kaiming_fan_out)
        self.bn = BatchNorm(self.momentum)

    def __call__(
        self, x: jax.Array, *, counted: jax.Array | None, train: bool
    ) -> jax.Array:
        return self.bn.after(
            functools.partial(self._convolve, x),
            self.conv(self.shape),
            counted,
            train=train,
            folded=self.folded,
            dtype=self.dtype,
            clipped=self.clipped,
        )

    def _convolve(self, x, kernel):
        if kernel.ndim == 2:
            return product(x, kernel)
        if kernel.shape[2] == 1:
            return of_images(lambda i: depthwise_conv3x3(i, kernel, self.stride), x)
        kernel = kernel.reshape(-1, kernel.shape[-1])
        return of_images(lambda i: product(patches3x3(i, self.stride), kernel), x)


def of_images(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies a function of images (N, H, W, C) to every step of (B, T, H, W, C)."""
    y = function(x.reshape((-1, *x.shape[2:])))
    return y.reshape((*x.shape[:2], *y.shape[1:]))
