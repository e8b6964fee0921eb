"""The text branch: maps a chunk's labels, as prompts, to one feature per step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from svtas_jax.models import prompts, soft_prompts, tokenizer
from svtas_jax.models.layers import BLOCK, Linear

# Name of the parameter whose gradient is zero in most rows.
VOCABULARY = "token_embedding"


class TextEncoder(nn.Module):
    """CLIP's text transformer over the tokens of each step's prompt.

    Attention stays within a prompt and masks nothing, not even padding. The
    transformer is that of Radford et al.: CLIP, ICML 2021; SVTAS's public code defines
    how a prompt becomes one vector.
    """

    tables: prompts.PromptTables
    num_classes: int
    clip_steps: int
    features: int = 64
    width: int = 512
    num_layers: int = 3
    num_heads: int = 8
    num_context: int = 0  # 0: fixed prompts
    shared_context: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    def setup(self) -> None:
        normal = nn.initializers.normal
        self.token_embedding = self.param(
            VOCABULARY, normal(0.02), (tokenizer.VOCAB_SIZE, self.width)
        )
        self.positional_embedding = self.param(
            "positional_embedding",
            normal(0.01),
            (self.clip_steps, self.tables.max_len, self.width),
        )
        if self.num_context:
            rows = () if self.shared_context else (self.num_classes,)
            shape = (*rows, self.num_context, self.width)
            self.ctx = self.param("ctx", normal(0.2), shape)
        self.resblocks = [
            TransformerBlock(self.num_heads, self.dtype) for _ in range(self.num_layers)
        ]
        self.ln_final = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype)
        self.text_projection = Linear(self.features, dtype=self.dtype)
        self.squeeze_sentence = Linear(self.features, dtype=self.dtype)

    def embed_prompts(
        self,
        labels: jax.Array,
        templates: jax.Array | int = 0,
        *,
        scores: jax.Array | None = None,
        history: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the prompts' token vectors (B, T, max_len, width), no positions."""
        if scores is None:
            ids = prompts.prompt_ids(self.tables, labels, templates, history)
            return prompts.embed(ids, labels, *self._vectors())
        tables = soft_prompts.split(self.tables, self.num_classes)
        return soft_prompts.embed(
            tables, labels, scores, *self._vectors(), history=history
        )

    def _vectors(self) -> tuple[np.ndarray, jax.Array, jax.Array | None]:
        """Returns the ids of the tokens in use, their vectors, and context vectors."""
        # Prompts use about a hundred of the vocabulary's 49,408 rows. Selecting these
        # first lets devices exchange the gradients of these rows only, in every chunk.
        used = self.tables.token_ids()
        context = self.ctx if self.num_context else None
        return used, self.token_embedding[used], context

    def __call__(
        self,
        labels: jax.Array,
        templates: jax.Array | int = 0,
        *,
        scores: jax.Array | None = None,
        history: jax.Array | None = None,
    ) -> jax.Array:
        """Returns features (B, T, features).

        Args:
            labels: (B, T) int32 of a chunk's decoded steps.
            templates: () or (B, T) int32, indices into `prompts.TEMPLATES`.
            scores: (B, T, K) probabilities of the classes, for soft prompts; these have
                the first template.
            history: (B, N) int32 before the chunk, if prompts have that part.
        """
        x = self.embed_prompts(labels, templates, scores=scores, history=history)
        x = x + self.positional_embedding
        batch_size, num_steps = labels.shape
        x = x.astype(self.dtype).reshape((batch_size * num_steps, *x.shape[2:]))
        for block in self.resblocks:
            x = block(x)
        x = self.text_projection(self.ln_final(x))
        x = x.reshape((batch_size, num_steps, -1))
        return self.squeeze_sentence(x)


class TransformerBlock(nn.Module):
    """Pre-norm attention and an MLP with CLIP's x * sigmoid(1.702 x)."""

    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        y = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="ln_1")(x)
        x = x + SelfAttention(self.num_heads, self.dtype, name="attn")(y)
        y = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="ln_2")(x)
        y = Linear(4 * width, dtype=self.dtype, name="mlp_c_fc")(y)
        y = y * nn.sigmoid(1.702 * y)
        x = x + Linear(width, dtype=self.dtype, name="mlp_c_proj")(y)
        return checkpoint_name(x, BLOCK)


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (B, L, D), without a mask."""

    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        xavier = nn.initializers.xavier_uniform()
        qkv = nn.Dense(3 * width, kernel_init=xavier, dtype=self.dtype, name="in_proj")(
            x
        )
        heads = (*x.shape[:-1], self.num_heads, width // self.num_heads)
        query, key, value = (part.reshape(heads) for part in jnp.split(qkv, 3, -1))
        y = jax.nn.dot_product_attention(query, key, value).reshape(x.shape)
        return nn.Dense(
            width,
            kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            dtype=self.dtype,
            name="out_proj",
        )(y)
