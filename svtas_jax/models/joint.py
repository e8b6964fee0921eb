"""Transeger's joint nets map image features of this chunk and text features of the last
one to class logits. All return (next context, logits (S, B, T, K))."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.layers import Linear, where_valid
from svtas_jax.models.tcn import Stage
from svtas_jax.structs import Contexts


class MemoryTCNJoint(nn.Module):
    """Concatenates image and time-reversed text features; then one memory TCN.

    The image of step t meets the text of step T - 1 - t, as in SVTAS's public code;
    only this joint net reverses the text.
    """

    num_classes: int
    features: int = 128
    num_layers: int = 4
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        context: Contexts,
        image: jax.Array,
        text: jax.Array,
        valid: jax.Array,
        *,
        train: bool,
    ) -> tuple[Contexts, jax.Array]:
        """Takes the context of `tcn.initial_context`, image and text (B, T, D)."""
        x = jnp.concatenate((image, text[:, ::-1]), axis=-1)
        context, logits, _ = Stage(
            num_classes=self.num_classes,
            features=self.features,
            num_layers=self.num_layers,
            norm_momentum=self.norm_momentum,
            reference_padding=self.reference_padding,
            dtype=self.dtype,
            name="stage",
        )(context, x, valid, train=train)
        return context, logits[None]


class FullyConnectedJoint(nn.Module):
    """Concatenates both features; then linear, tanh, linear. No memory."""

    num_classes: int
    features: int = 128
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        context: Contexts,
        image: jax.Array,
        text: jax.Array,
        valid: jax.Array,
        *,
        train: bool,
    ) -> tuple[Contexts, jax.Array]:
        """Takes an empty context, image and text (B, T, D)."""
        x = jnp.concatenate((image, text), axis=-1)
        x = jnp.tanh(Linear(self.features, dtype=self.dtype, name="fc1")(x))
        logits = Linear(self.num_classes, dtype=self.dtype, name="fc2")(x)
        return context, where_valid(valid, logits.astype(jnp.float32))[None]


class TransformerJoint(nn.Module):
    """Transformer decoder: causal self-attention over the image's steps, unmasked
    cross-attention to the text's.

    Wang et al.: OadTR, ICCV 2021. `positions` is "learned", "fixed" (sinusoids of the
    step) or "fixed_by_row" (sinusoids of the batch row, as in SVTAS's public code).
    """

    num_classes: int
    clip_steps: int
    features: int = 128
    num_layers: int = 3
    num_heads: int = 8
    dropout: float = 0.1
    positions: str = "learned"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        context: Contexts,
        image: jax.Array,
        text: jax.Array,
        valid: jax.Array,
        *,
        train: bool,
    ) -> tuple[Contexts, jax.Array]:
        """Takes an empty context, image and text (B, T, D)."""
        x = (image + self._positions(image)).astype(self.dtype)
        for layer in range(self.num_layers):
            x = DecoderLayer(
                self.features,
                self.num_heads,
                self.dropout,
                self.dtype,
                name=f"layers_{layer}",
            )(x, text, train=train)
        x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_cls")(x)
        return context, where_valid(valid, logits.astype(jnp.float32))[None]

    def _positions(self, image):
        batch_size, num_steps, width = image.shape
        if self.positions == "learned":
            shape = (self.clip_steps, width)
            return self.param("positions", nn.initializers.normal(1.0), shape)
        if self.positions == "fixed":
            return sinusoids(num_steps, width)
        return sinusoids(batch_size, width)[:, None]


def sinusoids(num_positions: int, width: int) -> jax.Array:
    """Returns the position encodings (num_positions, width) of Vaswani et al. 2017."""
    position = jnp.arange(num_positions, dtype=jnp.float32)[:, None]
    frequency = jnp.exp(jnp.arange(0, width, 2) * (-math.log(10000.0) / width))
    waves = (jnp.sin(position * frequency), jnp.cos(position * frequency))
    return jnp.stack(waves, axis=-1).reshape(num_positions, -1)[:, :width]


class DecoderLayer(nn.Module):
    """Post-norm self-attention, cross-attention and feed-forward with GELU."""

    features: int
    num_heads: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, text: jax.Array, *, train: bool) -> jax.Array:
        def drop(y):
            return nn.Dropout(self.dropout)(y, deterministic=not train)

        def norm(name, y):
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)(y)

        attention = dict(
            num_heads=self.num_heads, dropout=self.dropout, dtype=self.dtype
        )
        own = Attention(**attention, is_causal=True, name="self_attention")
        x = norm("norm1", x + drop(own(x, x, train=train)))
        cross = Attention(**attention, is_causal=False, name="cross_attention")
        x = norm("norm2", x + drop(cross(x, text, train=train)))
        y = Linear(self.features, dtype=self.dtype, name="conv1")(x)
        y = drop(nn.gelu(y, approximate=False))
        y = drop(Linear(x.shape[-1], dtype=self.dtype, name="conv2")(y))
        return norm("norm3", x + y)


class Attention(nn.Module):
    """Multi-head attention from x (B, T, D) to source (B, T', D)."""

    num_heads: int
    dropout: float
    is_causal: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, source: jax.Array, *, train: bool) -> jax.Array:
        width = x.shape[-1]
        head_width = width // self.num_heads

        def project(name, y):
            y = Linear(width, dtype=self.dtype, name=f"{name}_projection")(y)
            return y.reshape((*y.shape[:2], self.num_heads, head_width))

        query, key = project("query", x), project("key", source)
        value = project("value", source)
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key).astype(jnp.float32)
        logits = logits / math.sqrt(head_width)
        if self.is_causal:
            past = jnp.tril(jnp.ones(logits.shape[-2:], bool))
            logits = jnp.where(past, logits, -jnp.inf)
        weights = nn.softmax(logits).astype(self.dtype)
        weights = nn.Dropout(self.dropout)(weights, deterministic=not train)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
        return Linear(width, dtype=self.dtype, name="out_projection")(y)
