"""Of which labels Transeger's prompts are made in training.

With the true labels alone (teacher forcing), a model meets its own mistakes at
inference for the first time. Two remedies: prompts of its own labels in a share of the
chunks (Bengio et al.: Scheduled Sampling for Sequence Prediction with Recurrent Neural
Networks, NeurIPS 2015), and mistakes drawn at random.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections

from svtas_jax.feedback import replace_labels, true_labels
from svtas_jax.models import prompts
from svtas_jax.models.transeger import told
from svtas_jax.runtime import parts
from svtas_jax.structs import IGNORE_LABEL, Chunk, Model, StreamState

MOST_MOVED_STEPS = 2  # how far noise moves a border


@dataclasses.dataclass(frozen=True)
class Prompting:
    """How the labels for the next chunk's prompts are chosen.

    Attributes:
        own_labels: share of the chunks with the model's own labels, in the end.
        first_step: optimizer step from which on there are any.
        ramp_steps: steps from there until the share is whole; 0: at once.
        label_noise: see `with_noise`.
    """

    own_labels: float = 0.0
    first_step: int = 0
    ramp_steps: int = 0
    label_noise: float = 0.0

    def share(self, step: jax.Array | int) -> jax.Array:
        """Returns the share of the chunks with own labels at an optimizer step, ()."""
        done = jnp.asarray(step) - self.first_step
        if not self.ramp_steps:
            return jnp.where(done >= 0, self.own_labels, 0.0)
        return self.own_labels * jnp.clip(done / self.ramp_steps, 0.0, 1.0)

    def choose(
        self,
        model: Model,
        stream: StreamState,
        chunk: Chunk,
        logits: jax.Array,
        key: jax.Array,
        step: jax.Array | int,
    ) -> StreamState:
        """Returns the state with the labels for the next chunk's prompts.

        Args:
            model: a Transeger.
            stream: after the chunk.
            chunk: leaves (B, ...).
            logits: (B, T, K) of the chunk.
            key: of the chunk; every slot draws for itself.
            step: optimizer steps done.
        """
        labels, scores = true_labels(chunk), None
        if self.label_noise:
            labels = with_noise(
                labels,
                jax.random.fold_in(key, 3),
                share=self.label_noise,
                num_classes=logits.shape[-1],
            )
        if self.own_labels:
            drawn = _uniform(jax.random.fold_in(key, 2), labels.shape[:1])
            is_own = drawn < self.share(step)
            own, scores = told(logits, stream.scores)  # as at inference
            if scores is not None:
                sure = jax.nn.one_hot(labels, logits.shape[-1], dtype=scores.dtype)
                scores = jnp.where(is_own[:, None, None], scores, sure)
            labels = jnp.where(is_own[:, None], own, labels)
        return replace_labels(model, stream, chunk, labels, scores)


def prompting_of(
    config: ml_collections.ConfigDict, steps_per_epoch: int
) -> Prompting | None:
    """Returns what `config.train` describes; None for the true labels alone."""
    train = config.train
    if not train.own_labels and not train.label_noise:
        return None
    return Prompting(
        own_labels=train.own_labels,
        first_step=train.own_labels_from * steps_per_epoch,
        ramp_steps=train.own_labels_ramp * steps_per_epoch,
        label_noise=train.label_noise,
    )


def with_noise(
    labels: jax.Array, key: jax.Array, *, share: float, num_classes: int
) -> jax.Array:
    """Returns labels with such mistakes as models make.

    Of the runs of equal labels, this share becomes wrong: half of them get another
    class, any with the same probability, and half the class of the run before, where
    there is one. Of the borders between runs, this share is moved by up to
    `MOST_MOVED_STEPS`, within the chunk.

    Args:
        labels: (B, T) int32 of a chunk's steps; rows with an IGNORE_LABEL stay.
        key: for all random numbers.
        share: 0..1.
        num_classes: K.
    """
    steps = jnp.arange(labels.shape[1])
    begins, classes = _runs(labels)
    wrong, merged, moved, other, distance = jax.random.split(key, 5)
    gap = _integers(other, labels.shape, 1, max(2, num_classes))
    mistaken = (classes + gap) % num_classes
    is_merged = (_uniform(merged, labels.shape) < 0.5) & (steps > 0)
    mistaken = jnp.where(is_merged, jnp.roll(classes, 1, axis=1), mistaken)
    is_wrong = _uniform(wrong, labels.shape) < share
    classes = jnp.where(is_wrong, mistaken, classes)
    size = _integers(distance, labels.shape, 1, 2 * MOST_MOVED_STEPS + 1)
    size = jnp.where(size > MOST_MOVED_STEPS, MOST_MOVED_STEPS - size, size)
    is_moved = (_uniform(moved, labels.shape) < share) & (begins < len(steps))
    is_moved &= steps > 0  # the first run begins with the chunk
    new = jnp.clip(begins + size, 1, len(steps) - 1)
    begins = jnp.where(is_moved, new, begins)
    run = jnp.sum(begins[:, None, :] <= steps[:, None], axis=-1) - 1
    noisy = jnp.take_along_axis(classes, run, axis=1)
    is_missing = jnp.any(labels == IGNORE_LABEL, axis=1, keepdims=True)
    return jnp.where(is_missing, labels, noisy)


def _runs(labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns of every run its first step, T for runs that there are not, and its
    class, both (B, T)."""
    num_steps = labels.shape[1]
    run, _ = prompts.run_lengths(labels)
    is_in = run[:, None, :] == jnp.arange(num_steps)[:, None]  # (B, run, step)
    first = jnp.argmax(is_in, axis=-1)
    classes = jnp.take_along_axis(labels, first, axis=1)
    return jnp.where(jnp.any(is_in, axis=-1), first, num_steps), classes


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return parts.draw(lambda shape: jax.random.uniform(key, shape), shape)


def _integers(
    key: jax.Array, shape: tuple[int, ...], first: int, end: int
) -> jax.Array:
    return parts.draw(lambda shape: jax.random.randint(key, shape, first, end), shape)
