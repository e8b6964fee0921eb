"""Reads the true labels of a split without its videos."""

import dataclasses
import pathlib

import ml_collections
import numpy as np

from data_pipeline import annotations
from data_pipeline.prepared import index as prepared_index


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The true labels of one video.

    Attributes:
        name: of the video.
        path: where the labels come from, for messages.
        labels: (num_labels,) int32 class indices; all of them, also beyond the end of
            the video.
        fps: frame rate, 0 if unknown.
    """

    name: str
    path: str
    labels: np.ndarray
    fps: float


def read_truth(
    data_config: ml_collections.ConfigDict, subset: str
) -> tuple[Truth, ...]:
    """Reads the labels of a split's videos, which need not be there.

    Args:
        data_config: `config.data`.
        subset: "train" or "test".

    Raises:
        MissingInputError: if a folder or file is missing.
        InputError: if one is invalid.
    """
    classes = annotations.class_names(data_config)
    names = annotations.split_names(data_config, subset, need_videos=False)
    root = pathlib.Path(data_config.root)
    if prepared_index.is_prepared(root):
        entries = prepared_index.read_index(root).videos
        where = str(root / prepared_index.INDEX_FILE)
        return tuple(
            Truth(name, where, entries[name].labels(), entries[name].fps)
            for name in names
        )
    paths = [root / "groundTruth" / f"{name}.txt" for name in names]
    return tuple(
        Truth(name, str(path), annotations.read_labels(path, classes), fps=0.0)
        for name, path in zip(names, paths, strict=True)
    )
