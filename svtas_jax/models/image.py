"""The image branch: frames of a chunk to one feature vector, or map, per step."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.layers import where_valid
from svtas_jax.structs import Chunk


def normalise(frames: jax.Array, mean, std) -> jax.Array:
    """Scales uint8 RGB (..., 3) to 0..1, subtracts `mean`, divides by `std`.

    Float frames are taken as already normalised.
    """
    if frames.dtype != jnp.uint8:
        return frames
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return frames.astype(jnp.float32) * (1 / (255 * std)) - mean / std


def pool(features: jax.Array, valid: jax.Array) -> jax.Array:
    """Averages (B, T, H, W, D) over the image; zero in invalid steps."""
    return where_valid(valid, jnp.mean(features, axis=(2, 3)))


class ImageBranch(nn.Module):
    """Normalise, a backbone, and, if `pooled`, the average over the image.

    `backbone` maps frames (B, T, H, W, 3) and which steps are valid to feature maps
    (B, T, h, w, D).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    backbone: nn.Module
    pooled: bool = True

    @nn.compact
    def __call__(self, chunk: Chunk, *, train: bool) -> jax.Array:
        """Returns (B, T, D), or (B, T, h, w, D); zero in invalid steps."""
        valid = chunk.step_valid
        x = normalise(chunk.frames, self.mean, self.std)
        x = self.backbone(x, valid, train=train)
        return pool(x, valid) if self.pooled else where_valid(valid, x)


def with_separate_norms(model: nn.Module) -> nn.Module:
    """Returns the model with its batch norms standing alone in evaluation, too, for
    what counts or measures them."""
    if not hasattr(getattr(model.image, "backbone", None), "folded"):
        return model
    backbone = model.image.backbone.clone(folded=False)
    return model.clone(image=model.image.clone(backbone=backbone))


class FeatureBranch(nn.Module):
    """Stands where the image branch does when a chunk's frames are features."""

    @nn.compact
    def __call__(self, chunk: Chunk, *, train: bool) -> jax.Array:
        """Returns (B, T, D), zero in invalid steps."""
        del train
        return where_valid(chunk.step_valid, chunk.frames.astype(jnp.float32))
