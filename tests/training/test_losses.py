"""The losses against plain loops, and what must not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax.structs import IGNORE_LABEL, Chunk, ChunkOutput
from svtas_jax.training import losses

TOLERANCE = 1e-5  # of float32 sums in another order
NUM_CLASSES = 5
NUM_FRAMES = 12
NUM_CHUNKS = (3, 7)


def assert_near(ours, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(float(ours), float(expected), rtol=tolerance)


def make_chunk(num_valid=(NUM_FRAMES, NUM_FRAMES), seed=0, num_steps=NUM_FRAMES):
    rng = np.random.default_rng(seed)
    valid = np.arange(NUM_FRAMES) < np.array(num_valid)[:, None]
    labels = rng.integers(0, NUM_CLASSES, valid.shape)
    return Chunk(
        frames=jnp.zeros((2, num_steps, 1, 1, 3)),
        labels=jnp.asarray(np.where(valid, labels, IGNORE_LABEL), jnp.int32),
        valid=jnp.asarray(valid),
        starts=jnp.zeros(2, bool),
        num_chunks=jnp.array(NUM_CHUNKS, jnp.int32),
    )


def random_logits(num_stages=2, seed=1, scale=3.0):
    rng = np.random.default_rng(seed)
    shape = (num_stages, 2, NUM_FRAMES, NUM_CLASSES)
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


@jax.jit
def loss_and_gradient(logits, chunk):
    def loss(logits):
        return losses.segmentation_loss(logits, chunk, smooth_weight=0.15)

    return jax.value_and_grad(loss)(logits)


def plain_segmentation_loss(logits, chunk, smooth_weight, class_weights=None):
    """The formula of the public code, one frame at a time, in float64."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(chunk.labels)
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    log_scores = np.log(exp / exp.sum(-1, keepdims=True))
    weights = np.ones(NUM_CLASSES) if class_weights is None else class_weights
    num_labels = max(1, np.sum(labels != IGNORE_LABEL))
    total = 0.0
    for stage in log_scores:
        for video, num_chunks in enumerate(NUM_CHUNKS):
            for frame, label in enumerate(labels[video]):
                if label != IGNORE_LABEL:
                    entropy = -weights[label] * stage[video, frame, label]
                    total += entropy / num_chunks / num_labels
            change = np.square(np.diff(stage[video], axis=0)).clip(max=16)
            change = change * np.asarray(chunk.valid)[video, 1:, None]
            total += smooth_weight * change.mean() / num_chunks / 2
    return total


@pytest.mark.parametrize("num_valid", [(12, 12), (12, 5), (0, 1), (0, 0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_segmentation_loss_equals_a_plain_loop(num_valid, weighted):
    chunk, logits = make_chunk(num_valid), random_logits()
    weights = np.linspace(0.5, 2, NUM_CLASSES) if weighted else None
    loss = losses.segmentation_loss(
        logits,
        chunk,
        smooth_weight=0.5,
        class_weights=None if weights is None else jnp.asarray(weights, jnp.float32),
    )
    expected = plain_segmentation_loss(logits, chunk, 0.5, weights)
    assert_near(loss, expected)


def test_padded_frames_change_neither_loss_nor_gradient():
    chunk, logits = make_chunk((12, 5)), random_logits()
    loss, gradient = loss_and_gradient(logits, chunk)
    assert np.all(gradient[:, 1, 5:] == 0) and np.any(gradient[:, 1, :5] != 0)
    padded = ~np.asarray(chunk.valid)[None, :, :, None]
    other = jnp.where(padded, random_logits(seed=9), logits)
    again, same = loss_and_gradient(other, chunk)
    assert_near(again, loss)
    np.testing.assert_allclose(same, gradient, atol=TOLERANCE)


def test_a_chunk_of_padding_only_costs_nothing():
    loss, gradient = loss_and_gradient(random_logits(), make_chunk((0, 0)))
    assert loss == 0 and np.all(gradient == 0)


def test_videos_and_classes_have_no_order():
    chunk, logits = make_chunk((12, 7)), random_logits()
    loss, _ = loss_and_gradient(logits, chunk)
    turned = jax.tree.map(lambda leaf: leaf[::-1], chunk)
    swapped, _ = loss_and_gradient(logits[:, ::-1], turned)
    assert_near(swapped, loss)
    new_of_old = np.array([3, 0, 4, 1, 2])
    labels = np.asarray(chunk.labels)
    renamed = np.where(
        labels == IGNORE_LABEL, labels, new_of_old[np.maximum(labels, 0)]
    )
    renamed_logits = logits[..., np.argsort(new_of_old)]
    named, _ = loss_and_gradient(
        renamed_logits, chunk.replace(labels=jnp.asarray(renamed))
    )
    assert_near(named, loss)


def test_stages_sum_and_long_videos_weigh_less():
    chunk, logits = make_chunk(), random_logits()
    both, _ = loss_and_gradient(logits, chunk)
    alone = [loss_and_gradient(logits[s : s + 1], chunk)[0] for s in range(2)]
    assert_near(sum(map(float, alone)), both)
    longer = chunk.replace(num_chunks=2 * chunk.num_chunks)
    half, _ = loss_and_gradient(logits, longer)
    assert_near(half, both / 2)


def test_the_frame_before_gets_no_gradient_of_the_smoothing():
    chunk = make_chunk()
    unlabelled = chunk.replace(labels=jnp.full_like(chunk.labels, IGNORE_LABEL))
    logits = jnp.zeros((1, 2, NUM_FRAMES, NUM_CLASSES)).at[:, :, 6:, 0].set(1.0)
    _, gradient = loss_and_gradient(logits, unlabelled)
    np.testing.assert_array_equal(
        np.flatnonzero(np.any(np.asarray(gradient[0, 0]) != 0, axis=-1)), [6]
    )


def test_large_jumps_are_cut_and_give_no_gradient():
    chunk = make_chunk()
    unlabelled = chunk.replace(labels=jnp.full_like(chunk.labels, IGNORE_LABEL))
    logits = jnp.zeros((1, 2, NUM_FRAMES, 2)).at[:, :, 6:, 0].set(40.0)
    loss, gradient = loss_and_gradient(logits, unlabelled)
    jumps = losses.SMOOTH_CLAMP + np.log(2) ** 2  # the other class; the winner
    share = jumps / (2 * (NUM_FRAMES - 1))
    expected = 0.15 * share * np.mean(1 / np.array(NUM_CHUNKS))
    assert_near(loss, expected, 1e-4)
    assert np.all(np.isfinite(gradient))


def plain_clip_loss(image, text, log_scale, chunk):
    """Cross entropy of every step to its own text and back, in float64."""
    total = 0.0
    for video, num_chunks in enumerate(NUM_CHUNKS):
        units = [
            x[video] / np.linalg.norm(x[video], axis=-1, keepdims=True)
            for x in (np.asarray(image, np.float64), np.asarray(text, np.float64))
        ]
        logits = np.exp(log_scale) * units[0] @ units[1].T
        steps = len(logits)
        for step in np.flatnonzero(np.asarray(chunk.valid)[video, :: 12 // steps]):
            for row in (logits[step], logits[:, step]):
                entropy = np.log(np.exp(row).sum()) - row[step]
                total += entropy / 2 / num_chunks
    return total / max(1, np.sum(chunk.valid))


@pytest.mark.parametrize("num_valid", [(12, 12), (12, 6), (0, 0)])
def test_clip_loss_equals_a_plain_loop(num_valid):
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, 2, 6, 4)).astype(np.float32)
    chunk = make_chunk(num_valid, num_steps=6)
    loss = losses.clip_loss(image, text, jnp.float32(1.5), chunk)
    expected = plain_clip_loss(image, text, 1.5, chunk)
    assert_near(loss, expected)


def test_clip_loss_prefers_features_that_match_and_ignores_their_length():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 4)), jnp.float32)
    chunk = make_chunk(num_steps=6)
    scale = jnp.float32(3.0)
    same = losses.clip_loss(image, image, scale, chunk)
    assert same < losses.clip_loss(image, image[:, ::-1], scale, chunk)
    longer = losses.clip_loss(5 * image, image / 3, scale, chunk)
    assert_near(longer, same, 1e-4)


def test_zero_features_of_padded_steps_give_finite_gradients():
    chunk = make_chunk((12, 6), num_steps=6)
    rng = np.random.default_rng(0)
    image, text = jnp.asarray(rng.normal(size=(2, 2, 6, 4)), jnp.float32)
    valid = chunk.valid[:, ::2, None]

    def loss(image):
        masked = jnp.where(valid, image, 0)
        return losses.clip_loss(masked, text, jnp.float32(1.0), chunk)

    gradient = np.asarray(jax.grad(loss)(image))
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient[1, 3:] == 0) and np.all(np.any(gradient[0] != 0, axis=-1))


def test_chunk_loss_adds_the_parts_a_model_gives():
    chunk = make_chunk(num_steps=6)
    logits = random_logits()[:, :, ::2]
    rng = np.random.default_rng(0)
    image, text = jnp.asarray(rng.normal(size=(2, 2, 6, 4)), jnp.float32)
    weights = dict(smooth_weight=0.15, clip_weight=0.5)
    alone, parts = losses.chunk_loss(ChunkOutput(logits), chunk, **weights)
    assert set(parts) == {"segmentation_loss"}
    full_rate, _ = loss_and_gradient(jnp.repeat(logits, 2, axis=2), chunk)
    assert_near(alone, full_rate)
    output = ChunkOutput(logits, image, text, jnp.float32(1.0))
    both, parts = losses.chunk_loss(output, chunk, **weights)
    clip = losses.clip_loss(image, text, jnp.float32(1.0), chunk)
    assert_near(parts["clip_loss"], clip)
    assert_near(both, alone + 0.5 * clip)
