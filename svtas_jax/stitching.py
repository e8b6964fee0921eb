"""From the windows of one video back to its frames, and from frames to segments.

Host-side and numpy only: it runs once a video, after the device has finished.
"""

import numpy as np

from svtas_jax.structs import Segment, StreamSpec


def stitch_scores(
    scores: np.ndarray, *, num_frames: int, spec: StreamSpec
) -> np.ndarray:
    """Returns the score of every raw frame of one video.

    Each step counts for the `frame_stride` frames that it stands for.

    Args:
        scores: (N, T, K) what the model gave for the N windows of the video.
        num_frames: true length of the video.
        spec: how the video was cut into windows.

    Returns:
        (num_frames, K) float32.
    """
    frames = np.repeat(np.asarray(scores), spec.frame_stride, axis=1)
    return stitch_frames(frames, num_frames=num_frames, hop=spec.hop)


def stitch_frames(windows: np.ndarray, *, num_frames: int, hop: int) -> np.ndarray:
    """Joins windows of full frame rate, cut at the video's true length.

    Where windows overlap the later one counts, so that a frame has the same score
    whether the video ends there or goes on.

    Args:
        windows: (N, F, K) scores of N windows, which start every `hop` frames.
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


def scores_to_labels(scores: np.ndarray) -> np.ndarray:
    """Returns the best class of every frame; among equals the first class wins.

    Args:
        scores: (..., K).

    Returns:
        (...,) int32.
    """
    return np.argmax(scores, axis=-1).astype(np.int32)


def scores_to_confidence(scores: np.ndarray) -> np.ndarray:
    """Returns the probability (softmax) of the best class of every frame.

    Args:
        scores: (..., K) what the model gave, unnormalised.

    Returns:
        (...,) float32 in 1/K..1.
    """
    scores = np.asarray(scores, np.float32)
    best = np.max(scores, axis=-1, keepdims=True)
    return 1 / np.sum(np.exp(scores - best), axis=-1)


def labels_to_segments(labels: np.ndarray) -> list[Segment]:
    """Returns the maximal runs of equal labels in their order of time.

    Args:
        labels: (num_frames,) integers.
    """
    labels = np.asarray(labels)
    if not labels.size:
        return []
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    borders = [0, *changes.tolist(), len(labels)]
    return [
        Segment(label=int(labels[start]), start=start, end=end)
        for start, end in zip(borders[:-1], borders[1:], strict=True)
    ]
