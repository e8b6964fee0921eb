"""Variants of a frame's cross entropy against plain loops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.config import default_config
from svtas_jax.structs import IGNORE_LABEL, Chunk, VideoRecord
from svtas_jax.training import losses
from svtas_jax.training.cross_entropy import (
    CrossEntropy,
    cross_entropy_of,
    mix_at_borders,
    prior_shifts,
)
from svtas_jax.training.data import TrainingData

NUM_CLASSES = 4
LABELS = np.array([[0, 0, 0, 1, 1, 1, 1, 2], [3, 1, 1, 1, -100, -100, -100, -100]])
COUNTS = (700, 200, 100, 0)


def softmax(x):
    exp = np.exp(x - x.max())
    return exp / exp.sum()


def plain_target(labels, frame, radius):
    """Shares of the classes in a frame's target, from the definition."""
    target = np.eye(NUM_CLASSES)[labels[frame]]
    runs = [list(run) for _, run in itertools.groupby(range(len(labels)), labels.item)]
    at = next(n for n, run in enumerate(runs) if frame in run)
    run = runs[at]
    near = [n for n in (at - 1, at + 1) if 0 <= n < len(runs)]
    near = [n for n in near if labels[runs[n][0]] != IGNORE_LABEL]
    reach = min(radius, len(run) / 2) if len(near) == 2 else radius
    for n in near if radius else ():
        border = run[0] - 0.5 if n < at else run[-1] + 0.5
        share = max(0, 0.5 - abs(frame - border) / reach / 2)
        target += share * (
            np.eye(NUM_CLASSES)[labels[runs[n][0]]] - np.eye(NUM_CLASSES)[labels[frame]]
        )
    return target


def plain_loss(logits, labels, smoothing=0.0, gamma=0.0, weight=0.0, radius=0):
    """Cross entropy of each frame, (S, B, F), one frame at a time in float64."""
    counts = np.maximum(COUNTS, 1)
    shifts = weight * np.log(counts / counts.sum())
    found = np.zeros(logits.shape[:3])
    for stage, video, frame in np.ndindex(found.shape):
        if labels[video, frame] == IGNORE_LABEL:
            continue
        target = plain_target(labels[video], frame, radius)
        target = (1 - smoothing) * target + smoothing / NUM_CLASSES
        p = softmax(logits[stage, video, frame].astype(np.float64) + shifts)
        found[stage, video, frame] = -np.sum(target * (1 - p) ** gamma * np.log(p))
    return found


def random_logits(seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=(2, 2, 8, NUM_CLASSES))).astype(np.float32)


def chunk_of(labels):
    return Chunk(
        frames=jnp.zeros((2, 8, 1)),
        labels=jnp.asarray(labels, jnp.int32),
        valid=jnp.asarray(labels != IGNORE_LABEL),
        starts=jnp.zeros(2, bool),
        num_chunks=jnp.array([3, 7], jnp.int32),
    )


@functools.partial(jax.jit, static_argnums=1)
def loss_of(logits, entropy):
    chunk = chunk_of(LABELS)
    return losses.segmentation_loss(logits, chunk, smooth_weight=0.15, entropy=entropy)


VARIANTS = {
    "label smoothing": dict(smoothing=0.2),
    "focal": dict(gamma=2.0),
    "focal, concave": dict(gamma=0.5),
    "adjusted": dict(weight=1.5),
    "borders": dict(radius=3),
    "all": dict(smoothing=0.1, gamma=1.5, weight=0.5, radius=2),
}


def entropy_of(smoothing=0.0, gamma=0.0, weight=0.0, radius=0):
    config = default_config()
    config.train.update(label_smoothing=smoothing, focal_gamma=gamma)
    config.train.update(logit_adjustment=weight, boundary_smoothing=radius)
    return cross_entropy_of(config, COUNTS)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_each_variant_equals_a_plain_loop(variant):
    logits = random_logits()
    expected = plain_loss(logits, LABELS, **variant)
    plain = plain_loss(logits, LABELS)
    assert np.abs(expected - plain).max() > 0.05
    # The smoothing over time is that of the scores as they are, and is not changed.
    found = loss_of(logits, entropy_of(**variant)) - loss_of(logits, CrossEntropy())
    difference = np.sum(expected - plain, axis=(0, 2)) / [3, 7]
    np.testing.assert_allclose(
        float(found), difference.sum() / np.sum(LABELS >= 0), rtol=1e-4, atol=1e-6
    )


def papers_loss(logits, chunk):
    """What the paper's code computes, in the same order."""
    labelled = chunk.labels != IGNORE_LABEL
    labels = jnp.where(labelled, chunk.labels, 0)
    log_probs = jax.nn.log_softmax(logits)
    target = jnp.broadcast_to(labels, logits.shape[:-1])[..., None]
    entropy = -jnp.take_along_axis(log_probs, target, axis=-1)[..., 0]
    entropy = jnp.where(labelled, entropy, 0)
    ce = jnp.sum(jnp.sum(entropy, -1) / chunk.num_chunks, -1) / jnp.sum(labelled)
    change = log_probs[:, :, 1:] - jax.lax.stop_gradient(log_probs[:, :, :-1])
    change = jnp.minimum(jnp.square(change), 16.0)
    change = jnp.where(chunk.valid[:, 1:, None], change, 0)
    smooth = jnp.mean(change, (-2, -1)) / chunk.num_chunks
    return jnp.sum(ce + 0.15 * jnp.sum(smooth, -1) / 2)


def test_the_default_is_the_papers_loss_bit_for_bit():
    entropy = entropy_of()
    assert entropy == CrossEntropy()
    ours = jax.jit(jax.value_and_grad(lambda x: loss_of(x, entropy)))
    theirs = jax.jit(jax.value_and_grad(lambda x: papers_loss(x, chunk_of(LABELS))))
    for seed in range(3):
        logits = random_logits(seed)
        jax.tree.map(np.testing.assert_array_equal, ours(logits), theirs(logits))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_steps_without_a_label_change_nothing_and_gradients_are_finite(variant):
    entropy = entropy_of(**variant)
    gradient_of = jax.jit(jax.value_and_grad(lambda x: loss_of(x, entropy)))
    logits = random_logits(scale=40.0)  # some errors vanish
    loss, gradient = gradient_of(logits)
    assert np.all(np.isfinite(gradient)) and np.isfinite(loss)
    invalid = np.broadcast_to((LABELS < 0)[None, :, :, None], logits.shape)
    assert np.all(gradient[invalid] == 0) and np.any(gradient[1, 1, :4] != 0)
    broken, _ = gradient_of(np.where(invalid, np.nan, logits))
    assert broken == loss


mix = jax.jit(mix_at_borders, static_argnums=1)
LINES = st.lists(st.sampled_from([0, 1, 2, 3, IGNORE_LABEL]), min_size=8, max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(LINES, min_size=2, max_size=2), st.integers(1, 5))
def test_targets_mix_at_borders_as_defined(lines, radius):
    labels = np.array(lines)
    share, other = map(np.asarray, mix(labels, radius))
    assert np.all((share >= 0) & (share < 0.5))
    for video, frame in np.ndindex(labels.shape):
        own = labels[video, frame]
        if own == IGNORE_LABEL:
            assert share[video, frame] == 0
            continue
        target = (1 - share[video, frame]) * np.eye(NUM_CLASSES)[own]
        target += share[video, frame] * np.eye(NUM_CLASSES)[other[video, frame]]
        expected = plain_target(labels[video], frame, radius)
        np.testing.assert_allclose(target, expected, atol=1e-6)


def test_a_border_is_half_and_half_and_fades():
    share, other = mix(np.array([[5] * 4 + [7] * 4]), 2)
    np.testing.assert_allclose(share[0], [0, 0, 1 / 8, 3 / 8, 3 / 8, 1 / 8, 0, 0])
    assert other[0, 2:6].tolist() == [7, 7, 5, 5]


def test_classes_are_counted_in_the_videos_to_train_on_alone():
    records = [
        VideoRecord(str(n), "", np.array(labels, np.int32), 15.0)
        for n, labels in enumerate(([0, 0, 1], [1, 3, 3, 3], [2, 2]))
    ]
    data = TrainingData(tuple("abcde"), tuple(records[:2]), tuple(records[2:]))
    assert data.class_counts.tolist() == [2, 2, 0, 3, 0]


def test_adjusted_scores_are_those_of_equally_frequent_classes():
    """A model without inputs learns the shifts, and is left with equal scores."""
    counts = np.array([7, 2, 1])
    shifts = prior_shifts(counts, 1.0)
    np.testing.assert_allclose(np.exp(shifts), counts / 10)
    labels = jnp.asarray(np.repeat(np.arange(3), counts))[None]
    entropy = CrossEntropy(shifts=shifts)

    def loss(logits):
        log_probs = jax.nn.log_softmax(jnp.broadcast_to(logits, (1, 1, 10, 3)))
        return jnp.mean(entropy.of(log_probs, labels))

    np.testing.assert_allclose(jax.grad(loss)(jnp.zeros(3)), 0, atol=1e-6)
    assert (
        prior_shifts(counts, 0.0) == () and np.isfinite(prior_shifts((3, 0), 1)).all()
    )
