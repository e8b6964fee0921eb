"""How a video is cut into windows: index arithmetic only, no files and no pictures.

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
    """

    frames: np.ndarray
    valid: np.ndarray


def num_windows(num_frames: int, spec: StreamSpec) -> int:
    """Returns how many windows cover `num_frames` raw frames; the last may be short."""
    return -(-num_frames // spec.hop)


def plan_windows(
    num_frames: int, spec: StreamSpec, *, num_labels: int | None = None
) -> WindowPlan:
    """Plans all windows of a video.

    Args:
        num_frames: pictures in the video.
        spec: how videos are cut.
        num_labels: lines of the label file; they decide the number of windows.
            Defaults to `num_frames`.
    """
    if num_labels is None:
        num_labels = num_frames
    starts = np.arange(num_windows(num_labels, spec), dtype=np.int32)[:, None]
    positions = starts * spec.hop + np.arange(spec.clip_frames, dtype=np.int32)
    steps = positions[:, :: spec.frame_stride]
    return WindowPlan(
        frames=np.where(steps < num_frames, steps, np.int32(-1)),
        valid=positions < min(num_frames, num_labels),
    )


def step_valid(valid: np.ndarray, spec: StreamSpec) -> np.ndarray:
    """Returns (..., T) bool of (..., F) bool: which decoded steps are real."""
    return valid[..., :: spec.frame_stride]


def window_labels(
    labels: np.ndarray, plan: WindowPlan, spec: StreamSpec, *, per_step: bool
) -> np.ndarray:
    """Cuts the labels of a video into its windows.

    Args:
        labels: (num_labels,) class of every raw frame.
        plan: of the same video.
        spec: how videos are cut.
        per_step: True repeats the labels of the decoded steps `frame_stride` times,
            as training wants; False gives every raw frame its own label.

    Returns:
        (N, F) int32, IGNORE_LABEL where there is no frame.
    """
    return window_targets(labels, plan, spec, per_step=per_step)[0]


def window_targets(
    labels: np.ndarray, plan: WindowPlan, spec: StreamSpec, *, per_step: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `window_labels` and the validity that belongs to them.

    A step is real as a whole in training (`per_step`), so the two validities differ in
    the last step of a video: evaluation counts every raw frame.

    Returns:
        labels (N, F) int32 and valid (N, F) bool.
    """
    num_plan, clip_frames = plan.valid.shape
    positions = np.arange(num_plan)[:, None] * spec.hop + np.arange(clip_frames)
    valid = plan.valid
    if per_step:
        positions = _repeat_steps(positions, spec)
        valid = _repeat_steps(valid, spec)
    padded = np.append(np.asarray(labels, np.int32), np.int32(IGNORE_LABEL))
    return padded[np.where(valid, positions, -1)], valid


def _repeat_steps(full_rate: np.ndarray, spec: StreamSpec) -> np.ndarray:
    steps = full_rate[..., :: spec.frame_stride]
    return np.repeat(steps, spec.frame_stride, axis=-1)
