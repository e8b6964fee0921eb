"""Transeger for one step at a time: its scores do not depend on how frames are fed."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from svtas_jax.models.convolution import steps_at
from svtas_jax.models.transeger import Transeger, history_after, told
from svtas_jax.structs import IGNORE_LABEL, NO_LABEL, Chunk, ChunkOutput, StreamState


class CausalTranseger(Transeger):
    """Transeger whose chunks have any number of steps, the valid ones first.

    The text features are those of the stream's last full `clip_steps` steps, counted
    from its start. A call computes its steps in pieces: one ends where such a chunk is
    full. In training, a call is one chunk from its first step on. With `within_chunk`,
    no call computes a step beyond the end of the running chunk.
    """

    within_chunk: bool = False
    causal = True

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` new streams."""
        return dataclasses.replace(
            super().initial_state(batch_size),
            running=jnp.full((batch_size, self.clip_steps), NO_LABEL, jnp.int32),
            position=jnp.zeros(batch_size, jnp.int32),
            running_scores=self.no_scores(batch_size),
        )

    @nn.compact
    def __call__(
        self,
        state: StreamState,
        chunk: Chunk,
        *,
        train: bool = False,
        ahead: jax.Array | None = None,
    ) -> tuple[StreamState, ChunkOutput]:
        """Computes the next state and the logits; arguments as in `Transeger`."""
        context, image = self.project_image(state.image, chunk, train=train)
        state = dataclasses.replace(state, image=context)
        count = jnp.sum(chunk.step_valid, axis=1, dtype=jnp.int32)
        if ahead is None:
            ahead = self.told_features(state)
        given = _step_labels(chunk) if train else None
        done = jnp.minimum(self.clip_steps - _running(state)[1], count)
        state, logits = self.piece(state, ahead, image, done, given=given)

        def go_on(module, carry):
            return module.next_piece(image, count, *carry)

        num_steps = image.shape[1]
        is_aligned = train or self.is_initializing() or self.within_chunk
        borders = 0 if is_aligned else -(-(num_steps - 1) // self.clip_steps)
        carry = state, logits, done
        for _ in range(borders):
            carry = nn.cond(
                jnp.any(carry[2] < count),
                go_on,
                lambda _, carry: carry,
                self,
                carry,
                variables=("params", "batch_stats"),  # captures nothing, see cost.macs
            )
        state, logits, _ = carry
        return state, ChunkOutput(logits=logits)

    @nn.nowrap
    def piece(
        self,
        state: StreamState,
        text: jax.Array,
        image: jax.Array,
        count: jax.Array,
        *,
        given: jax.Array | None = None,
    ) -> tuple[StreamState, jax.Array]:
        """Computes steps that lie in one chunk, and ends the chunk if it is full.

        Args:
            state: before the steps.
            text: (B, clip_steps, features) of the chunk.
            image: (B, T, features).
            count: (B,) how many of the T steps are computed.
            given: (B, T) the true labels, in training.

        Returns:
            The next state, and logits (S, B, T, K), zero in the other steps.
        """
        running, position = _running(state)
        valid = jnp.arange(image.shape[1]) < count[:, None]
        context, logits = self.joint(
            state.context,
            image,
            text,
            valid,
            train=given is not None,
            position=position,
        )
        found = told(logits[-1], state.scores, given)
        index = jnp.arange(self.clip_steps) - position[:, None]
        is_new = (index >= 0) & (index < count[:, None])
        # Of both, but None if there are no probabilities.
        running, running_scores = jax.tree.map(
            lambda new, old: _choose(is_new, steps_at(new, index), old),
            found,
            (running, state.running_scores),
        )
        position = position + count
        is_full = position == self.clip_steps
        labels, scores, history = jax.tree.map(
            lambda new, old: _choose(is_full, new, old),
            (running, running_scores, history_after(state)),
            (state.labels, state.scores, state.history),
        )
        return dataclasses.replace(
            state,
            context=context,
            running=running,
            running_scores=running_scores,
            labels=labels,
            scores=scores,
            position=jnp.where(is_full, 0, position),
            history=history,
        ), logits

    @nn.nowrap
    def next_piece(
        self,
        image: jax.Array,
        count: jax.Array,
        state: StreamState,
        logits: jax.Array,
        done: jax.Array,
    ) -> tuple[StreamState, jax.Array, jax.Array]:
        """Computes the steps after the first `done` (B,), up to the next full chunk.

        Args:
            image: (B, T, features).
            count: (B,) the number of valid steps.
            state: after `done` steps.
            logits: (S, B, T, K) of these.
            done: see above.

        Returns:
            state, logits and done, after this piece.
        """
        text = self.told_features(state)
        steps = jnp.arange(image.shape[1])
        more = jnp.minimum(self.clip_steps - _running(state)[1], count - done)
        own = steps_at(image, steps + done[:, None])
        state, own_logits = self.piece(state, text, own, more)
        index = steps - done[:, None]
        back = jax.vmap(steps_at, in_axes=(0, None))(own_logits, index)
        is_own = (index >= 0) & (index < more[:, None])
        return state, jnp.where(is_own[..., None], back, logits), done + more


def _running(state: StreamState) -> tuple[jax.Array, jax.Array]:
    """Returns labels and number of the steps since the last full chunk."""
    assert state.running is not None and state.position is not None  # `initial_state`
    return state.running, state.position


def _choose(where: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Returns `new` where a flag of the leading axes is True, else `old`."""
    return jnp.where(
        where.reshape(where.shape + (1,) * (old.ndim - where.ndim)), new, old
    )


def _step_labels(chunk: Chunk) -> jax.Array:
    """Returns the true labels (B, T) of the steps, IGNORE_LABEL where that of any raw
    frame of a step is missing: then the whole chunk has no prompt, as in
    `prompts.prompt_labels`."""
    labels = chunk.labels.reshape(*chunk.step_valid.shape, -1)
    is_missing = jnp.any(labels == IGNORE_LABEL, axis=-1)
    return jnp.where(is_missing, IGNORE_LABEL, labels[..., 0])
