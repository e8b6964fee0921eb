"""SETE and METE: an image branch and a temporal head, trained end to end on a stream.

Any backbone works with any head. I3D and MS-TCN make the SVTAS paper's single-stage
baseline; precomputed features make the second stage of a two-stage system.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models import prompts
from svtas_jax.models.image import FeatureBranch, ImageBranch
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.runtime import parts
from svtas_jax.structs import NO_LABEL, Chunk, ChunkOutput, StreamState

LOGIT_SCALE = math.log(1 / 0.07)  # CLIP's initial temperature


class Sete(nn.Module):
    """Streaming End-to-end Training framEwork. With a text encoder it is METE.

    A head maps (context, features, valid) to (context, logits, projected input) and
    has `initial_context`. METE trains the head's projected input to match the text
    features of the same chunk's labels. The text branch runs in training only, so at
    inference METE costs as much as SETE.

    If `causal`, as image branch and head then are, chunks may have any number of steps,
    of which the valid ones come first; METE trains on chunks of `clip_steps`.
    """

    image: ImageBranch | FeatureBranch
    head: nn.Module
    clip_steps: int
    causal: bool = False
    text: TextEncoder | None = None
    train_logit_scale: bool = False

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` new streams."""
        context = self.head.initial_context(batch_size)
        # Only Transeger's prompts read the last chunk's labels.
        labels = jnp.full((batch_size, 1), NO_LABEL, jnp.int32)
        image = self.image.initial_context(batch_size)
        return StreamState(labels=labels, context=context, image=image)

    def image_features(
        self, state: StreamState, chunk: Chunk
    ) -> tuple[StreamState, jax.Array]:
        """Returns the state after the image branch, and its output in evaluation:
        (B, T, D), or (B, T, h, w, D) for a 3D head."""
        image, features = self.image(state.image, chunk, train=False)
        return dataclasses.replace(state, image=image), features

    def ahead(self, state: StreamState) -> None:
        """Returns None: nothing about a chunk can be computed before its frames."""
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
        """Computes the next state and the logits of one chunk.

        Args:
            state: of the stream before this chunk.
            chunk: leaves (B, ...).
            train: use batch statistics, and compute METE's text features.
            ahead: None, see `ahead`.
            templates: (B, T) the template index of every step's fixed prompt; by
                default drawn with the rng "templates", or 0 if there is none.
        """
        del ahead
        valid = chunk.step_valid
        image, features = self.image(state.image, chunk, train=train)
        context, logits, projected = self.head(
            state.context, features, valid, train=train
        )
        state = dataclasses.replace(state, context=context, image=image)
        output = ChunkOutput(logits=logits)
        if self.text is None or not (train or self.is_initializing()):
            return state, output
        labels = prompts.prompt_labels(chunk.labels, self.clip_steps)
        if templates is None:
            templates = _draw_templates(self, labels.shape)
        scale = jnp.float32(LOGIT_SCALE)
        if self.train_logit_scale:
            scale = self.param("logit_scale", nn.initializers.constant(LOGIT_SCALE), ())
        return state, dataclasses.replace(
            output,
            image_features=projected,
            text_features=self.text(labels, templates),
            logit_scale=scale,
        )


def _draw_templates(module: nn.Module, shape) -> jax.Array:
    if not module.has_rng("templates"):
        return jnp.zeros(shape, jnp.int32)
    key = module.make_rng("templates")
    return parts.draw(lambda shape: prompts.draw_templates(key, shape), shape)
