"""Transeger: what was done in the last chunk, told in words, helps to read this one."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models import joint, prompts, tcn
from svtas_jax.models.image import FeatureBranch, ImageBranch
from svtas_jax.models.layers import Linear, where_valid
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.structs import NO_LABEL, Chunk, ChunkOutput, StreamState


class Transeger(nn.Module):
    """Image branch, text branch over the previous chunk's labels, joint net.

    Without a text branch the joint net is given zeros for its features.

    In training the previous labels are the true ones (teacher forcing), otherwise the
    model's own: the class of the highest score, 0 in padded steps.
    """

    image: ImageBranch | FeatureBranch
    text: TextEncoder | None
    joint: nn.Module
    clip_steps: int
    features: int = 64
    dtype: jnp.dtype = jnp.float32

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` streams that have seen nothing."""
        context = ()
        if isinstance(self.joint, joint.MemoryTCNJoint):
            context = tcn.initial_context(
                batch_size,
                features=self.joint.features,
                num_layers=self.joint.num_layers,
            )
        labels = jnp.full((batch_size, self.clip_steps), NO_LABEL, jnp.int32)
        return StreamState(labels=labels, context=context)

    def image_features(self, chunk: Chunk) -> jax.Array:
        """Returns what the rest gets to see of a chunk in evaluation, (B, T, D)."""
        return self.image(chunk, train=False)

    def text_features(self, labels: jax.Array) -> jax.Array:
        """Returns what the text branch makes of labels (B, T), (B, T, features)."""
        if self.text is None:
            return jnp.zeros((*labels.shape, self.features), self.dtype)
        return self.text(labels)

    def ahead(self, state: StreamState) -> jax.Array | None:
        """Returns the text features of the chunk after this state, before its frames
        are there; None without a text branch."""
        return None if self.text is None else self.text_features(state.labels)

    @nn.compact
    def __call__(
        self,
        state: StreamState,
        chunk: Chunk,
        *,
        train: bool = False,
        ahead: jax.Array | None = None,
    ) -> tuple[StreamState, ChunkOutput]:
        """Scores one chunk; `state.labels` holds the previous chunk's labels, `ahead`
        what `ahead` returned for the state, if that was asked before."""
        valid = chunk.step_valid
        project = Linear(
            self.features, use_bias=False, dtype=self.dtype, name="project"
        )
        image = where_valid(valid, project(self.image(chunk, train=train)))
        text = self.text_features(state.labels) if ahead is None else ahead
        context, logits = self.joint(state.context, image, text, valid, train=train)
        if train:
            labels = prompts.told_labels(chunk.labels, self.clip_steps)
        else:
            labels = jnp.argmax(logits[-1], axis=-1)
        state = StreamState(labels=labels.astype(jnp.int32), context=context)
        return state, ChunkOutput(logits=logits)
