"""Checks a split before training, to fail in seconds and not after an hour."""

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging

from data_pipeline import annotations, features, groups, video
from data_pipeline.prepared import reader as prepared
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.structs import VideoRecord

_SHOWN_RATES = 3


def check_records(records: Sequence[VideoRecord], class_names: Sequence[str]) -> None:
    """Checks the labels, the name and both ends of the file of every video.

    Raises:
        InputError: naming the first invalid video.
    """
    counts = collections.Counter(record.name for record in records)
    for name, count in counts.items():
        if count > 1:
            raise InputError(f"Video {name!r} is listed {count} times; keep one line.")
    for record in records:
        _check_labels(record, len(class_names))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_check_video, records))


def check_disjoint(
    train: Sequence[VideoRecord], test: Sequence[VideoRecord], *, split: int
) -> None:
    """Checks that train and test share no video, by name or by file."""
    files = [
        {os.path.realpath(r.video_path): r.name for r in part} for part in (train, test)
    ]
    again = {files[0][path] for path in files[0].keys() & files[1].keys()}
    shared = sorted({r.name for r in train} & {r.name for r in test} | again)
    if shared:
        raise InputError(
            f"Split {split} has {len(shared)} videos in both train and test, such as "
            f"{shared[0]!r}: results would be wrong. Take them out of one of the two."
        )


def warn_of_shared(
    records: Sequence[VideoRecord], data_config: ml_collections.ConfigDict
) -> None:
    """Warns if these records include test videos of the split."""
    with contextlib.suppress(MissingInputError):
        test = annotations.split_names(data_config, "test")
        shared = sorted({record.name for record in records} & set(test))
        if shared:
            logging.warning(
                "split %d has %d of its %d test videos in train, too, such as %s: an "
                "evaluation on them does not measure how the model does on new videos. "
                "Take them out of one of the two.",
                *(data_config.split, len(shared), len(test), shared[0]),
            )


def warn_of_shared_groups(
    records: Sequence[VideoRecord], data_config: ml_collections.ConfigDict, pattern: str
) -> None:
    """Warns if a group that is trained on is tested on, too.

    Args:
        records: the videos of the training split.
        data_config: `config.data`.
        pattern: `config.train.validation_group`; "" for no groups.
    """
    if not pattern:
        return
    with contextlib.suppress(MissingInputError):
        parts = (
            [record.name for record in records],
            annotations.split_names(data_config, "test"),
        )
        trained, tested = (
            groups.known_groups(names, pattern, groups.OPTION) for names in parts
        )
        if both := trained & tested:
            logging.warning(
                "split %d has videos of %s in train and in test (%s=%r): an evaluation "
                "on them does not measure how the model does on others.",
                *(data_config.split, groups.listed(both)),
                *(groups.OPTION, pattern),
            )


def warn_of_fixed_steps(
    records: Sequence[VideoRecord], data_config: ml_collections.ConfigDict
) -> None:
    """Warns if a random start cannot show other frames: they were not prepared."""
    strides = {record.prepared.frame_stride for record in records if record.prepared}
    stride = max(strides, default=0)
    if data_config.random_start and stride > 1:
        logging.warning(
            "config.data.random_start begins videos only at every %d-th frame, since "
            "%s holds no other. To show the frames between, prepare the videos again "
            "with --config.data.frame_stride=1.",
            *(stride, data_config.root),
        )


def describe(records: Sequence[VideoRecord], class_names: Sequence[str]) -> str:
    """Returns a table of the frames and segments of every class."""
    frames = np.zeros(len(class_names), np.int64)
    segments = np.zeros(len(class_names), np.int64)
    for record in records:
        first = np.flatnonzero(np.diff(record.labels, prepend=-1))
        frames += np.bincount(record.labels, minlength=len(class_names))
        segments += np.bincount(record.labels[first], minlength=len(class_names))
    rates = _rates(sorted({record.fps for record in records} - {0}))
    width = max(map(len, ["class", *class_names]))
    lines = [
        f"{len(records)} videos, {frames.sum()} frames at {rates} fps, "
        f"{segments.sum()} segments",
        f"{'class':<{width}}  {'frames':>8}  {'share':>6}  {'segments':>8}",
    ]
    for index in np.argsort(-frames, kind="stable").tolist():
        share = f"{100 * frames[index] / max(1, frames.sum()):.1f}%"
        lines.append(
            f"{class_names[index]:<{width}}  {frames[index]:>8}  {share:>6}  "
            f"{segments[index]:>8}"
        )
    return "\n".join(lines)


def _rates(rates: Sequence[float]) -> str:
    if len(rates) > _SHOWN_RATES:  # as phones film
        return f"{rates[0]:.4g} to {rates[-1]:.4g}"
    return " ".join(f"{rate:g}" for rate in rates) or "unknown"


def _check_labels(record: VideoRecord, num_classes: int) -> None:
    labels = record.labels
    if not len(labels):
        raise InputError(f"Video {record.name!r} has no labelled frames; leave it out.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"The labels of {record.name!r} range from {labels.min()} to "
            f"{labels.max()}, but there are {num_classes} classes, 0 to "
            f"{num_classes - 1}; correct mapping.txt or the labels."
        )


def _check_video(record: VideoRecord) -> None:
    """Counts the frames only if the end of the file looks damaged."""
    if record.features is not None:
        features.check_finite(record.video_path)
        return
    if record.prepared is not None:
        prepared.check_ends(record.video_path, record.prepared)
        return
    if video.tail_is_readable(record.video_path):
        return
    num_frames = video.remembered_count(record.video_path)
    if num_frames < record.num_frames:
        raise video.damaged(record.video_path, num_frames, record.num_frames)
