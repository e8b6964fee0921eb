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

import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.stitching import labels_to_segments
from svtas_jax.structs import IGNORE_LABEL, Segment

F1_OVERLAPS = (0.10, 0.25, 0.50)
RECALL_OVERLAPS = (0.10, 0.25, 0.50)
PRECISION_OVERLAPS = tuple(np.linspace(0.50, 0.95, 10))
MAX_PROPOSALS = 100

# Normalises edit distances. The public code adds it, and a video with few segments and
# none of them right shows it in the fourth digit of its percentage.
_EDIT_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Predicted segments of one video that compete in the average precision."""

    labels: np.ndarray  # (P,) int64
    scores: np.ndarray  # (P,) float64, the rank
    overlaps: np.ndarray  # (P,) float64, best IoU with a true segment of the class


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentCounts:
    """Sums over the videos seen so far; `add` returns a new one.

    Attributes:
        background: classes left out of everything about segments.
        confusion: frames, by true class (row) and predicted class (column).
        num_videos: videos with at least one labelled frame.
        num_scored: those of them that came with scores.
        num_predicted: predicted segments, background included.
        num_true: true segments, background included.
        edit_sum: sum of the videos' edit scores, each 0..1.
        true_positives, false_positives, false_negatives: segments, by F1_OVERLAPS.
        recall_sum: sum over videos of the recall of the 1, 2, ... best segments.
        class_segments: true segments of each class, for the average precision.
        detections: predicted segments of each video.
    """

    background: tuple[int, ...]
    confusion: np.ndarray  # (K, K) int64
    num_videos: int
    num_scored: int
    num_predicted: int
    num_true: int
    edit_sum: float
    true_positives: np.ndarray  # (3,) int64
    false_positives: np.ndarray  # (3,) int64
    false_negatives: np.ndarray  # (3,) int64
    recall_sum: np.ndarray  # (MAX_PROPOSALS,) float64
    class_segments: np.ndarray  # (K,) int64
    detections: tuple[Detections, ...]

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
            num_scored=0,
            num_predicted=0,
            num_true=0,
            edit_sum=0.0,
            true_positives=np.zeros(len(F1_OVERLAPS), np.int64),
            false_positives=np.zeros(len(F1_OVERLAPS), np.int64),
            false_negatives=np.zeros(len(F1_OVERLAPS), np.int64),
            recall_sum=np.zeros(MAX_PROPOSALS),
            class_segments=np.zeros(num_classes, np.int64),
            detections=(),
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
            scores: (num_frames, K) what the model gave, for the ranked metrics: either
                every video has them or none.
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
        return counts if scores is None else counts._add_ranked(predicted, true, scores)

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
        if self.num_scored:
            metrics |= self._ranked_metrics()
        return {name: float(value) for name, value in metrics.items()}

    def _ranked_metrics(self) -> dict[str, float]:
        if self.num_scored != self.num_videos:
            raise ValueError(
                f"{self.num_scored} of {self.num_videos} videos came with scores; "
                "ranked metrics need them for all or for none."
            )
        recall = 100.0 * self.recall_sum / self.num_videos
        precision = 100.0 * self._average_precision()
        return {
            "auc": recall.mean(),
            "ar_1": recall[0],
            "ar_5": recall[4],
            "ar_15": recall[14],
            "map_50": precision[0],
            "map_avg": precision.mean(),
        }

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
        overlaps = _overlaps(predicted, true) * _same_class(predicted, true)
        found, wrong, missed = _match(overlaps)
        return dataclasses.replace(
            self,
            edit_sum=self.edit_sum + _edit_score(predicted, true),
            true_positives=self.true_positives + found,
            false_positives=self.false_positives + wrong,
            false_negatives=self.false_negatives + missed,
        )

    def _add_ranked(self, predicted, true, scores) -> "SegmentCounts":
        overlaps = _overlaps(predicted, true)
        ranks = np.array([_segment_score(s, scores) for s in predicted])
        best = np.max(overlaps * _same_class(predicted, true), axis=1, initial=0.0)
        detections = Detections(labels=_labels(predicted), scores=ranks, overlaps=best)
        order = np.argsort(-ranks, kind="stable")
        per_class = np.bincount(_labels(true), minlength=self.num_classes)
        return dataclasses.replace(
            self,
            num_scored=self.num_scored + 1,
            recall_sum=self.recall_sum + _recall_of_best(overlaps[order]),
            class_segments=self.class_segments + per_class,
            detections=(*self.detections, detections),
        )

    def _average_precision(self) -> np.ndarray:
        """Returns the mean over classes of the average precision, (10,) in 0..1."""
        labels, scores, overlaps = (
            np.concatenate([getattr(d, name) for d in self.detections])
            for name in ("labels", "scores", "overlaps")
        )
        # Among equal scores the worse detection first, so that nothing depends on the
        # order of the videos.
        order = np.lexsort((overlaps, -scores))
        labels, overlaps = labels[order], overlaps[order]
        classes = [k for k in range(self.num_classes) if k not in self.background]
        total = np.zeros(len(PRECISION_OVERLAPS))
        for k in classes:
            if self.class_segments[k]:
                hits = overlaps[labels == k, None] >= np.array(PRECISION_OVERLAPS)
                total += _interpolated_precision(hits, self.class_segments[k])
        return total / max(1, len(classes))


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


def _confusion(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int
) -> np.ndarray:
    cells = truth.astype(np.int64) * num_classes + prediction
    counts = np.bincount(cells, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def _labels(segments: list[Segment]) -> np.ndarray:
    return np.array([s.label for s in segments], np.int64)


def _same_class(predicted: list[Segment], true: list[Segment]) -> np.ndarray:
    return _labels(predicted)[:, None] == _labels(true)  # (P, G)


def _overlaps(predicted: list[Segment], true: list[Segment]) -> np.ndarray:
    """Returns the intersection over union of every pair, (P, G) in 0..1."""
    start, end = (
        (
            np.array([getattr(s, edge) for s in predicted], np.int64)[:, None],
            np.array([getattr(s, edge) for s in true], np.int64),
        )
        for edge in ("start", "end")
    )
    shared = np.minimum(*end) - np.maximum(*start)
    # For segments that touch, the union is their hull; for others it does not matter.
    return np.maximum(shared, 0) / (np.maximum(*end) - np.minimum(*start))


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
    distance = _levenshtein(_labels(predicted), _labels(true))
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


def _segment_score(segment: Segment, scores: np.ndarray) -> float:
    """Returns the mean score of the segment's class, (num_frames, K) given.

    The public code takes one frame more than the segment has.
    """
    return scores[segment.start : segment.end + 1, segment.label].mean(dtype=np.float64)


def _recall_of_best(overlaps: np.ndarray) -> np.ndarray:
    """Returns the recall of the 1, 2, ... MAX_PROPOSALS best segments, in 0..1.

    The mean over RECALL_OVERLAPS, whatever the class; matched as in `_match`. Asking
    for more segments than there are gives the recall of all; asking for exactly as
    many gives 0, as in the public code.

    Args:
        overlaps: (P, G) IoU, best predicted segment first.
    """
    num_predicted, num_true = overlaps.shape
    recall = np.zeros(MAX_PROPOSALS)
    if not num_predicted or not num_true:
        return recall
    wanted, overlap = overlaps.argmax(axis=1), overlaps.max(axis=1)
    for least in RECALL_OVERLAPS:
        asking = np.flatnonzero(overlap >= least)  # ranks
        _, first = np.unique(wanted[asking], return_index=True)
        ranks = asking[first]  # the first to ask for each true segment
        found = np.bincount(ranks[ranks < MAX_PROPOSALS], minlength=MAX_PROPOSALS)
        recall += np.cumsum(found) / num_true
    if num_predicted <= MAX_PROPOSALS:
        recall[num_predicted - 1] = 0.0
    return recall / len(RECALL_OVERLAPS)


def _interpolated_precision(hits: np.ndarray, num_true: int) -> np.ndarray:
    """Returns the area under the interpolated precision-recall curve, (10,) in 0..1.

    From an IoU of 0.5 on, two different segments of a prediction cannot hit the same
    true one (they would have to tile it, and so be one segment): whether a detection
    is right does not depend on the others.

    Args:
        hits: (P, 10) whether a detection is right, best first.
        num_true: true segments of the class.
    """
    found = np.cumsum(hits, axis=0)
    precision = found / np.arange(1, len(hits) + 1)[:, None]
    best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.sum(best_from_here * hits, axis=0) / num_true
