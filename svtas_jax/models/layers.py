"""Layers that all branches share: linear maps, masking, ReLU6."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.runtime import parts
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


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """Returns x times the normal distribution function of x, by `erf`.

    Hendrycks, Gimpel: Gaussian Error Linear Units, 2016. JAX 0.12.0 cannot derive `erf`
    on several devices within `shard_map`, so the derivative is given here.
    """
    return nn.gelu(x, approximate=False)


@gelu.defjvp
def _gelu_jvp(primals, tangents):
    (x,), (change,) = primals, tangents
    below = (1 + jax.lax.erf(x * math.sqrt(0.5))) / 2
    density = jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return gelu(x), (below + x * density) * change


class Linear(nn.Module):
    """A linear map of the last axis, so also a 1x1 convolution; initialised as in
    PyTorch."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")
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


class Dropout(nn.Module):
    """Sets values to zero at a rate and scales up the others; what a slot gets does
    not depend on the number of devices.

    Args of the call are x (B, ...) and whether this is training.
    """

    rate: float
    broadcast_dims: tuple[int, ...] = ()  # axes along which all have the same fate

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if not train or not self.rate:
            return x
        key, keep = self.make_rng("dropout"), 1 - self.rate
        shape = [1 if n in self.broadcast_dims else k for n, k in enumerate(x.shape)]
        kept = parts.draw(lambda s: jax.random.bernoulli(key, keep, s), tuple(shape))
        return jnp.where(kept, x / keep, jnp.zeros((), x.dtype))


def drop_channels(rate: float, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns x (B, T, ..., D) with whole channels of a chunk dropped in training."""
    return Dropout(rate, broadcast_dims=tuple(range(1, x.ndim - 1)))(x, train=train)


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
