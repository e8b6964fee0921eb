"""Action segmentation metrics, as running sums over videos.

`SegmentCounts` takes one video at a time and can compute the metrics at any moment:

    counts = SegmentCounts.zero(num_classes, background)
    for video in videos:
        counts = counts.add(prediction, truth, scores)
    counts.compute()  # {"acc": 81.3, "edit": 79.0, "f1_10": ..., ...}

acc is the accuracy over frames, background included. edit and f1 compare segments
without background: edit is a mean over videos, f1 sums its counts over videos.

The other metrics need scores, by which the public code means logits, and rank segments
by the mean logit of their class. ar_N is the share of true segments that the N best
segments find, whatever their class, averaged over IoU 0.10, 0.25, 0.50 and over videos.
auc is the mean of ar_1 ... ar_100 (the papers' "AUC", which is neither ROC's nor
ActivityNet's). map_50 and map_avg are ActivityNet's detection average precision at IoU
0.50 and over 0.50:0.05:0.95; a class without true segments counts as 0.

Corner cases follow SVTAS's public code, because published numbers contain them, unless
other `presets.Rules` are given. `docs/metrics.md` has the formulas.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.evaluation.matching import (
    F1_OVERLAPS,
    edit_score,
    f1_score,
    labels_of,
    match,
    overlaps_of,
    same_class,
)
from svtas_jax.evaluation.presets import Rules
from svtas_jax.evaluation.ranking import RankedCounts
from svtas_jax.structs import IGNORE_LABEL, Segment, labels_to_segments


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentCounts:
    """Sums over the videos so far; `add` returns a new object.

    Attributes:
        background: classes that segment metrics ignore.
        confusion: frames, by true class (row) and predicted class (column).
        num_videos: number of videos with at least one labelled frame.
        predicted_segments: number of predicted segments of each class.
        true_segments: number of true segments of each class.
        edit_sum: sum of the videos' edit scores, each 0..1.
        true_positives, false_positives, false_negatives: segments, by F1_OVERLAPS.
        ranked: sums for the ranked metrics, over the videos with scores.
        rules: how segments count.
    """

    background: tuple[int, ...]
    confusion: np.ndarray  # (K, K) int64
    num_videos: int
    predicted_segments: np.ndarray  # (K,) int64
    true_segments: np.ndarray  # (K,) int64
    edit_sum: float
    true_positives: np.ndarray  # (3,) int64
    false_positives: np.ndarray  # (3,) int64
    false_negatives: np.ndarray  # (3,) int64
    ranked: RankedCounts
    rules: Rules = Rules()

    @classmethod
    def zero(
        cls,
        num_classes: int,
        background: Sequence[int] = (),
        rules: Rules = Rules(),  # noqa: B008  frozen
    ) -> "SegmentCounts":
        """Returns the sums before the first video."""
        if not all(0 <= label < num_classes for label in background):
            raise ValueError(
                f"background classes {tuple(background)} must lie in 0 ... "
                f"{num_classes - 1}."
            )
        return cls(
            background=tuple(sorted(set(background))),
            confusion=np.zeros((num_classes, num_classes), np.int64),
            num_videos=0,
            predicted_segments=np.zeros(num_classes, np.int64),
            true_segments=np.zeros(num_classes, np.int64),
            edit_sum=0.0,
            true_positives=np.zeros(len(F1_OVERLAPS), np.int64),
            false_positives=np.zeros(len(F1_OVERLAPS), np.int64),
            false_negatives=np.zeros(len(F1_OVERLAPS), np.int64),
            ranked=RankedCounts.zero(num_classes),
            rules=rules,
        )

    @property
    def num_classes(self) -> int:
        """The number of classes, background included."""
        return len(self.confusion)

    @property
    def num_predicted(self) -> int:
        """The number of predicted segments, background included."""
        return int(self.predicted_segments.sum())

    @property
    def num_true(self) -> int:
        """The number of true segments, background included."""
        return int(self.true_segments.sum())

    def add(
        self,
        prediction: np.ndarray,
        truth: np.ndarray,
        scores: np.ndarray | None = None,
    ) -> "SegmentCounts":
        """Returns the sums with one more video.

        Frames whose truth is IGNORE_LABEL are cut out; a video without any other frame
        is ignored.

        Args:
            prediction: (num_frames,) class of every frame; it may be longer than the
                truth if the rules count surplus frames.
            truth: (num_frames,) class of every frame or IGNORE_LABEL.
            scores: (num_frames, K) logits, for the ranked metrics; give them for every
                video or for none.

        Raises:
            ValueError: if shapes do not fit, or a label is out of range.
        """
        prediction, truth, scores = self._labelled(prediction, truth, scores)
        if not len(truth):
            return self
        predicted, true = labels_to_segments(prediction), labels_to_segments(truth)
        counts = dataclasses.replace(
            self,
            confusion=self.confusion
            + _confusion(prediction[: len(truth)], truth, self.num_classes),
            num_videos=self.num_videos + 1,
            predicted_segments=self.predicted_segments + self._per_class(predicted),
            true_segments=self.true_segments + self._per_class(true),
        )
        predicted, true = self._actions(predicted), self._actions(true)
        counts = counts._add_segments(predicted, true)
        if scores is None:
            return counts
        ranked = self.ranked.add(predicted, true, scores)
        return dataclasses.replace(counts, ranked=ranked)

    def merge(self, other: "SegmentCounts") -> "SegmentCounts":
        """Returns the sums over the videos of both.

        Raises:
            ValueError: if they count other classes.
        """
        if (self.num_classes, self.background) != (other.num_classes, other.background):
            raise ValueError("counts of other classes cannot be added.")
        if self.rules != other.rules:
            raise ValueError("counts by other rules cannot be added.")
        names = [field.name for field in dataclasses.fields(self)]
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in names
            if name not in ("background", "ranked", "rules")
        }
        ranked = self.ranked.merge(other.ranked)
        return dataclasses.replace(self, **sums, ranked=ranked)

    def compute(self) -> dict[str, float]:
        """Returns the metrics in percent; auc, ar and map only if there were scores.

        Raises:
            InputError: if there was no labelled frame.
            ValueError: if only some videos had scores.
        """
        if not self.num_videos:
            raise InputError(
                "there is no labelled frame to measure: the split lists no video, or "
                "its label files are empty or label every frame 'ignore'; check "
                "config.data.split and the groundTruth folder."
            )
        f1 = f1_score(self.true_positives, self.false_positives, self.false_negatives)
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
        """Checks one video; returns the frames that have a true label."""
        prediction, truth = np.asarray(prediction), np.asarray(truth)
        scores = None if scores is None else np.asarray(scores)
        surplus = len(prediction) - len(truth) if self.rules.counts_surplus else 0
        shape = (len(truth) + max(0, surplus),)
        if truth.ndim != 1 or prediction.shape != shape:
            raise ValueError(
                f"prediction {prediction.shape} and truth {truth.shape} must both be "
                "(num_frames,)."
            )
        if scores is not None and scores.shape != (len(truth), self.num_classes):
            raise ValueError(
                f"scores {scores.shape} must be {(len(truth), self.num_classes)}."
            )
        kept = truth != IGNORE_LABEL
        after = prediction[len(truth) :]
        prediction = np.append(prediction[: len(truth)][kept], after)
        truth = truth[kept]
        for name, labels in (("prediction", prediction), ("truth", truth)):
            if np.any((labels < 0) | (labels >= self.num_classes)):
                raise ValueError(
                    f"{name} has labels {labels.min()} ... {labels.max()}, outside "
                    f"0 ... {self.num_classes - 1}."
                )
        return prediction, truth, None if scores is None else scores[kept]

    def _per_class(self, segments: list[Segment]) -> np.ndarray:
        return np.bincount(labels_of(segments), minlength=self.num_classes)

    def _actions(self, segments: list[Segment]) -> list[Segment]:
        """Returns the segments that are compared, as the rules want them."""
        if not self.rules.counts_last_frame:
            last = segments[-1]
            segments = [*segments[:-1], dataclasses.replace(last, end=last.end - 1)]
        return [s for s in segments if s.label not in self.background]

    def _add_segments(self, predicted, true) -> "SegmentCounts":
        overlaps = overlaps_of(predicted, true) * same_class(predicted, true)
        found, wrong, missed = match(
            overlaps, hit_without_actions=self.rules.hit_without_actions
        )
        return dataclasses.replace(
            self,
            edit_sum=self.edit_sum
            + edit_score(predicted, true, epsilon=self.rules.edit_epsilon),
            true_positives=self.true_positives + found,
            false_positives=self.false_positives + wrong,
            false_negatives=self.false_negatives + missed,
        )


def new_counts(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...]
) -> SegmentCounts:
    """Returns empty counts with the config's background classes and SVTAS's rules."""
    background = background_classes(class_names, config.eval.background)
    return SegmentCounts.zero(len(class_names), background)


def frame_metrics(counts: SegmentCounts) -> dict[str, float]:
    """Returns two further metrics.

    acc_balanced is the mean recall over frames of the classes that occur in the truth,
    background included, in percent; a majority class does not dominate it.
    segment_ratio is the number of predicted segments over that of true ones; a value
    above 1 means over-segmentation.
    """
    recall, _ = class_recall_precision(counts.confusion)
    return {
        "acc_balanced": float(100.0 * np.nanmean(recall)),
        "segment_ratio": counts.num_predicted / counts.num_true,
    }


def class_recall_precision(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each class's recall and precision over frames, in 0..1.

    They are NaN where a class has no true (recall) or predicted (precision) frame.

    Args:
        confusion: (K, K) frames, by true class (row) and predicted class (column).
    """
    right = np.diag(confusion).astype(np.float64)

    def share(sums: np.ndarray) -> np.ndarray:
        return np.divide(right, sums, out=np.full_like(right, np.nan), where=sums > 0)

    return share(confusion.sum(axis=1)), share(confusion.sum(axis=0))


def background_classes(
    class_names: Sequence[str], background: Sequence[str]
) -> tuple[int, ...]:
    """Returns the indices of the classes whose name is one of `background`."""
    return tuple(k for k, name in enumerate(class_names) if name in background)


def format_metrics(values: Mapping[str, float]) -> str:
    """Returns a line such as "acc 91.20 edit 88.00"."""
    return " ".join(f"{name} {value:.2f}" for name, value in values.items())


def _confusion(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int
) -> np.ndarray:
    cells = truth.astype(np.int64) * num_classes + prediction
    counts = np.bincount(cells, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)
