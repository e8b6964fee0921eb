"""The losses of one chunk, as in SVTAS's public code. A video's chunk losses add up.

A chunk's loss is divided by the number of chunks of its video, so that all videos have
the same weight, however long they are.
"""

import jax
import jax.numpy as jnp
import optax

from svtas_jax.runtime import parts
from svtas_jax.structs import IGNORE_LABEL, Chunk, ChunkOutput
from svtas_jax.training.cross_entropy import CrossEntropy

SMOOTH_CLAMP = 16.0  # upper limit of squared log-probability changes, MS-TCN's tau^2
PLAIN = CrossEntropy()


def chunk_loss(
    output: ChunkOutput,
    chunk: Chunk,
    *,
    smooth_weight: float,
    clip_weight: float,
    entropy: CrossEntropy = PLAIN,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss of a chunk and its parts by name, all scalars.

    With several devices, these are a device's shares of the batch's.
    """
    stride = chunk.labels.shape[1] // output.logits.shape[2]
    logits = jnp.repeat(output.logits, stride, axis=2)
    segmentation = segmentation_loss(
        logits, chunk, smooth_weight=smooth_weight, entropy=entropy
    )
    if output.text_features is None:
        return segmentation, {"segmentation_loss": segmentation}
    # A model with a text feature also returns the image feature to compare with.
    assert output.image_features is not None and output.logit_scale is not None
    contrast = clip_loss(
        output.image_features, output.text_features, output.logit_scale, chunk
    )
    parts = {"segmentation_loss": segmentation, "clip_loss": contrast}
    return segmentation + clip_weight * contrast, parts


def segmentation_loss(
    logits: jax.Array,
    chunk: Chunk,
    *,
    smooth_weight: float,
    class_weights: jax.Array | None = None,
    entropy: CrossEntropy = PLAIN,
) -> jax.Array:
    """Returns cross entropy plus truncated smoothing of log-probabilities over time.

    Abu Farha, Gall: MS-TCN, CVPR 2019, normalised as in SVTAS's public code: the cross
    entropy is divided by the number of labels in the batch, the smoothing is a mean,
    and both are divided by the number of chunks of each video.

    Args:
        logits: (S, B, F, K) at full rate; the stages' losses sum.
        chunk: labels, valid, num_chunks.
        smooth_weight: factor of the smoothing.
        class_weights: (K,) factors of each class's cross entropy.
        entropy: how a frame's scores are compared with its label.
    """
    logits = logits.astype(jnp.float32)
    labelled = chunk.labels != IGNORE_LABEL
    log_probs = jax.nn.log_softmax(logits)
    cross_entropy = entropy.of(log_probs, chunk.labels)
    if class_weights is not None:
        cross_entropy *= class_weights[jnp.where(labelled, chunk.labels, 0)]
    cross_entropy = jnp.where(labelled, cross_entropy, 0)
    num_labels, num_slots = parts.total((jnp.sum(labelled), len(labelled)))
    num_labels = jnp.maximum(num_labels, 1)
    ce = jnp.sum(jnp.sum(cross_entropy, -1) / chunk.num_chunks, -1) / num_labels
    change = log_probs[:, :, 1:] - jax.lax.stop_gradient(log_probs[:, :, :-1])
    change = jnp.minimum(jnp.square(change), SMOOTH_CLAMP)
    change = jnp.where(chunk.valid[:, 1:, None], change, 0)
    smooth = jnp.mean(change, (-2, -1)) / chunk.num_chunks
    smooth = jnp.sum(smooth, -1) / num_slots
    return jnp.sum(ce + smooth_weight * smooth)


def clip_loss(
    image: jax.Array, text: jax.Array, logit_scale: jax.Array, chunk: Chunk
) -> jax.Array:
    """Returns CLIP's contrastive loss between the image and text features of the steps.

    Radford et al.: CLIP, ICML 2021, over the T steps of each video's chunk instead of
    the samples of a batch. Invalid steps remain among the negatives, as in SVTAS's
    public code.

    Args:
        image, text: (B, T, D).
        logit_scale: () natural logarithm of the scale.
        chunk: valid, num_chunks.
    """
    valid = chunk.step_valid
    image, text = _unit(image), _unit(text)
    logits = jnp.exp(logit_scale) * jnp.einsum("btd,bsd->bts", image, text)
    own = jnp.broadcast_to(jnp.arange(logits.shape[-1]), valid.shape)
    both = [
        optax.softmax_cross_entropy_with_integer_labels(directed, own)
        for directed in (logits, jnp.swapaxes(logits, 1, 2))
    ]
    per_step = jnp.where(valid, sum(both) / 2, 0)
    per_video = jnp.sum(per_step, axis=-1) / chunk.num_chunks
    num_valid = parts.total(jnp.sum(chunk.valid))
    return jnp.sum(per_video) / jnp.maximum(num_valid, 1)


def _unit(x: jax.Array) -> jax.Array:
    """Scales vectors to length 1, as PyTorch does: lengths below 1e-10 count as 1e-10.

    A zero vector (an invalid step) stays zero. Its gradient is huge but finite, unlike
    that of x / norm(x), and the mask of the loss then removes it.
    """
    x = x.astype(jnp.float32)
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return x / jnp.maximum(length, 1e-10)
