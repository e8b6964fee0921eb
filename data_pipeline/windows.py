"""Cuts videos into windows: index arithmetic only, no files and no pictures.

Axes: N windows of a video, T decoded steps in a window, F raw frames in a window.
"""

import dataclasses

import numpy as np

from svtas_jax.structs import IGNORE_LABEL, StreamSpec


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """Which raw frames the windows of one video hold.

    Attributes:
        frames: (N, T) int32, raw frame index of every decoded step, -1 is padding.
        valid: (N, F) bool, True where a frame has both a picture and a label.
        starts: (N,) int32, raw frame at which a window starts.
    """

    frames: np.ndarray
    valid: np.ndarray
    starts: np.ndarray


def num_windows(num_frames: int, spec: StreamSpec) -> int:
    """Returns how many windows cover `num_frames` raw frames; the last may be short."""
    return -(-num_frames // spec.hop)


def plan_windows(
    num_frames: int,
    spec: StreamSpec,
    *,
    num_labels: int | None = None,
    first: int = 0,
    count: int | None = None,
) -> WindowPlan:
    """Plans the windows of a video.

    Args:
        num_frames: pictures in the video.
        spec: window length and stride.
        num_labels: lines of the label file; they determine the number of windows.
            Defaults to `num_frames`.
        first: index of the first window.
        count: number of windows, by default all from `first` on; windows past the end
            of the video are padding.
    """
    if num_labels is None:
        num_labels = num_frames
    if count is None:
        count = max(0, num_windows(num_labels, spec) - first)
    starts = np.arange(first, first + count, dtype=np.int32) * np.int32(spec.hop)
    positions = starts[:, None] + np.arange(spec.clip_frames, dtype=np.int32)
    steps = positions[:, :: spec.frame_stride]
    frames = np.where(steps < num_frames, steps, np.int32(-1))
    # The labels determine where a video ends: windows after their last are padding.
    frames[max(0, num_windows(num_labels, spec) - first) :] = -1
    return WindowPlan(frames, positions < min(num_frames, num_labels), starts)


def step_valid(valid: np.ndarray, spec: StreamSpec) -> np.ndarray:
    """Converts validity of raw frames (..., F) to decoded steps (..., T), both bool."""
    return valid[..., :: spec.frame_stride]


def window_labels(
    labels: np.ndarray, plan: WindowPlan, spec: StreamSpec, *, per_step: bool
) -> np.ndarray:
    """Returns only the labels of `window_targets`, (N, F) int32."""
    return window_targets(labels, plan, spec, per_step=per_step)[0]


def window_targets(
    labels: np.ndarray, plan: WindowPlan, spec: StreamSpec, *, per_step: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the labels of a video into windows and marks which are valid.

    Args:
        labels: (num_labels,) class of every raw frame of the video.
        plan: the windows of the same video.
        spec: window length and stride.
        per_step: True repeats label and validity of every decoded step `frame_stride`
            times, for training; False gives every raw frame its own. Their validity
            differs only in a video's last step.

    Returns:
        labels (N, F) int32, IGNORE_LABEL where there is no frame; valid (N, F) bool.
    """
    positions = plan.starts[:, None] + np.arange(spec.clip_frames)
    valid = plan.valid
    if per_step:
        positions = np.repeat(step_valid(positions, spec), spec.frame_stride, axis=-1)
        valid = np.repeat(step_valid(valid, spec), spec.frame_stride, axis=-1)
    padded = np.append(np.asarray(labels, np.int32), np.int32(IGNORE_LABEL))
    return padded[np.where(valid, positions, -1)], valid
