"""The memory TCN: dilated causal convolutions whose left context crosses chunks.

State is a tuple with the left context of every convolution, in the order in which they
are applied.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.convolution import CausalConv
from svtas_jax.models.layers import BatchNorm, Linear, where_valid


def initial_context(
    batch_size: int, *, features: int, num_layers: int, num_stages: int = 1
) -> tuple[jax.Array, ...]:
    """Returns the contexts of a new stream: zeros, (B, 2 * dilation, features) each."""
    return tuple(
        jnp.zeros((batch_size, 2 * dilation, features))
        for _ in range(num_stages)
        for dilation in dilations(num_layers)
    )


def dilations(num_layers: int) -> tuple[int, ...]:
    """Returns the layers' dilations, widest first: 8, 4, 2, 1 for four layers."""
    return tuple(2 ** (num_layers - 1 - layer) for layer in range(num_layers))


class MemoryTCN(nn.Module):
    """One or more stages; each later one refines the class probabilities before it."""

    num_classes: int
    features: int = 64
    num_layers: int = 4
    num_stages: int = 1
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.float32

    def initial_context(self, batch_size: int) -> tuple[jax.Array, ...]:
        """Returns the memory of new streams."""
        return initial_context(
            batch_size,
            features=self.features,
            num_layers=self.num_layers,
            num_stages=self.num_stages,
        )

    @nn.compact
    def __call__(self, context, x: jax.Array, valid: jax.Array, *, train: bool):
        """Returns the next context, logits (S, B, T, K) and the first stage's
        projected input (B, T, features).

        Args:
            context: see `initial_context`.
            x: (B, T, D) features.
            valid: (B, T) bool.
            train: use batch statistics.
        """
        next_context, logits, projected = (), [], None
        for stage in range(self.num_stages):
            own = context[stage * self.num_layers : (stage + 1) * self.num_layers]
            own, stage_logits, stage_input = MemoryStage(
                num_classes=self.num_classes,
                features=self.features,
                num_layers=self.num_layers,
                norm_momentum=self.norm_momentum,
                reference_padding=self.reference_padding,
                dtype=self.dtype,
                name="stage1" if stage == 0 else f"stages_{stage - 1}",
            )(own, x, valid, train=train)
            projected = stage_input if projected is None else projected
            next_context += own
            logits.append(stage_logits)
            x = where_valid(valid, nn.softmax(stage_logits))
        return next_context, jnp.stack(logits), projected


class MemoryStage(nn.Module):
    """1x1 convolution, dilated layers, 1x1 convolution to the classes."""

    num_classes: int
    features: int
    num_layers: int
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, context, x, valid, *, train):
        if not self.reference_padding:
            x = where_valid(valid, x)
        x = Linear(self.features, dtype=self.dtype, name="conv_1x1")(x)
        projected = where_valid(valid, x)
        if not self.reference_padding:
            x = projected
        next_context = []
        for index, dilation in enumerate(dilations(self.num_layers)):
            layer_context, x = MemoryLayer(
                dilation,
                self.norm_momentum,
                self.reference_padding,
                self.dtype,
                name=f"layers_{index}",
            )(context[index], x, valid, train=train)
            next_context.append(layer_context)
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_out")(x)
        logits = where_valid(valid, logits.astype(jnp.float32))
        return tuple(next_context), logits, projected


class MemoryLayer(nn.Module):
    """Dilated causal convolution, ReLU, 1x1 convolution, batch norm, residual."""

    dilation: int
    norm_momentum: float
    reference_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, context, x, valid, *, train):
        features = x.shape[-1]
        context, y = CausalConv(
            features, self.dilation, self.dtype, name="conv_dilated"
        )(context, x)
        y = Linear(features, dtype=self.dtype, name="conv_1x1")(nn.relu(y))
        counted = None if self.reference_padding else valid
        y = BatchNorm(self.norm_momentum, name="norm")(y, counted, train=train)
        return context, where_valid(valid, x + y)
