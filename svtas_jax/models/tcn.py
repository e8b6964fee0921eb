"""Temporal convolution networks: stages of dilated layers, each refining the last.

There are three kinds of head:

memory  causal convolutions, whose left context is the stream's state (SVTAS's memory
        TCN)
plain   convolutions that see both directions within the chunk: MS-TCN (Abu Farha,
        Gall, CVPR 2019), with batch norm instead of dropout as in SVTAS's public code;
        one stage of four layers is the plain TCN in the SVTAS paper's ablation
3d      convolutions over time and image, averaged over the image at the end; later
        stages read class probabilities and are plain

With `norm` "layer", a layer normalises the channels of each step by itself, as in Ba,
Kiros, Hinton: Layer Normalization, 2016, instead of each channel over the batch: a
step then depends on no other video, and training and evaluation compute the same.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.convolution import CausalConv, Conv3x3x3, DilatedConv
from svtas_jax.models.layers import Linear, where_valid
from svtas_jax.models.norm import BatchNorm
from svtas_jax.structs import Contexts


def initial_context(
    batch_size: int,
    *,
    features: int,
    num_layers: int,
    num_stages: int = 1,
    kind: str = "memory",
) -> Contexts:
    """Returns the contexts of new streams: zeros, one entry per layer, in order."""
    if kind != "memory":
        return ((),) * (num_stages * num_layers)
    return tuple(
        jnp.zeros((batch_size, 2 * dilation, features))
        for _ in range(num_stages)
        for dilation in dilations(num_layers, kind)
    )


def dilations(num_layers: int, kind: str) -> tuple[int, ...]:
    """Returns the layers' dilations: falling (8, 4, 2, 1) for "memory", as in SVTAS's
    public code, otherwise rising."""
    rising = tuple(2**layer for layer in range(num_layers))
    return rising[::-1] if kind == "memory" else rising


class TCN(nn.Module):
    """Stages in a row; each later one refines the class probabilities of the last."""

    num_classes: int
    features: int = 64
    num_layers: int = 4
    num_stages: int = 1
    kind: str = "memory"
    norm: str = "batch"
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns the memory of new streams."""
        return initial_context(
            batch_size,
            features=self.features,
            num_layers=self.num_layers,
            num_stages=self.num_stages,
            kind=self.kind,
        )

    @nn.compact
    def __call__(
        self, context: Contexts, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Contexts, jax.Array, jax.Array]:
        """Returns the next context, logits (S, B, T, K) and the first stage's
        projected input (B, T, features).

        Args:
            context: see `initial_context`.
            x: features (B, T, D), or feature maps (B, T, h, w, D) if kind is "3d".
            valid: (B, T) bool.
            train: use batch statistics.
        """
        next_context: Contexts = ()
        logits, inputs = [], []
        for stage in range(self.num_stages):
            own = context[stage * self.num_layers : (stage + 1) * self.num_layers]
            own, stage_logits, stage_input = Stage(
                num_classes=self.num_classes,
                features=self.features,
                num_layers=self.num_layers,
                kind="plain" if self.kind == "3d" and stage else self.kind,
                norm=self.norm,
                norm_momentum=self.norm_momentum,
                reference_padding=self.reference_padding,
                dtype=self.dtype,
                name="stage1" if stage == 0 else f"stages_{stage - 1}",
            )(own, x, valid, train=train)
            next_context += own
            logits.append(stage_logits)
            inputs.append(stage_input)
            x = where_valid(valid, nn.softmax(stage_logits))
        return next_context, jnp.stack(logits), inputs[0]


class Stage(nn.Module):
    """1x1 convolution, dilated layers, 1x1 convolution to the classes."""

    num_classes: int
    features: int
    num_layers: int
    kind: str = "memory"
    norm: str = "batch"
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self, context: Contexts, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Contexts, jax.Array, jax.Array]:
        if not self.reference_padding:
            x = where_valid(valid, x)
        x = Linear(self.features, dtype=self.dtype, name="conv_1x1")(x)
        projected = where_valid(valid, _over_image(x))
        if not self.reference_padding:
            x = where_valid(valid, x)
        next_context = []
        for index, dilation in enumerate(dilations(self.num_layers, self.kind)):
            layer_context, x = Layer(
                self.kind,
                dilation,
                self.norm,
                self.norm_momentum,
                self.reference_padding,
                self.dtype,
                name=f"layers_{index}",
            )(context[index], x, valid, train=train)
            next_context.append(layer_context)
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_out")(
            _over_image(x)
        )
        logits = where_valid(valid, logits.astype(jnp.float32))
        return tuple(next_context), logits, projected


def _over_image(x):
    """Averages (B, T, h, w, D) to (B, T, D); returns (B, T, D) as it is."""
    return jnp.mean(x, axis=(2, 3)) if x.ndim == 5 else x


class Layer(nn.Module):
    """Dilated convolution, ReLU, 1x1 convolution, batch or layer norm, residual."""

    kind: str
    dilation: int
    norm: str
    norm_momentum: float
    reference_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, context: Any, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Any, jax.Array]:
        features = x.shape[-1]
        own = (features, self.dilation, self.dtype)
        if self.kind == "memory":
            kept = jnp.ones_like(valid) if self.reference_padding else valid
            count = jnp.sum(kept, axis=1, dtype=jnp.int32)
            context, y = CausalConv(*own, name="conv_dilated")(context, x, count)
        else:
            conv = {"plain": DilatedConv, "3d": Conv3x3x3}[self.kind]
            y = conv(*own, name="conv_dilated")(x)
        y = Linear(features, dtype=self.dtype, name="conv_1x1")(nn.relu(y))
        y = self._normalise(y, valid, train=train)
        return context, where_valid(valid, x + y)

    @nn.nowrap
    def _normalise(self, y: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        if self.norm == "layer":
            exact = dict(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype)
            return nn.LayerNorm(**exact, name="layer_norm")(y)
        counted = None if self.reference_padding else valid
        return BatchNorm(self.norm_momentum, name="norm")(y, counted, train=train)
