"""Puts predictions that any program wrote beside their true labels."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import logging

from data_pipeline import annotations, lengths
from data_pipeline.truth import Truth
from svtas_jax.errors import InputError
from svtas_jax.evaluation import prediction_files
from svtas_jax.evaluation.prediction_files import Prediction, listing
from svtas_jax.evaluation.presets import Preset


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A prediction beside its truth, both cut to the frames that count.

    Attributes:
        truth: the true labels, all of them.
        path: file of the prediction.
        labels: (num_frames,) true classes.
        prediction: what is predicted; longer than `labels` if the preset counts surplus
            frames.
        num_read: frames in the file of the prediction.
    """

    truth: Truth
    path: pathlib.Path
    labels: np.ndarray
    prediction: Prediction
    num_read: int

    @property
    def shown(self) -> np.ndarray:
        """The predicted classes of the labelled frames, (num_frames,) int32."""
        return self.prediction.labels[: len(self.labels)]


def read_pairs(
    folder: pathlib.Path,
    truths: Sequence[Truth],
    classes: tuple[str, ...],
    preset: Preset,
    data: ml_collections.ConfigDict,
) -> list[Pair]:
    """Reads the predictions for some videos, and cuts each as the preset says.

    Args:
        folder: of the files, see `prediction_files`.
        truths: the labels of the videos.
        classes: names in the order of the class indices.
        preset: says what happens to files of unequal length.
        data: `config.data`.

    Raises:
        MissingInputError: if a prediction is missing.
        InputError: if one is invalid or does not fit its labels.
    """
    names = [truth.name for truth in truths]
    files = prediction_files.find(
        folder, names, advice=lambda: _other_split(folder, data)
    )
    return [_pair(t, files[t.name], classes, preset, data) for t in truths]


def facts_of(
    folder: pathlib.Path, pairs: Sequence[Pair], preset: Preset
) -> dict[str, Any]:
    """Returns what a reader must know of the files, and warns of what is odd."""
    extra = sorted(prediction_files.videos_in(folder) - {p.truth.name for p in pairs})
    uneven = [pair for pair in pairs if pair.num_read != len(pair.truth.labels)]
    shown = [f"{p.truth.name} {p.num_read}/{len(p.truth.labels)}" for p in uneven]
    scored = sum(pair.prediction.scores is not None for pair in pairs)
    if extra:
        logging.warning(
            "%s has predictions for %d videos that are not in the test split and do "
            "not count: %s.",
            *(folder, len(extra), listing(extra)),
        )
    if uneven:
        logging.warning(
            "%d of %d predictions are shorter or longer than their labels "
            "(predicted/labelled frames: %s). By --metrics=%s, %s.",
            *(len(uneven), len(pairs), listing(shown), preset.name),
            preset.describe()["lengths"],
        )
    if 0 < scored < len(pairs):
        logging.warning(
            "%d of %d predictions are scores, the others labels only: no score counts.",
            *(scored, len(pairs)),
        )
    return {
        "predictions": str(folder),
        "files": listing([pair.path.name for pair in pairs]),
        "files_with_scores": scored,
        "files_of_other_videos": len(extra),
        "files_of_unequal_length": len(uneven),
        "unequal (predicted/labelled)": ", ".join(shown) or "none",
    }


def _pair(
    truth: Truth,
    path: pathlib.Path,
    classes: tuple[str, ...],
    preset: Preset,
    data: ml_collections.ConfigDict,
) -> Pair:
    read = prediction_files.read(path, classes)
    num_read, num_labels = len(read.labels), len(truth.labels)
    if num_read != num_labels:
        _check_lengths(path, num_read, truth, preset, data)
    kept = num_read if preset.rules.counts_surplus else min(num_read, num_labels)
    scores = None if read.scores is None else read.scores[:kept]
    cut = Prediction(read.labels[:kept], scores)
    return Pair(truth, path, truth.labels[:num_read], cut, num_read)


def _check_lengths(
    path: pathlib.Path,
    num_read: int,
    truth: Truth,
    preset: Preset,
    data: ml_collections.ConfigDict,
) -> None:
    """Raises InputError if the prediction is one of other frames than the labels, or
    the preset knows no prediction of this length."""
    num_labels, limit = len(truth.labels), data.max_length_gap
    begin = f"{path} predicts {num_read} frames, but {truth.path} has {num_labels}: "
    if not lengths.fits(num_read, num_labels, limit, slack=data.frame_stride):
        ratio, cause = lengths.ratio_of(num_read, num_labels), ""
        if ratio:
            cause = f"It has {ratio[1]} for {ratio[0]} that are labelled. "
        share = abs(num_read - num_labels) / max(num_read, num_labels)
        raise InputError(
            f"{begin}they differ by more than {100 * limit:g} % "
            f"(config.data.max_length_gap). {cause}Write a line for every labelled "
            "frame. If the difference is meant, "
            f"--config.data.max_length_gap={lengths.allowing(share):g} allows it."
        )
    if preset.rules.counts_surplus and num_read < num_labels:
        raise InputError(
            f"{begin}{preset.source} stops at a prediction that is too short. Write a "
            "line for every labelled frame, or use --metrics=svtas, which cuts both to "
            "the shorter one."
        )


def _other_split(folder: pathlib.Path, data: ml_collections.ConfigDict) -> str:
    """Returns a hint at a split whose test videos all have files."""
    there = prediction_files.videos_in(folder)
    fitting = [
        number
        for number in annotations.split_numbers(data)
        if there.issuperset(_tested(data, number))
    ]
    return (
        f"It has those of split {fitting[0]}: --config.data.split={fitting[0]}."
        if fitting
        else ""
    )


def _tested(data: ml_collections.ConfigDict, number: int) -> Iterable[str]:
    return annotations.split_names(data, "test", split=number, need_videos=False)
