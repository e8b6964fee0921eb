"""From the windows of one video back to its frames, and from logits to labels.

Host-side and numpy only: it runs once a video, after the device has finished.
"""

import numpy as np

from svtas_jax.structs import StreamSpec


def stitch_steps(
    logits: np.ndarray, *, num_frames: int, spec: StreamSpec
) -> np.ndarray:
    """Returns the logits of every raw frame of one video.

    Each step counts for the `frame_stride` frames that it stands for.

    Args:
        logits: (N, T, K) of the N windows of the video.
        num_frames: true length of the video.
        spec: how the video was cut into windows.

    Returns:
        (num_frames, K) float32.
    """
    frames = np.repeat(np.asarray(logits), spec.frame_stride, axis=1)
    return stitch_frames(frames, num_frames=num_frames, hop=spec.hop)


def stitch_frames(windows: np.ndarray, *, num_frames: int, hop: int) -> np.ndarray:
    """Joins windows of full frame rate, cut at the video's true length.

    Where windows overlap the later one counts, so that a frame has the same logits
    whether the video ends there or goes on.

    Args:
        windows: (N, F, K) logits of N windows, which start every `hop` frames.
        num_frames: true length of the video.
        hop: raw frames from one window's start to the next.

    Returns:
        (num_frames, K) float32.
    """
    num_windows, window_frames, num_classes = windows.shape
    covered = (num_windows - 1) * hop + window_frames if num_windows else 0
    if hop > window_frames or covered < num_frames:
        raise ValueError(
            f"{num_windows} windows of {window_frames} frames every {hop} frames do "
            f"not cover a video of {num_frames} frames."
        )
    stitched = np.zeros((num_frames, num_classes), np.float32)
    for index, window in enumerate(windows):
        start = index * hop
        end = min(start + window_frames, num_frames)
        stitched[start:end] = window[: max(0, end - start)]
    return stitched


def logits_to_labels(logits: np.ndarray) -> np.ndarray:
    """Returns the best class of every frame; among equals the first class wins.

    Args:
        logits: (..., K).

    Returns:
        (...,) int32.
    """
    return np.argmax(logits, axis=-1).astype(np.int32)


def logits_to_scores(logits: np.ndarray) -> np.ndarray:
    """Returns the probability of every class (softmax), (..., K) float32 in 0..1."""
    logits = np.asarray(logits, np.float32)
    powers = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return powers / np.sum(powers, axis=-1, keepdims=True)


def logits_to_confidence(logits: np.ndarray) -> np.ndarray:
    """Returns the probability of the best class of every frame.

    Args:
        logits: (..., K).

    Returns:
        (...,) float32 in 1/K..1.
    """
    logits = np.asarray(logits, np.float32)
    best = np.max(logits, axis=-1, keepdims=True)
    return 1 / np.sum(np.exp(logits - best), axis=-1)
