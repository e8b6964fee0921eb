"""How far a video and its labels may differ in length, and what a difference means."""

import math

import ml_collections

from data_pipeline.video import VideoInfo, damaged
from svtas_jax.config import DEFAULT_LENGTH_GAP
from svtas_jax.errors import InputError

_OPTION = "--config.data.max_length_gap"
_NEAR = 0.01  # a length this close to what a ratio of frame rates gives is that
# What people convert between: 15 and 30, 24 and 25, one label a second, ...
_RATIOS = sorted(
    {(p, q) for p in range(1, 7) for q in range(1, 7)}
    | {(24, 25), (25, 24)}
    | {pair for n in range(7, 31) for pair in ((1, n), (n, 1))},
    key=sum,
)


def fits(num_frames: int, num_labels: int, limit: float, *, slack: int) -> bool:
    """Whether the shorter one may count: the difference is at most `slack` frames, or
    this share of the longer one."""
    gap = abs(num_frames - num_labels)
    return gap <= max(slack, limit * max(num_frames, num_labels))


def check_video(
    path: str,
    info: VideoInfo,
    num_frames: int,
    label_path: str,
    num_labels: int,
    data_config: ml_collections.ConfigDict,
) -> None:
    """Checks a video against its labels.

    Args:
        path: of the video.
        info: its header.
        num_frames: that it has.
        label_path: of the labels.
        num_labels: lines in that file.
        data_config: `config.data`.

    Raises:
        DamagedVideoError: if the video is shorter than its header says and the labels
            do not fit it.
        InputError: if they do not fit a whole video, with the likely cause.
    """
    limit, chunk = data_config.max_length_gap, data_config.clip_frames
    is_near = abs(num_frames - num_labels) <= chunk or limit > DEFAULT_LENGTH_GAP
    slack = data_config.frame_stride
    if is_near and fits(num_frames, num_labels, limit, slack=slack):
        return
    if num_frames < info.num_frames:
        raise damaged(path, num_frames, info.num_frames)
    all_frames = num_frames + info.hidden_frames
    begin = f"{path} has {num_frames} frames, but {label_path} has {num_labels} lines: "
    if info.hidden_frames and _is_near(num_labels, all_frames):
        raise InputError(
            f"{begin}the file holds {all_frames} frames, and its edit list hides "
            f"{info.hidden_frames} of them, as cutting without re-encoding does: "
            f"players show {num_frames}, and so does training. Label the frames that "
            "are shown, or write a file without the edit list: ffmpeg "
            "-ignore_editlist 1 -i INPUT -c:v libx264 OUTPUT.mp4"
        )
    raise InputError(f"{begin}{explain(num_frames, num_labels, info.fps, data_config)}")


def explain(
    num_frames: int,
    num_labels: int,
    fps: float,
    data_config: ml_collections.ConfigDict,
) -> str:
    """Returns what is wrong with two lengths, why, and how to go on.

    `fps` is that of the frames, 0 if unknown.
    """
    gap = abs(num_frames - num_labels)
    share = gap / max(num_frames, num_labels)
    if gap > data_config.clip_frames and not data_config.features:
        rule = f"more than one chunk (config.data.clip_frames={data_config.clip_frames}"
    else:
        rule = f"{100 * share:.2g} % (config.data.max_length_gap="
        rule += f"{data_config.max_length_gap:g}"
    ratio = ratio_of(num_frames, num_labels)
    cause, convert = "", ""
    if ratio and fps:
        label_fps = f"{fps * ratio[0] / ratio[1]:.4g}"
        cause = (
            f"Those would be labels at {label_fps} and a video at {fps:.4g} frames a "
            "second. "
        )
        convert = f": ffmpeg -i INPUT -r {label_fps} OUTPUT.mp4"
    elif ratio:
        cause = f"Those would be {ratio[0]} labels for {ratio[1]} frames. "
    return (
        f"they differ by {rule}). {cause}Use the video at the frame rate that was "
        f"labelled, one line a frame{convert}. If the longer one may be cut, "
        f"{_OPTION}={allowing(share):g} allows it."
    )


def ratio_of(num_frames: int, num_labels: int) -> tuple[int, int] | None:
    """Returns labels to frames in small numbers if they are near such a ratio."""
    for labels, frames in _RATIOS:
        expected = num_frames * labels / frames
        if labels != frames and _is_near(num_labels, expected):
            return labels, frames
    return None


def _is_near(num_labels: int, expected: float) -> bool:
    return abs(num_labels - expected) <= max(1.0, _NEAR * expected)


def allowing(share: float) -> float:
    """Returns a round `max_length_gap` that allows a difference of this share."""
    return min(1.0, math.ceil(100 * share + 0.1) / 100)
