"""Resolves the lines of a split to names of videos, with or without extension."""

import collections
import os
import pathlib
from collections.abc import Sequence

import ml_collections

from data_pipeline.video_files import find_video, is_video_name
from svtas_jax.errors import InputError


def resolve_names(
    data_config: ml_collections.ConfigDict,
    path: pathlib.Path,
    entries: Sequence[str],
    *,
    need_videos: bool = True,
) -> tuple[str, ...]:
    """Returns the names of the videos that the lines of a split list.

    A line may name the video, "a.mp4", instead of the labels, "a.txt": the extension is
    dropped unless there are labels of exactly that name.

    Args:
        data_config: `config.data`.
        path: of the split, for messages.
        entries: the lines, without ".txt".
        need_videos: whether a line that names a video must name one that is there.

    Raises:
        InputError: if a line is not a plain name, names a missing file, or lists the
            video of another line.
    """
    names = tuple(_resolve(data_config, path, e, need_videos) for e in entries)
    name, count = collections.Counter(names).most_common(1)[0]
    if count > 1:
        lines = [e for e, n in zip(entries, names, strict=True) if n == name]
        raise InputError(
            f"{path}: {' and '.join(lines)} are the same video; keep one line."
        )
    return names


def _resolve(data_config, path: pathlib.Path, entry: str, need_videos: bool) -> str:
    if os.path.normpath(entry) != entry or entry.startswith(("/", "..")):
        raise InputError(
            f"{path}: {entry!r} is not a plain name; write NAME.txt as in "
            "groundTruth/, without a folder."
        )
    root = pathlib.Path(data_config.root)
    stem, ending = os.path.splitext(entry)
    if (root / "groundTruth" / f"{entry}.txt").is_file():
        return entry
    if data_config.features:
        return stem if ending == ".npy" or is_video_name(entry) else entry
    if not is_video_name(entry):
        return entry
    if not need_videos:
        return stem
    found = find_video(root, data_config.layout, stem)
    if found.suffix.lower() != ending.lower():
        raise InputError(
            f"{path} lists {entry}, but the video is {found}; write {stem}.txt."
        )
    return stem
