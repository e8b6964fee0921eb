"""Transeger: text prompts about the last chunk's actions help to segment this one."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models import history, prompts
from svtas_jax.models.image import FeatureBranch, ImageBranch
from svtas_jax.models.layers import Linear, where_valid
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.structs import NO_LABEL, Chunk, ChunkOutput, Contexts, StreamState


class Transeger(nn.Module):
    """Image branch, text branch over the previous chunk's labels, joint net.

    Without a text branch the text features are zeros.

    In training the previous labels are the true ones (teacher forcing), otherwise the
    model's own: the class of the highest logit, 0 in padded steps.
    """

    image: ImageBranch | FeatureBranch
    text: TextEncoder | None
    joint: nn.Module
    clip_steps: int
    features: int = 64
    dtype: jnp.dtype = jnp.float32
    causal: ClassVar[bool] = False

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` new streams."""
        runs = self.text.tables.history_runs if self.text else 0
        return StreamState(
            labels=jnp.full((batch_size, self.clip_steps), NO_LABEL, jnp.int32),
            context=self.joint.initial_context(batch_size),
            image=self.image.initial_context(batch_size),
            history=jnp.full((batch_size, runs), NO_LABEL, jnp.int32) if runs else None,
        )

    def image_features(
        self, state: StreamState, chunk: Chunk
    ) -> tuple[StreamState, jax.Array]:
        """Returns the state after the image branch, and its output in evaluation,
        (B, T, D)."""
        image, features = self.image(state.image, chunk, train=False)
        return dataclasses.replace(state, image=image), features

    def text_features(
        self, labels: jax.Array, history: jax.Array | None = None
    ) -> jax.Array:
        """Maps labels (B, T), and the history before them, to text features (B, T,
        features)."""
        if self.text is None:
            return jnp.zeros((*labels.shape, self.features), self.dtype)
        return self.text(labels, history=history)

    def ahead(self, state: StreamState) -> jax.Array | None:
        """Returns the text features that the next chunk needs, which do not depend on
        its frames; None without a text branch."""
        if self.text is None:
            return None
        return self.text_features(state.labels, state.history)

    @nn.compact
    def __call__(
        self,
        state: StreamState,
        chunk: Chunk,
        *,
        train: bool = False,
        ahead: jax.Array | None = None,
    ) -> tuple[StreamState, ChunkOutput]:
        """Computes the next state and the logits of one chunk.

        Args:
            state: of the stream; `state.labels` are the previous chunk's labels.
            chunk: leaves (B, ...).
            train: use batch statistics, and the true labels for the next chunk.
            ahead: the result of `ahead(state)`; computed here if None.
        """
        valid = chunk.step_valid
        context, image = self.project_image(state.image, chunk, train=train)
        state = dataclasses.replace(state, image=context)
        text = ahead
        if text is None:
            text = self.text_features(state.labels, state.history)
        context, logits = self.joint(state.context, image, text, valid, train=train)
        if train:
            labels = prompts.prompt_labels(chunk.labels, self.clip_steps)
        else:
            labels = jnp.argmax(logits[-1], axis=-1)
        state = dataclasses.replace(
            state,
            labels=labels.astype(jnp.int32),
            context=context,
            history=history_after(state),
        )
        return state, ChunkOutput(logits=logits)

    @nn.nowrap
    def project_image(
        self, context: Contexts, chunk: Chunk, *, train: bool
    ) -> tuple[Contexts, jax.Array]:
        """Returns the image branch's next context, and its output (B, T, features)
        for the joint net."""
        project = Linear(
            self.features, use_bias=False, dtype=self.dtype, name="project"
        )
        context, features = self.image(context, chunk, train=train)
        return context, where_valid(chunk.step_valid, project(features))


def history_after(state: StreamState) -> jax.Array | None:
    """Returns the history of which `state.labels` are the last part, when these make
    way for those of the next chunk; None if no prompt tells of it."""
    if state.history is None:
        return None
    return history.extended(state.history, state.labels)
