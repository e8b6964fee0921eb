"""CLIP's ViT-B/16: one feature vector per frame, independent of other frames.

Dosovitskiy et al., ICLR 2021; Radford et al.: CLIP, ICML 2021. Bridge-Prompt (Li et
al., CVPR 2022) uses it to extract the features for its second stage.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.layers import Kernel, where_valid
from svtas_jax.models.text_encoder import TransformerBlock
from svtas_jax.structs import Contexts


class VisionTransformer(nn.Module):
    """Maps frames (B, T, H, W, 3) to the class token, (B, T, 1, 1, output)."""

    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    patch: int = 16
    output: int = 512
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> Contexts:
        """Returns nothing: frames do not see each other."""
        del batch_size
        return ()

    @nn.compact
    def __call__(
        self, context: Contexts, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        """Returns the context as it is, and features; zero in invalid steps.

        Args:
            context: empty.
            x: normalised frames; H and W are multiples of `patch`.
            valid: (B, T) bool.
            train: has no effect.
        """
        del train
        batch_size, num_steps = valid.shape
        tokens = self._patches(where_valid(valid, x).astype(self.dtype))
        x = self._with_class_token(tokens)
        x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="ln_pre")(x)
        for index in range(self.num_layers):
            x = TransformerBlock(self.num_heads, self.dtype, name=f"resblocks_{index}")(
                x
            )
        x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="ln_post")(x[:, 0])
        normal = nn.initializers.normal(self.width**-0.5)
        x = jnp.matmul(
            x, self.param("proj", normal, (self.width, self.output)).astype(self.dtype)
        )
        x = x.reshape(batch_size, num_steps, 1, 1, self.output)
        return context, where_valid(valid, x)

    def _patches(self, x):
        """Projects patches: (B, T, H, W, 3) to (B * T, patches, width)."""
        *_, height, width, channels = x.shape
        size = self.patch
        if height % size or width % size:
            raise ValueError(
                f"frames of {height}x{width} pixels cannot be cut into patches of "
                f"{size}x{size}; try --config.data.crop={height // size * size}."
            )
        x = x.reshape(-1, height // size, size, width // size, size, channels)
        x = jnp.swapaxes(x, 2, 3).reshape(x.shape[0], -1, size * size * channels)
        shape = (size, size, channels, self.width)
        init = nn.initializers.lecun_normal()
        kernel = Kernel(init, name="conv1")(shape).astype(self.dtype)
        return jnp.matmul(x, kernel.reshape(-1, self.width))

    def _with_class_token(self, tokens):
        normal = nn.initializers.normal(self.width**-0.5)
        own = self.param("class_embedding", normal, (self.width,))
        first = jnp.broadcast_to(
            own.astype(self.dtype), (tokens.shape[0], 1, self.width)
        )
        x = jnp.concatenate((first, tokens), axis=1)
        shape = (x.shape[1], self.width)
        positions = self.param("positional_embedding", normal, shape)
        return x + positions.astype(self.dtype)
