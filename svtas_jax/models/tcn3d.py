"""The spatio-temporal TCN of the paper's ablation: it convolves before it pools."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.convolution import (
    conv3d,
)
from svtas_jax.models.layers import (
    BatchNorm,
    Linear,
    torch_uniform,
    torch_uniform_of,
    where_valid,
)


class TCN3D(nn.Module):
    """Feature maps (B, T, h, w, D) to logits; layers of dilation 1, 2, 4, ... in time
    and image alike. It remembers nothing."""

    num_classes: int
    features: int = 64
    num_layers: int = 4
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.float32

    def initial_context(self, batch_size: int) -> tuple[()]:
        """Returns the memory of new streams: none."""
        del batch_size
        return ()

    @nn.compact
    def __call__(self, context, x: jax.Array, valid: jax.Array, *, train: bool):
        """Returns the context as it was, logits (1, B, T, K), and the projected input,
        averaged over the image (B, T, features)."""
        if not self.reference_padding:
            x = where_valid(valid, x)
        x = Linear(self.features, dtype=self.dtype, name="conv_1x1")(x)
        projected = where_valid(valid, jnp.mean(x, axis=(2, 3)))
        if not self.reference_padding:
            x = where_valid(valid, x)
        for index in range(self.num_layers):
            x = Layer(
                2**index,
                self.norm_momentum,
                self.reference_padding,
                self.dtype,
                name=f"layers_{index}",
            )(x, valid, train=train)
        pooled = jnp.mean(x, axis=(2, 3))
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_out")(pooled)
        logits = where_valid(valid, logits.astype(jnp.float32))
        return context, logits[None], projected


class Layer(nn.Module):
    """Dilated 3x3x3 convolution, ReLU, 1x1x1 convolution, batch norm, residual."""

    dilation: int
    norm_momentum: float
    reference_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, valid, *, train):
        features = x.shape[-1]
        y = Conv3x3x3(features, self.dilation, self.dtype, name="conv_dilated")(x)
        y = Linear(features, dtype=self.dtype, name="conv_1x1")(nn.relu(y))
        counted = None if self.reference_padding else valid
        y = BatchNorm(self.norm_momentum, name="norm")(y, counted, train=train)
        return where_valid(valid, x + y)


class Conv3x3x3(nn.Module):
    """A dilated convolution over time and image with a bias, zeros around."""

    features: int
    dilation: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        shape = (3, 3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", torch_uniform, shape).astype(self.dtype)
        bias = self.param("bias", torch_uniform_of(27 * x.shape[-1]), (self.features,))
        y = conv3d(x.astype(self.dtype), kernel, dilation=self.dilation)
        return y + bias.astype(self.dtype)
