"""Proposes the settings of a config from the data, each with its reason."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from data_pipeline.layout.recipe import Setting, from_scratch, from_weights, holding_out
from svtas_jax.config import default_config
from svtas_jax.structs import labels_to_segments

CLIP_STEPS = 32  # of the paper, on every data set
STEPS_IN_SHORT = 8  # of a short action: a border that is a step off costs an eighth
_MIN_STEPS_PER_S = 2.0  # temporal shift sees motion between neighbouring steps
_SHORT = 10  # percentile of the segments' lengths
_MOST_CACHED = 8e9  # bytes of decoded frames that are kept on the disk
FRAME_CACHE = "frame_cache"  # folder in the data set's


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A labelled video.

    Attributes:
        name: of the video.
        labels: (num_frames,) int32.
        fps: its mean rate by time stamps.
        height, width: of its pictures as they are shown.
    """

    name: str
    labels: np.ndarray
    fps: float
    height: int
    width: int


def propose(
    videos: Sequence[Labelled],
    classes: Sequence[str],
    background: Sequence[str],
    *,
    num_train: int,
    colours: tuple[tuple[float, ...], tuple[float, ...]],
    crop: int = 0,
    init_from: str = "",
    group: str = "",
    num_train_groups: int = 0,
) -> tuple[Setting, ...]:
    """Returns the settings that differ from the defaults, or must be thought about.

    Args:
        videos: all of them.
        classes: their names.
        background: classes that are no actions.
        num_train: videos in the training part of a split.
        colours: mean and standard deviation of the pictures, RGB in 0..1.
        crop: side of the square that the model sees; 0: by the videos' size.
        init_from: weights of a MobileNetV2 to start from; "" for none.
        group: the pattern that finds groups in names; "" for no groups.
        num_train_groups: groups in the training part of a split, at least.
    """
    fps = float(np.median([video.fps for video in videos]))
    stride = _stride(videos, classes, background, fps)
    clip = CLIP_STEPS * stride.value
    mean, std = (tuple(round(float(v), 3) for v in part) for part in colours)
    resize, crop_setting = _size(videos, crop)
    # Of the videos, this share trains: the others test, or choose the checkpoint.
    share = num_train / len(videos) * (1 - default_config().train.validation_share)
    num_chunks = share * sum(math.ceil(len(video.labels) / clip) for video in videos)
    return (
        stride,
        Setting(
            "data.clip_frames",
            clip,
            f"{CLIP_STEPS} steps: {clip / fps:.1f} s, how long a stream waits for "
            "labels unless the model is causal",
        ),
        *(resize, crop_setting, *_cache(videos, stride.value, resize.value)),
        Setting("data.mean", mean, "of the pictures' colours, red, green, blue"),
        Setting("data.std", std, "likewise"),
        Setting(
            *("model.system", "sete"),
            "the smallest and fastest; METE and Transeger add text",
        ),
        *(
            from_weights(init_from, num_chunks)
            if init_from
            else from_scratch(num_train, crop_setting.value)
        ),
        *holding_out(group, num_train_groups),
        Setting(
            "eval.background",
            tuple(background),
            "classes that Edit and F1 leave out"
            if background
            else "no class is called background",
        ),
    )


def _stride(videos, classes, background, fps: float) -> Setting:
    lengths = [
        segment.end - segment.start
        for video in videos
        for segment in labels_to_segments(video.labels)
        if classes[segment.label] not in background
    ]
    if not lengths:
        return Setting("data.frame_stride", 1, "there is no action to measure")
    short = float(np.percentile(lengths, _SHORT))
    most = max(1, math.floor(fps / _MIN_STEPS_PER_S))
    stride = min(max(1, math.floor(short / STEPS_IN_SHORT)), most)
    reason = (
        f"{fps / stride:.3g} steps a second; nine of ten actions last at least "
        f"{short:.0f} frames ({short / fps:.2g} s), or {short / stride:.1f} steps"
    )
    return Setting("data.frame_stride", stride, reason)


def _size(videos: Sequence[Labelled], crop: int) -> tuple[Setting, Setting]:
    """By default the crop is the network's usual size, or what small videos give."""
    shape = float(np.median([video.width / video.height for video in videos]))
    short_side = min(min(video.height, video.width) for video in videos)
    sizes = (c for c in (224, 160, 112) if short_side >= c * 8 // 7)
    crop = crop or next(sizes, max(32, short_side * 7 // 8 // 16 * 16))
    short = max(crop, round(crop * 8 / 7))
    height, width = (
        (short, round(short * shape))
        if shape >= 1
        else (*(round(short / shape), short),)
    )
    return (
        Setting(
            *("data.resize", (height, width)),
            f"height and width; the smallest video's short side: {short_side} pixels",
        ),
        Setting(
            *("data.crop", crop),
            "side of a square; half of it is about four times as fast",
        ),
    )


def _cache(videos: Sequence[Labelled], stride: int, resize) -> tuple[Setting, ...]:
    """Small data sets are decoded once, and not in every epoch."""
    frames = sum(len(video.labels) for video in videos) / stride
    size = frames * resize[0] * resize[1] * 3
    if size > _MOST_CACHED:
        return ()
    reason = f"every frame is decoded once; takes {math.ceil(size / 1e6)} MB"
    return (Setting("data.frame_cache", pathlib.PurePath(FRAME_CACHE), reason),)
