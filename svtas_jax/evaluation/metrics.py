"""The field's measures of action segmentation, as running sums over videos.

`SegmentCounts` is filled one video at a time and asked for percentages at any moment:

    counts = SegmentCounts.zero(num_classes, background)
    for video in videos:
        counts = counts.add(prediction, truth, scores)
    counts.compute()  # {"acc": 81.3, "edit": 79.0, "f1_10": ..., ...}

acc is over frames, background included. edit and f1 look at segments, background left
out: edit is a mean over videos, f1 sums its counts over videos. With scores, segments
are ranked by the mean score of their class: ar_N is the share of true segments that
the N best segments find, whatever their class, a mean over IoU 0.10, 0.25, 0.50 and
over videos; auc is the mean of ar_1 ... ar_100 (the papers' "AUC", which is neither
ROC's nor ActivityNet's); map_50 and map_avg are ActivityNet's detection average
precision at IoU 0.50 and over 0.50:0.05:0.95, where a class that does not occur in the
truth counts 0. The odd corners are those of the public SVTAS code, since published
numbers contain them.
"""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.evaluation.ranking import (
    RankedCounts,
    labels_of,
    overlaps_of,
    same_class,
)
from svtas_jax.structs import IGNORE_LABEL, Segment, labels_to_segments

F1_OVERLAPS = (0.10, 0.25, 0.50)

# Normalises edit distances. The public code adds it, and a video with few segments and
# none of them right shows it in the fourth digit of its percentage.
_EDIT_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentCounts:
    """Sums over the videos seen so far; `add` returns a new one.

    Attributes:
        background: classes left out of everything about segments.
        confusion: frames, by true class (row) and predicted class (column).
        num_videos: videos with at least one labelled frame.
        num_predicted: predicted segments, background included.
        num_true: true segments, background included.
        edit_sum: sum of the videos' edit scores, each 0..1.
        true_positives, false_positives, false_negatives: segments, by F1_OVERLAPS.
        ranked: the same for segments ranked by score, over the videos with scores.
    """

    background: tuple[int, ...]
    confusion: np.ndarray  # (K, K) int64
    num_videos: int
    num_predicted: int
    num_true: int
    edit_sum: float
    true_positives: np.ndarray  # (3,) int64
    false_positives: np.ndarray  # (3,) int64
    false_negatives: np.ndarray  # (3,) int64
    ranked: RankedCounts

    @classmethod
    def zero(cls, num_classes: int, background: Sequence[int] = ()) -> "SegmentCounts":
        """Returns the sums over no video."""
        if not all(0 <= label < num_classes for label in background):
            raise ValueError(
                f"background classes {tuple(background)} must lie in 0 ... "
                f"{num_classes - 1}."
            )
        return cls(
            background=tuple(sorted(set(background))),
            confusion=np.zeros((num_classes, num_classes), np.int64),
            num_videos=0,
            num_predicted=0,
            num_true=0,
            edit_sum=0.0,
            true_positives=np.zeros(len(F1_OVERLAPS), np.int64),
            false_positives=np.zeros(len(F1_OVERLAPS), np.int64),
            false_negatives=np.zeros(len(F1_OVERLAPS), np.int64),
            ranked=RankedCounts.zero(num_classes),
        )

    @property
    def num_classes(self) -> int:
        """Classes, background included."""
        return len(self.confusion)

    def add(
        self,
        prediction: np.ndarray,
        truth: np.ndarray,
        scores: np.ndarray | None = None,
    ) -> "SegmentCounts":
        """Returns the sums with one more video.

        Frames whose truth is IGNORE_LABEL are cut out; a video without any other frame
        counts for nothing.

        Args:
            prediction: (num_frames,) class of every frame.
            truth: (num_frames,) class of every frame or IGNORE_LABEL.
            scores: (num_frames, K) logits, for the ranked metrics: either every video
                has them or none.
        """
        prediction, truth, scores = self._labelled(prediction, truth, scores)
        if not len(truth):
            return self
        predicted, true = labels_to_segments(prediction), labels_to_segments(truth)
        counts = dataclasses.replace(
            self,
            confusion=self.confusion + _confusion(prediction, truth, self.num_classes),
            num_videos=self.num_videos + 1,
            num_predicted=self.num_predicted + len(predicted),
            num_true=self.num_true + len(true),
        )
        predicted, true = self._actions(predicted), self._actions(true)
        counts = counts._add_segments(predicted, true)
        if scores is None:
            return counts
        ranked = self.ranked.add(predicted, true, scores)
        return dataclasses.replace(counts, ranked=ranked)

    def merge(self, other: "SegmentCounts") -> "SegmentCounts":
        """Returns the sums over the videos of both, for the same classes."""
        if (self.num_classes, self.background) != (other.num_classes, other.background):
            raise ValueError("counts of other classes cannot be added.")
        names = [field.name for field in dataclasses.fields(self)]
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in names
            if name not in ("background", "ranked")
        }
        ranked = self.ranked.merge(other.ranked)
        return dataclasses.replace(self, **sums, ranked=ranked)

    def compute(self) -> dict[str, float]:
        """Returns the metrics in percent; auc, ar and map only if there were scores.

        Raises:
            InputError: if no labelled frame was seen.
        """
        if not self.num_videos:
            raise InputError(
                "There is no labelled frame to measure: the split lists no video, or "
                "its label files are empty or say 'ignore' throughout; check "
                "config.data.split and the groundTruth folder."
            )
        f1 = _f1(self.true_positives, self.false_positives, self.false_negatives)
        metrics = {
            "acc": 100.0 * np.trace(self.confusion) / self.confusion.sum(),
            "edit": 100.0 * self.edit_sum / self.num_videos,
            "f1_10": 100.0 * f1[0],
            "f1_25": 100.0 * f1[1],
            "f1_50": 100.0 * f1[2],
        }
        if self.ranked.num_videos:
            metrics |= self._ranked_metrics()
        return {name: float(value) for name, value in metrics.items()}

    def _ranked_metrics(self) -> dict[str, float]:
        if self.ranked.num_videos != self.num_videos:
            raise ValueError(
                f"{self.ranked.num_videos} of {self.num_videos} videos came with "
                "scores; ranked metrics need them for all or for none."
            )
        return self.ranked.compute(self.background)

    def _labelled(self, prediction, truth, scores):
        """Checks one video and keeps the frames that have a true label."""
        prediction, truth = np.asarray(prediction), np.asarray(truth)
        scores = None if scores is None else np.asarray(scores)
        if prediction.ndim != 1 or prediction.shape != truth.shape:
            raise ValueError(
                f"prediction {prediction.shape} and truth {truth.shape} must both be "
                "(num_frames,)."
            )
        if scores is not None and scores.shape != (len(truth), self.num_classes):
            raise ValueError(
                f"scores {scores.shape} must be {(len(truth), self.num_classes)}."
            )
        kept = truth != IGNORE_LABEL
        prediction, truth = prediction[kept], truth[kept]
        for name, labels in (("prediction", prediction), ("truth", truth)):
            if np.any((labels < 0) | (labels >= self.num_classes)):
                raise ValueError(
                    f"{name} has labels {labels.min()} ... {labels.max()} outside of "
                    f"0 ... {self.num_classes - 1}."
                )
        return prediction, truth, None if scores is None else scores[kept]

    def _actions(self, segments: list[Segment]) -> list[Segment]:
        return [s for s in segments if s.label not in self.background]

    def _add_segments(self, predicted, true) -> "SegmentCounts":
        overlaps = overlaps_of(predicted, true) * same_class(predicted, true)
        found, wrong, missed = _match(overlaps)
        return dataclasses.replace(
            self,
            edit_sum=self.edit_sum + _edit_score(predicted, true),
            true_positives=self.true_positives + found,
            false_positives=self.false_positives + wrong,
            false_negatives=self.false_negatives + missed,
        )


def new_counts(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...]
) -> SegmentCounts:
    """Returns empty counts with the config's background classes."""
    background = background_classes(class_names, config.eval.background)
    return SegmentCounts.zero(len(class_names), background)


def frame_metrics(counts: SegmentCounts) -> dict[str, float]:
    """Returns what is worth watching next to the field's metrics.

    acc_balanced is the mean recall of the classes that occur, in percent: a majority
    class cannot carry it. segment_ratio is predicted over true segments: 1 is right,
    more means that the labels flicker.
    """
    recall, _ = class_recall_precision(counts.confusion)
    return {
        "acc_balanced": float(100.0 * np.nanmean(recall)),
        "segment_ratio": counts.num_predicted / counts.num_true,
    }


def class_recall_precision(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each class's recall and precision over frames, in 0..1.

    NaN where a class has no true (recall) or no predicted (precision) frame.

    Args:
        confusion: (K, K) frames, by true class (row) and predicted class (column).
    """
    right = np.diag(confusion).astype(np.float64)
    return tuple(
        np.divide(right, sums, out=np.full_like(right, np.nan), where=sums > 0)
        for sums in (confusion.sum(axis=1), confusion.sum(axis=0))
    )


def background_classes(
    class_names: Sequence[str], background: Sequence[str]
) -> tuple[int, ...]:
    """Returns the indices of the classes whose name is one of `background`."""
    return tuple(k for k, name in enumerate(class_names) if name in background)


def format_metrics(values: dict[str, float]) -> str:
    """Returns "acc 91.2 edit 88.0 ..." in percent."""
    return " ".join(f"{name} {value:.2f}" for name, value in values.items())


def _confusion(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int
) -> np.ndarray:
    cells = truth.astype(np.int64) * num_classes + prediction
    counts = np.bincount(cells, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def _match(overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts true positives, false positives and false negatives, (3,) each.

    Every predicted segment asks for its best true segment of the class; the first to
    ask with enough overlap gets it. So a true segment is found if anyone asks.

    Args:
        overlaps: (P, G) IoU, 0 where the classes differ.
    """
    num_predicted, num_true = overlaps.shape
    if not num_true:
        # The public code: a right "nothing happens" is one hit, a wrong alarm in a
        # video without actions is not counted at all.
        nothing = np.zeros(len(F1_OVERLAPS), np.int64)
        return nothing + (num_predicted == 0), nothing, nothing
    wanted, overlap = overlaps.argmax(axis=1), overlaps.max(axis=1)
    found = np.array([len(np.unique(wanted[overlap >= o])) for o in F1_OVERLAPS])
    return found, num_predicted - found, num_true - found


def _f1(found: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Returns F1 in 0..1; 0 where nothing was found."""
    return 2.0 * found / np.maximum(1, 2 * found + wrong + missed)


def _edit_score(predicted: list[Segment], true: list[Segment]) -> float:
    """Returns 1 - normalised edit distance of the two label sequences, in 0..1."""
    distance = _levenshtein(labels_of(predicted), labels_of(true))
    return 1.0 - distance / (max(len(predicted), len(true)) + _EDIT_EPSILON)


def _levenshtein(a: np.ndarray, b: np.ndarray) -> int:
    """Returns the least number of insertions, deletions and replacements."""
    columns = np.arange(len(b) + 1)
    row = columns
    for index, symbol in enumerate(a):
        best = np.minimum(row[:-1] + (b != symbol), row[1:] + 1)
        best = np.concatenate(([index + 1], best))
        # Insertions run along the row: min over j' <= j of best[j'] + (j - j').
        row = np.minimum.accumulate(best - columns) + columns
    return int(row[-1])
