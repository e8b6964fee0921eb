"""The cross entropy of a frame's scores, and variants of it that may be combined."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from svtas_jax.structs import IGNORE_LABEL, Array

_LEAST_ERROR = 1e-7  # below it, focal factors with an exponent below 1 have no gradient


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """How the scores of a frame are compared with its label.

    Attributes:
        label_smoothing: share of the target that is spread over all classes (Szegedy et
            al., CVPR 2016).
        focal_gamma: a class's term is multiplied by one minus its probability, to the
            power of this (Lin et al.: Focal loss, ICCV 2017).
        shifts: added to the classes' logits, which evaluation does not do; see
            `prior_shifts`.
        border_frames: frames on each side of a border between two labels whose target
            mixes both; see `mix_at_borders`.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    shifts: tuple[float, ...] = ()
    border_frames: int = 0

    def of(self, log_probs: jax.Array, labels: Array) -> jax.Array:
        """Returns the cross entropy of every frame, (S, B, F).

        Args:
            log_probs: (S, B, F, K) float32.
            labels: (B, F) int32; where they are IGNORE_LABEL, results mean nothing.
        """
        if self.shifts:
            shifts = jnp.asarray(self.shifts, log_probs.dtype)
            log_probs = jax.nn.log_softmax(log_probs + shifts)
        terms = -log_probs
        if self.focal_gamma:
            error = jnp.maximum(-jnp.expm1(log_probs), _LEAST_ERROR)
            terms *= error**self.focal_gamma
        found = _term_of(terms, jnp.where(labels == IGNORE_LABEL, 0, labels))
        if self.border_frames:
            share, other = mix_at_borders(labels, self.border_frames)
            found = (1 - share) * found + share * _term_of(terms, other)
        if self.label_smoothing:
            spread = jnp.mean(terms, axis=-1)
            found = (1 - self.label_smoothing) * found + self.label_smoothing * spread
        return found


def _term_of(terms: jax.Array, labels: jax.Array) -> jax.Array:
    """Picks the labels' terms (S, B, F) of (S, B, F, K)."""
    target = jnp.broadcast_to(labels, terms.shape[:-1])[..., None]
    return jnp.take_along_axis(terms, target, axis=-1)[..., 0]


def mix_at_borders(labels: Array, radius: int) -> tuple[jax.Array, jax.Array]:
    """Returns how much of each frame's target is the label across the nearest border.

    The share falls linearly from one half at the border to 0 at `radius` frames from
    it, or at the middle of a segment that is shorter than twice that. Only borders
    within the chunk are seen, and a frame without a label has no part in any.

    Args:
        labels: (B, F) int32.
        radius: in frames.

    Returns:
        The shares, (B, F) float32, and the labels across, (B, F) int32.
    """
    last = labels.shape[1] - 1
    frames = jnp.broadcast_to(jnp.arange(last + 1), labels.shape)
    changes = labels[:, 1:] != labels[:, :-1]
    begins = jnp.pad(changes, ((0, 0), (1, 0)), constant_values=True)
    ends = jnp.pad(changes, ((0, 0), (0, 1)), constant_values=True)
    start = jax.lax.cummax(jnp.where(begins, frames, 0), axis=1)
    end = jax.lax.cummin(jnp.where(ends, frames, last), axis=1, reverse=True)
    before = jnp.take_along_axis(labels, jnp.maximum(start - 1, 0), axis=1)
    after = jnp.take_along_axis(labels, jnp.minimum(end + 1, last), axis=1)
    has_before = (start > 0) & (before != IGNORE_LABEL)
    has_after = (end < last) & (after != IGNORE_LABEL)
    middle = jnp.where(has_before & has_after, (end - start + 1) / 2, radius)
    reach = jnp.minimum(middle, radius)  # so that no frame is near two borders

    def share_at(distance, is_border):
        share = (1 - distance / reach) / 2
        return jnp.where(is_border, jnp.maximum(share, 0), 0)

    of_before = share_at(frames - start + 0.5, has_before)
    of_after = share_at(end - frames + 0.5, has_after)
    share = jnp.where(labels == IGNORE_LABEL, 0, of_before + of_after)
    other = jnp.where(of_before > 0, before, after)
    return share, jnp.where(share > 0, other, 0)


def prior_shifts(
    counts: Sequence[int] | np.ndarray, weight: float
) -> tuple[float, ...]:
    """Returns what logit adjustment adds to each class's logit in training.

    Menon et al.: Long-tail learning via logit adjustment, ICLR 2021. The scores of a
    model that was trained with a weight of 1 are those of classes that are equally
    frequent. A class that the training does not show counts as one frame.

    Args:
        counts: (K,) frames of each class.
        weight: factor of the logarithm of the classes' shares; at 0 there are no
            shifts.
    """
    if not weight:
        return ()
    counts = np.maximum(np.asarray(counts, np.float64), 1)
    return tuple((weight * np.log(counts / counts.sum())).tolist())


def cross_entropy_of(
    config: ml_collections.ConfigDict, counts: Sequence[int] | np.ndarray
) -> CrossEntropy:
    """Returns the cross entropy that `config.train` describes.

    Args:
        config: see `svtas_jax.config`.
        counts: (K,) frames of each class in the training videos.
    """
    train = config.train
    return CrossEntropy(
        label_smoothing=train.label_smoothing,
        focal_gamma=train.focal_gamma,
        shifts=prior_shifts(counts, train.logit_adjustment),
        border_frames=train.boundary_smoothing,
    )
