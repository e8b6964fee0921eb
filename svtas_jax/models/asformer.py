"""ASFormer: attention within windows that grow from layer to layer.

Yi, Wen, Jiang: ASFormer, BMVC 2021. In layer i a step attends to the 2^i steps around
it. Each decoder refines the class probabilities of the stage before it and takes its
values from that stage's features. There is no memory: a chunk is all that it sees.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.convolution import DilatedConv
from svtas_jax.models.layers import Dropout, Linear, drop_channels, where_valid
from svtas_jax.structs import Contexts

# The weight of a key outside the window in the softmax, as in the authors' code.
_LEAK = 1e-6


class ASFormer(nn.Module):
    """An encoder and decoders; each stage returns logits."""

    num_classes: int
    features: int = 64
    num_layers: int = 10
    num_decoders: int = 3
    reduction: int = 2  # queries, keys and values have features // reduction channels
    dropout: float = 0.5
    channel_masking: float = 0.3  # share of input channels dropped in training
    reference_padding: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> tuple[()]:
        """Returns the memory of new streams: none."""
        del batch_size
        return ()

    @nn.compact
    def __call__(
        self, context: Contexts, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Contexts, jax.Array, jax.Array]:
        """Returns the context unchanged, logits (1 + num_decoders, B, T, K) and the
        projected input (B, T, features); the arguments are those of `TCN`."""
        if not self.reference_padding:
            x = where_valid(valid, x)
        x = drop_channels(self.channel_masking, x, train=train)
        logits, features, projected = self._stage("encoder", 1.0)(
            x, None, valid, train=train
        )
        stages = [logits]
        for index in range(self.num_decoders):
            scores = where_valid(valid, nn.softmax(logits))
            memory = where_valid(valid, features)
            weight = math.exp(-3 * index)
            logits, features, _ = self._stage(f"decoders_{index}", weight)(
                scores, memory, valid, train=train
            )
            stages.append(logits)
        return context, jnp.stack(stages), projected

    def _stage(self, name, weight):
        return Stage(
            num_classes=self.num_classes,
            features=self.features,
            num_layers=self.num_layers,
            reduction=self.reduction,
            attention_weight=weight,
            dropout=self.dropout,
            reference_padding=self.reference_padding,
            dtype=self.dtype,
            name=name,
        )


class Stage(nn.Module):
    """1x1 convolution, blocks, 1x1 convolution to the classes.

    An encoder has no `memory`; a decoder takes its attention values from `memory`.
    """

    num_classes: int
    features: int
    num_layers: int
    reduction: int
    attention_weight: float
    dropout: float
    reference_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array | None, valid: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = Linear(self.features, dtype=self.dtype, name="conv_1x1")(x)
        projected = where_valid(valid, x)
        if not self.reference_padding:
            x = projected
        for index in range(self.num_layers):
            x = Block(
                window=2**index,
                reduction=self.reduction,
                attention_weight=self.attention_weight,
                dropout=self.dropout,
                reference_padding=self.reference_padding,
                dtype=self.dtype,
                name=f"layers_{index}",
            )(x, memory, valid, train=train)
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_out")(x)
        return where_valid(valid, logits.astype(jnp.float32)), x, projected


class Block(nn.Module):
    """Dilated convolution, attention within the window, 1x1 convolution, residual."""

    window: int
    reduction: int
    attention_weight: float
    dropout: float
    reference_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array | None, valid: jax.Array, *, train: bool
    ) -> jax.Array:
        features = x.shape[-1]
        y = DilatedConv(features, self.window, self.dtype, name="feed_forward")(x)
        y = nn.relu(y)
        counted = jnp.ones_like(valid) if self.reference_padding else valid
        normal = normalise_over_time(y, counted)
        attended = WindowAttention(
            self.window,
            self.reduction,
            self.reference_padding,
            self.dtype,
            name="att_layer",
        )(normal, normal if memory is None else memory, valid)
        y = self.attention_weight * attended + y
        y = Linear(features, dtype=self.dtype, name="conv_1x1")(y)
        y = Dropout(self.dropout)(y, train=train)
        return where_valid(valid, x + y)


def normalise_over_time(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Instance norm: normalises each channel of (B, T, D) over its valid steps."""
    wide = where_valid(valid, x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    count = jnp.maximum(jnp.sum(valid, axis=1), 1)[:, None, None]
    mean = jnp.sum(wide, axis=1, keepdims=True) / count
    centred = where_valid(valid, wide - mean)
    var = jnp.sum(jnp.square(centred), axis=1, keepdims=True) / count
    return (centred * jax.lax.rsqrt(var + 1e-5)).astype(x.dtype)


class WindowAttention(nn.Module):
    """Attention from every step to the `window` steps around it."""

    window: int
    reduction: int
    reference_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, values: jax.Array, valid: jax.Array) -> jax.Array:
        """Projects queries and keys from x, values from `values`; all (B, T, D)."""
        reduced = x.shape[-1] // self.reduction

        def project(name, source):
            y = Linear(reduced, dtype=self.dtype, name=name)(source)
            # Without the bias in padded steps, padding to any length gives the same.
            return y if self.reference_padding else where_valid(valid, y)

        query = project("query_conv", x)
        key, value = project("key_conv", x), project("value_conv", values)
        attended = attend_in_windows(query, key, value, valid, window=self.window)
        y = Linear(values.shape[-1], dtype=self.dtype, name="conv_out")(
            nn.relu(attended)
        )
        return where_valid(valid, y)


def attend_in_windows(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    valid: jax.Array,
    *,
    window: int,
) -> jax.Array:
    """Attends from step t to steps [t - window // 2, t - window // 2 + window).

    The queries of a block of `window` steps meet the keys of the block and of half a
    block on either side. Keys outside a query's own window, and invalid ones, enter
    only the softmax's denominator, weighted by 1e-6, as in the authors' code.

    Args:
        query, key, value: (B, T, D).
        valid: (B, T) bool.
        window: a power of two.

    Returns:
        (B, T, D).
    """
    num_steps, width = query.shape[1:]
    own = _blocks(query, window)
    keys, values = _with_halves(key, window), _with_halves(value, window)
    real = _with_halves(valid[..., None], window)[..., 0]
    energy = jnp.einsum("bnqd,bnkd->bnqk", own, keys).astype(jnp.float32)
    first, last = jnp.arange(window)[:, None], jnp.arange(keys.shape[2])
    inside = (last >= first) & (last < first + window)
    seen = inside & real[:, :, None, :]
    share = jnp.where(seen, 1.0 + _LEAK, _LEAK)
    weights = jax.nn.softmax(energy / math.sqrt(width) + jnp.log(share))
    weights = jnp.where(seen, weights, 0).astype(value.dtype)
    attended = jnp.einsum("bnqk,bnkd->bnqd", weights, values)
    return attended.reshape(query.shape[0], -1, value.shape[-1])[:, :num_steps]


def _blocks(x, size):
    """Splits (B, T, D) into (B, ceil(T / size), size, D), with zeros at the end."""
    missing = -x.shape[1] % size
    x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
    return x.reshape(x.shape[0], -1, size, x.shape[-1])


def _with_halves(x, size):
    """Splits (B, T, D) into N blocks, each with half a block on either side and zeros
    beyond the ends: (B, N, size + 2 * (size // 2), D)."""
    half = size // 2
    if half == 0:
        return _blocks(x, size)
    blocks = _blocks(x, size)
    before, after = blocks[:, :, half:], blocks[:, :, :half]
    ends = ((0, 0), (1, 1), (0, 0), (0, 0))
    before, after = jnp.pad(before, ends)[:, :-2], jnp.pad(after, ends)[:, 2:]
    return jnp.concatenate((before, blocks, after), axis=2)
