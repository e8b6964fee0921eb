"""The image branch: maps a chunk's frames to a feature vector, or map, per step."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.layers import drop_channels, where_valid
from svtas_jax.structs import Array, Chunk, Contexts, Model


def normalise(frames: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """Scales uint8 RGB (..., 3) to 0..1, subtracts `mean`, divides by `std`.

    Float frames must be normalised already; they are returned as they are.
    """
    if frames.dtype != jnp.uint8:
        return frames
    offset, scale = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return frames.astype(jnp.float32) * (1 / (255 * scale)) - offset / scale


def pool(features: jax.Array, valid: Array) -> jax.Array:
    """Averages (B, T, H, W, D) over the image to (B, T, D); zero in invalid steps."""
    return where_valid(valid, jnp.mean(features, axis=(2, 3)))


class ImageBranch(nn.Module):
    """Normalises, applies the backbone and, if `pooled`, averages over the image.

    `backbone` maps its context, frames (B, T, H, W, 3) and `valid` (B, T) to the next
    context and feature maps (B, T, h, w, D). In training, a share `dropout` of the
    channels is zero in all steps of a chunk.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    backbone: nn.Module
    pooled: bool = True
    frozen_norm: bool = False
    dropout: float = 0.0

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns what the backbone of new streams remembers."""
        return self.backbone.initial_context(batch_size)

    @nn.compact
    def __call__(
        self, context: Contexts, chunk: Chunk, *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        """Returns the next context, and (B, T, D), or (B, T, h, w, D) if not `pooled`;
        zero where invalid."""
        valid = chunk.step_valid
        x = normalise(chunk.frames, self.mean, self.std)
        as_they_are = getattr(self.backbone, "reference_padding", False)
        if chunk.frames.dtype != jnp.uint8 and not as_they_are:
            x = where_valid(valid, x)  # bytes are finite; these may be NaN
        batch_norm = train and not self.frozen_norm
        context, x = self.backbone(context, x, valid, train=batch_norm)
        x = pool(x, valid) if self.pooled else where_valid(valid, x)
        return context, drop_channels(self.dropout, x, train=train)


def with_separate_norms(model: Model) -> Model:
    """Returns the model with batch norms that are not folded into convolutions in
    evaluation, for code that counts or inspects them."""
    image: Any = getattr(model, "image", None)
    if not hasattr(getattr(image, "backbone", None), "folded"):
        return model
    backbone = image.backbone.clone(folded=False)
    return model.clone(image=image.clone(backbone=backbone))


class FeatureBranch(nn.Module):
    """Replaces the image branch when a chunk's frames are already features."""

    dropout: float = 0.0

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns nothing: features are all there."""
        del batch_size
        return ()

    @nn.compact
    def __call__(
        self, context: Contexts, chunk: Chunk, *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        """Returns the context as it is, and (B, T, D), zero in invalid steps."""
        features = chunk.frames.astype(jnp.float32)
        features = where_valid(chunk.step_valid, features)
        return context, drop_channels(self.dropout, features, train=train)
