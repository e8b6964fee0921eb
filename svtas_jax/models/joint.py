"""Transeger's joint nets map image features of this chunk and text features of the last
one to class logits.

All take a context (see their `initial_context`), image (B, T, D), text (B, clip_steps,
D) and `valid` (B, T), and return the next context and logits (S, B, T, K). `position`
(B,) is that of the first of the T steps in its chunk, for causal models, whose calls
begin and end anywhere in a chunk; without it they are the whole chunk.
"""

import math
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models import tcn
from svtas_jax.models.convolution import steps_at
from svtas_jax.models.layers import Dropout, Linear, gelu, where_valid
from svtas_jax.structs import Contexts


class MemoryTCNJoint(nn.Module):
    """Concatenates image and time-reversed text features; then one memory TCN.

    The image of step t meets the text of step T - 1 - t, as in SVTAS's public code;
    only this joint net reverses the text.
    """

    num_classes: int
    features: int = 128
    num_layers: int = 4
    norm: str = "batch"
    norm_momentum: float = 0.1
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns the memory of new streams."""
        return tcn.initial_context(
            batch_size, features=self.features, num_layers=self.num_layers
        )

    @nn.compact
    def __call__(
        self,
        context: Contexts,
        image: jax.Array,
        text: jax.Array,
        valid: jax.Array,
        *,
        train: bool,
        position: jax.Array | None = None,
    ) -> tuple[Contexts, jax.Array]:
        """Returns the next context and logits, see above."""
        text = _meeting(text[:, ::-1], valid, position)
        x = jnp.concatenate((image, text), axis=-1)
        context, logits, _ = tcn.Stage(
            num_classes=self.num_classes,
            features=self.features,
            num_layers=self.num_layers,
            norm=self.norm,
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
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns nothing."""
        del batch_size
        return ()

    @nn.compact
    def __call__(
        self,
        context: Contexts,
        image: jax.Array,
        text: jax.Array,
        valid: jax.Array,
        *,
        train: bool,
        position: jax.Array | None = None,
    ) -> tuple[Contexts, jax.Array]:
        """Returns the context as it is and logits, see above."""
        text = _meeting(text, valid, position)
        x = jnp.concatenate((image, text), axis=-1)
        x = jnp.tanh(Linear(self.features, dtype=self.dtype, name="fc1")(x))
        logits = Linear(self.num_classes, dtype=self.dtype, name="fc2")(x)
        return context, where_valid(valid, logits.astype(jnp.float32))[None]


class TransformerJoint(nn.Module):
    """Transformer decoder: causal self-attention over the image's steps, unmasked
    cross-attention to the text's.

    Wang et al.: OadTR, ICCV 2021. `positions` is "learned", "fixed" (sinusoids of the
    step) or "fixed_by_row" (sinusoids of the batch row, as in SVTAS's public code).

    If `causal`, the context holds the chunk's keys and values of self-attention so far,
    (B, clip_steps, width) each for every layer.
    """

    num_classes: int
    clip_steps: int
    features: int = 128
    num_layers: int = 3
    num_heads: int = 8
    dropout: float = 0.1
    positions: str = "learned"
    causal: bool = False
    width: int = 64
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns the keys and values of new streams; nothing if not causal."""
        if not self.causal:
            return ()
        shape = (batch_size, self.clip_steps, self.width)
        return tuple(jnp.zeros(shape) for _ in range(2 * self.num_layers))

    @nn.compact
    def __call__(
        self,
        context: Contexts,
        image: jax.Array,
        text: jax.Array,
        valid: jax.Array,
        *,
        train: bool,
        position: jax.Array | None = None,
    ) -> tuple[Contexts, jax.Array]:
        """Returns the next context and logits, see above."""
        positions = _meeting(self._positions(image), valid, position)
        x = (image + positions).astype(self.dtype)
        next_context: Contexts = ()
        for layer in range(self.num_layers):
            past = None
            if position is not None:
                own = context[2 * layer : 2 * layer + 2]
                own = cast(tuple[jax.Array, ...], own)  # attention remembers
                past = Past(own, position, jnp.sum(valid, axis=1, dtype=jnp.int32))
            own, x = DecoderLayer(
                self.features,
                self.num_heads,
                self.dropout,
                self.dtype,
                name=f"layers_{layer}",
            )(x, text, past, train=train)
            next_context += own
        x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)
        x = Dropout(self.dropout)(x, train=train)
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_cls")(x)
        return next_context, where_valid(valid, logits.astype(jnp.float32))[None]

    def _positions(self, image):
        batch_size, num_steps, width = image.shape
        if self.positions == "learned":
            shape = (self.clip_steps, width)
            return self.param("positions", nn.initializers.normal(1.0), shape)[None]
        if self.positions == "fixed":
            length = self.clip_steps if self.causal else num_steps
            return sinusoids(length, width)[None]
        return sinusoids(batch_size, width)[:, None]


def _meeting(x: jax.Array, valid: jax.Array, position: jax.Array | None) -> jax.Array:
    """Returns the steps of a chunk's x (B or 1, clip_steps, D) that a call computes."""
    if position is None:
        return x
    batch_size, num_steps = valid.shape
    x = jnp.broadcast_to(x, (batch_size, *x.shape[1:]))
    return steps_at(x, position[:, None] + jnp.arange(num_steps))


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
    def __call__(
        self, x: jax.Array, text: jax.Array, past: "Past | None", *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        def drop(y):
            return Dropout(self.dropout)(y, train=train)

        def norm(name, y):
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)(y)

        attention = dict(
            num_heads=self.num_heads, dropout=self.dropout, dtype=self.dtype
        )
        own = Attention(**attention, is_causal=True, name="self_attention")
        context, y = own(x, x, past, train=train)
        x = norm("norm1", x + drop(y))
        cross = Attention(**attention, is_causal=False, name="cross_attention")
        x = norm("norm2", x + drop(cross(x, text, None, train=train)[1]))
        y = Linear(self.features, dtype=self.dtype, name="conv1")(x)
        y = drop(gelu(y))
        y = drop(Linear(x.shape[-1], dtype=self.dtype, name="conv2")(y))
        return context, norm("norm3", x + y)


class Past(NamedTuple):
    """What self-attention of a causal model remembers of a chunk.

    Attributes:
        context: keys and values (B, clip_steps, D) of the steps before.
        position: (B,) number of these.
        count: (B,) number of valid steps in the call, which come first.
    """

    context: tuple[jax.Array, ...]
    position: jax.Array
    count: jax.Array

    def extend(self, *new: jax.Array) -> tuple[jax.Array, ...]:
        """Returns keys and values with those of the call, (B, T, D) each."""
        index = jnp.arange(self.context[0].shape[1]) - self.position[:, None]
        is_new = ((index >= 0) & (index < self.count[:, None]))[..., None]
        return tuple(
            jnp.where(is_new, steps_at(y, index), old).astype(old.dtype)
            for old, y in zip(self.context, new, strict=True)
        )


class Attention(nn.Module):
    """Multi-head attention from x (B, T, D) to source (B, T', D), or to the past and
    the source; returns the next past's context, and (B, T, D)."""

    num_heads: int
    dropout: float
    is_causal: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: jax.Array, source: jax.Array, past: Past | None, *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        width = x.shape[-1]
        head_width = width // self.num_heads

        def project(name, y):
            return Linear(width, dtype=self.dtype, name=f"{name}_projection")(y)

        def split(y):
            y = y.astype(self.dtype)
            return y.reshape((*y.shape[:2], self.num_heads, head_width))

        query, key = project("query", x), project("key", source)
        value = project("value", source)
        context: Contexts = ()
        if past is not None:
            key, value = context = past.extend(key, value)
        query, key, value = split(query), split(key), split(value)
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key).astype(jnp.float32)
        logits = logits / math.sqrt(head_width)
        if self.is_causal:
            is_past = _is_past(logits.shape[-2], logits.shape[-1], past)
            logits = jnp.where(is_past, logits, -jnp.inf)
        weights = nn.softmax(logits).astype(self.dtype)
        weights = Dropout(self.dropout)(weights, train=train)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
        return context, Linear(width, dtype=self.dtype, name="out_projection")(y)


def _is_past(num_steps: int, num_keys: int, past: Past | None) -> jax.Array:
    """Returns which keys a query may see, (T, T') or (B, 1, T, T')."""
    steps, keys = jnp.arange(num_steps)[:, None], jnp.arange(num_keys)
    if past is None:
        return keys <= steps
    return keys <= past.position[:, None, None, None] + steps
