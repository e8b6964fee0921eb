"""Puts chunks together: the one place where frames, labels and padding meet."""

from collections.abc import Iterable

import numpy as np

from data_pipeline import windows
from svtas_jax.structs import Chunk, StreamSpec


def black_frames(*shape: int, crop: int, feature_width: int = 0) -> np.ndarray:
    """Returns what padding shows: black pictures, or zeros in place of features.

    Args:
        shape: leading axes.
        crop: height and width of a picture.
        feature_width: numbers of a step's features; 0 for pictures.

    Returns:
        (*shape, crop, crop, 3) uint8, or (*shape, feature_width) float32.
    """
    if feature_width:
        return np.zeros((*shape, feature_width), np.float32)
    return np.zeros((*shape, crop, crop, 3), np.uint8)


def build_chunks(
    frames: Iterable[np.ndarray],
    plan: windows.WindowPlan,
    padding: np.ndarray,
    *,
    labels: np.ndarray,
    spec: StreamSpec,
    num_chunks: int,
    per_step: bool = False,
) -> Chunk:
    """Returns windows of one video as chunks, leaves (N, ...).

    Args:
        frames: one for every step of the plan that is not padding, in order.
        plan: of the N windows; the window at frame 0 starts a stream.
        padding: (N, T, ...) see `black_frames`; the frames are written into it.
        labels: (num_labels,) of the whole video; IGNORE_LABEL where unknown.
        spec: how the video is cut.
        num_chunks: windows of the whole video.
        per_step: see `windows.window_targets`.
    """
    targets, valid = windows.window_targets(labels, plan, spec, per_step=per_step)
    places = np.argwhere(plan.frames >= 0)
    for (window, step), frame in zip(places, frames, strict=True):
        padding[window, step] = frame
    return Chunk(
        frames=padding,
        labels=targets,
        valid=valid,
        starts=plan.starts == 0,
        num_chunks=np.full(len(plan.starts), num_chunks, np.int32),
    )


def empty_chunks(padding: np.ndarray, spec: StreamSpec) -> Chunk:
    """Returns N chunks without a video, leaves (N, ...); none starts a stream.

    Args:
        padding: (N, T, ...) see `black_frames`.
        spec: how videos are cut.
    """
    plan = windows.plan_windows(0, spec, first=1, count=len(padding))
    nothing = np.empty(0, np.int32)
    return build_chunks((), plan, padding, labels=nothing, spec=spec, num_chunks=1)


def blank_chunk(
    batch_size: int, spec: StreamSpec, crop: int, *, feature_width: int = 0
) -> Chunk:
    """Returns the first chunk of B black videos of class 0, leaves (B, ...).

    It shows the shapes of a chunk, to initialise or to compile a model.
    """
    plan = windows.plan_windows(spec.clip_frames, spec)
    padding = black_frames(1, spec.clip_steps, crop=crop, feature_width=feature_width)
    chunk = build_chunks(
        padding[0].copy(),
        plan,
        padding,
        labels=np.zeros(spec.clip_frames, np.int32),
        spec=spec,
        num_chunks=1,
    )
    return Chunk(
        **{name: np.repeat(leaf, batch_size, 0) for name, leaf in vars(chunk).items()}
    )
