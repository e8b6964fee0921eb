"""SETE and METE: an image branch and a temporal head, trained end to end on a stream.

Any backbone goes with any head: with I3D and MS-TCN it is the paper's single-stage
baseline, with features in place of the image branch the second of two stages.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models import prompts
from svtas_jax.models.image import FeatureBranch, ImageBranch
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.structs import NO_LABEL, Chunk, ChunkOutput, StreamState

LOGIT_SCALE = math.log(1 / 0.07)  # CLIP's initial temperature


class Sete(nn.Module):
    """Streaming End-to-end Training framEwork. With a text encoder it is METE.

    A head maps (context, features, valid) to (context, logits, projected input) and
    has `initial_context`. METE trains the head's projected input to match a text
    feature of the same chunk's labels. At inference the text branch does not run, so
    METE costs what SETE costs.
    """

    image: ImageBranch | FeatureBranch
    head: nn.Module
    clip_steps: int
    text: TextEncoder | None = None
    train_logit_scale: bool = False

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` streams that have seen nothing."""
        context = self.head.initial_context(batch_size)
        # Only prompts read the last chunk's labels; SETE and METE have no such prompt.
        labels = jnp.full((batch_size, 1), NO_LABEL, jnp.int32)
        return StreamState(labels=labels, context=context)

    def image_features(self, chunk: Chunk) -> jax.Array:
        """Returns what the head gets to see of a chunk in evaluation, (B, T, D)."""
        return self.image(chunk, train=False)

    def ahead(self, state: StreamState) -> None:
        """Returns nothing: no part of a chunk can be computed before its frames."""
        del state

    @nn.compact
    def __call__(
        self,
        state: StreamState,
        chunk: Chunk,
        *,
        train: bool = False,
        ahead: None = None,
        templates: jax.Array | None = None,
    ) -> tuple[StreamState, ChunkOutput]:
        """Scores one chunk.

        Args:
            state: of the stream before this chunk.
            chunk: leaves (B, ...).
            train: batch statistics, and METE's text feature.
            ahead: see `ahead`.
            templates: (B, T) the sentence of every step's fixed prompt; drawn in
                training (rng "templates") if not given.
        """
        del ahead
        valid = chunk.step_valid
        features = self.image(chunk, train=train)
        context, logits, projected = self.head(
            state.context, features, valid, train=train
        )
        state = state.replace(context=context)
        output = ChunkOutput(logits=logits)
        if self.text is None or not (train or self.is_initializing()):
            return state, output
        labels = prompts.told_labels(chunk.labels, self.clip_steps)
        if templates is None:
            templates = _draw_templates(self, labels.shape)
        scale = jnp.float32(LOGIT_SCALE)
        if self.train_logit_scale:
            scale = self.param("logit_scale", nn.initializers.constant(LOGIT_SCALE), ())
        return state, output.replace(
            image_features=projected,
            text_features=self.text(labels, templates),
            logit_scale=scale,
        )


def _draw_templates(module: nn.Module, shape) -> jax.Array:
    if not module.has_rng("templates"):
        return jnp.zeros(shape, jnp.int32)
    return prompts.draw_templates(module.make_rng("templates"), shape)
