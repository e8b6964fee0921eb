"""MS-TCN: dilated convolutions that look both ways, refined stage by stage.

Abu Farha, Gall: MS-TCN, CVPR 2019; with the batch norm that the public SVTAS code puts
in place of dropout. One stage of four layers is the plain TCN of the paper's ablation.
It remembers nothing: a chunk is all it sees.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.convolution import DilatedConv
from svtas_jax.models.layers import BatchNorm, Linear, where_valid


class MSTCN(nn.Module):
    """One or more stages; each later one refines the class probabilities before it."""

    num_classes: int
    features: int = 64
    num_layers: int = 10
    num_stages: int = 4
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.float32

    def initial_context(self, batch_size: int) -> tuple[()]:
        """Returns the memory of new streams: none."""
        del batch_size
        return ()

    @nn.compact
    def __call__(self, context, x: jax.Array, valid: jax.Array, *, train: bool):
        """Returns the context as it was, logits (S, B, T, K) and the first stage's
        projected input (B, T, features); arguments as those of `MemoryTCN`."""
        logits, projected = [], None
        for stage in range(self.num_stages):
            stage_logits, stage_input = Stage(
                num_classes=self.num_classes,
                features=self.features,
                num_layers=self.num_layers,
                norm_momentum=self.norm_momentum,
                reference_padding=self.reference_padding,
                dtype=self.dtype,
                name="stage1" if stage == 0 else f"stages_{stage - 1}",
            )(x, valid, train=train)
            projected = stage_input if projected is None else projected
            logits.append(stage_logits)
            x = where_valid(valid, nn.softmax(stage_logits))
        return context, jnp.stack(logits), projected


class Stage(nn.Module):
    """1x1 convolution, layers of dilation 1, 2, 4, ..., 1x1 convolution to classes."""

    num_classes: int
    features: int
    num_layers: int
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, valid, *, train):
        if not self.reference_padding:
            x = where_valid(valid, x)
        x = Linear(self.features, dtype=self.dtype, name="conv_1x1")(x)
        projected = where_valid(valid, x)
        if not self.reference_padding:
            x = projected
        for index in range(self.num_layers):
            x = Layer(
                2**index,
                self.norm_momentum,
                self.reference_padding,
                self.dtype,
                name=f"layers_{index}",
            )(x, valid, train=train)
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_out")(x)
        return where_valid(valid, logits.astype(jnp.float32)), projected


class Layer(nn.Module):
    """Dilated convolution, ReLU, 1x1 convolution, batch norm, residual."""

    dilation: int
    norm_momentum: float
    reference_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, valid, *, train):
        features = x.shape[-1]
        y = DilatedConv(features, self.dilation, self.dtype, name="conv_dilated")(x)
        y = Linear(features, dtype=self.dtype, name="conv_1x1")(nn.relu(y))
        counted = None if self.reference_padding else valid
        y = BatchNorm(self.norm_momentum, name="norm")(y, counted, train=train)
        return where_valid(valid, x + y)
