"""What a line of a split means: the name of a video, with or without an ending."""

import collections
import os
import pathlib
from collections.abc import Sequence

import ml_collections

from data_pipeline.video_files import find_video, is_video_name
from svtas_jax.errors import InputError


def resolve_names(
    data_config: ml_collections.ConfigDict, path: pathlib.Path, entries: Sequence[str]
) -> tuple[str, ...]:
    """Returns the names of the videos that the lines of a split mean.

    A line may name the file, "a.mp4", instead of the labels, "a.txt": the ending is
    left out, unless there are labels of just that name.

    Args:
        data_config: `config.data`.
        path: of the split, for messages.
        entries: the lines, without ".txt".

    Raises:
        InputError: if a line is no plain name, names a file that is not there, or
            means the video of another line.
    """
    names = tuple(_resolve(data_config, path, entry) for entry in entries)
    name, count = collections.Counter(names).most_common(1)[0]
    if count > 1:
        lines = [e for e, n in zip(entries, names, strict=True) if n == name]
        raise InputError(
            f"{path}: {' and '.join(lines)} are the same video; keep one line."
        )
    return names


def _resolve(data_config, path: pathlib.Path, entry: str) -> str:
    if os.path.normpath(entry) != entry or entry.startswith(("/", "..")):
        raise InputError(
            f"{path}: {entry!r} is no plain name; write NAME.txt as it is called in "
            "groundTruth/, without a folder above it."
        )
    root = pathlib.Path(data_config.root)
    stem, ending = os.path.splitext(entry)
    if (root / "groundTruth" / f"{entry}.txt").is_file():
        return entry
    if data_config.features:
        return stem if ending == ".npy" or is_video_name(entry) else entry
    if not is_video_name(entry):
        return entry
    found = find_video(root, data_config.layout, stem)
    if found.suffix.lower() != ending.lower():
        raise InputError(
            f"{path} lists {entry}, but the video is {found}; write {stem}.txt."
        )
    return stem
