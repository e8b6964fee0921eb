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
    model's own: the class of the highest logit, 0 in padded steps. If `soft`, prompts
    are made of the probabilities of all classes, see `soft_prompts`; a true label is
    certain. They carry gradients as far as the state does.
    """

    image: ImageBranch | FeatureBranch
    text: TextEncoder | None
    joint: nn.Module
    clip_steps: int
    features: int = 64
    dtype: jnp.dtype = jnp.dtype("float32")
    soft: bool = False
    causal: ClassVar[bool] = False

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` new streams."""
        runs = self.text.tables.history_runs if self.text else 0
        return StreamState(
            labels=jnp.full((batch_size, self.clip_steps), NO_LABEL, jnp.int32),
            context=self.joint.initial_context(batch_size),
            image=self.image.initial_context(batch_size),
            scores=self.no_scores(batch_size),
            history=jnp.full((batch_size, runs), NO_LABEL, jnp.int32) if runs else None,
        )

    def no_scores(self, batch_size: int) -> jax.Array | None:
        """Returns the probabilities before the first chunk; None if not `soft`."""
        if not self.soft or self.text is None:
            return None
        return jnp.zeros((batch_size, self.clip_steps, self.text.num_classes))

    def image_features(
        self, state: StreamState, chunk: Chunk
    ) -> tuple[StreamState, jax.Array]:
        """Returns the state after the image branch, and its output in evaluation,
        (B, T, D)."""
        image, features = self.image(state.image, chunk, train=False)
        return dataclasses.replace(state, image=image), features

    def text_features(
        self,
        labels: jax.Array,
        *,
        scores: jax.Array | None = None,
        history: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the text features (B, T, features).

        Args:
            labels: (B, T) int32 of the last chunk.
            scores: (B, T, K) probabilities of its classes, if `soft`.
            history: (B, N) int32 before it, if prompts tell of it.
        """
        if self.text is None:
            return jnp.zeros((*labels.shape, self.features), self.dtype)
        return self.text(labels, scores=scores, history=history)

    @nn.nowrap
    def told_features(self, state: StreamState) -> jax.Array:
        """Returns `text_features` of all that a state tells prompts."""
        return self.text_features(
            state.labels, scores=state.scores, history=state.history
        )

    def ahead(self, state: StreamState) -> jax.Array | None:
        """Returns the text features that the next chunk needs, which do not depend on
        its frames; None without a text branch."""
        if self.text is None:
            return None
        return self.told_features(state)

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
        if ahead is None:
            ahead = self.told_features(state)
        context, logits = self.joint(state.context, image, ahead, valid, train=train)
        given = None
        if train:
            given = prompts.prompt_labels(chunk.labels, self.clip_steps)
        labels, scores = told(logits[-1], state.scores, given)
        state = dataclasses.replace(
            state,
            labels=labels,
            scores=scores,
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


def told(
    logits: jax.Array, like: jax.Array | None, given: jax.Array | None = None
) -> tuple[jax.Array, jax.Array | None]:
    """Returns what prompts are made of: labels (B, T) int32, and with soft feedback
    probabilities (B, T, K), else None.

    Args:
        logits: (B, T, K), zero in padded steps.
        like: probabilities in the state; None without soft feedback.
        given: (B, T) the true labels, in training.
    """
    labels = jnp.argmax(logits, axis=-1) if given is None else given
    labels = labels.astype(jnp.int32)
    if like is None:
        return labels, None
    if given is None:
        scores = jax.nn.softmax(logits.astype(jnp.float32))
    else:
        scores = jax.nn.one_hot(given, logits.shape[-1])  # 0 if it is missing
    return labels, scores.astype(like.dtype)


def history_after(state: StreamState) -> jax.Array | None:
    """Returns the history of which `state.labels` are the last part, when these make
    way for those of the next chunk; None if no prompt tells of it."""
    if state.history is None:
        return None
    return history.extended(state.history, state.labels)
