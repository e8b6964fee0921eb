"""Measures of predicted segments ranked by score: average recall, average precision.

A detection task's measures on a segmentation: see `svtas_jax.evaluation.metrics`, whose
doc says what they mean and where they come from.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from svtas_jax.structs import Segment

RECALL_OVERLAPS = (0.10, 0.25, 0.50)
PRECISION_OVERLAPS = tuple(np.linspace(0.50, 0.95, 10))
MAX_PROPOSALS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Predicted segments of one video that compete in the average precision."""

    labels: np.ndarray  # (P,) int64
    scores: np.ndarray  # (P,) float64, the rank
    overlaps: np.ndarray  # (P,) float64, best IoU with a true segment of the class


@dataclasses.dataclass(frozen=True, eq=False)
class RankedCounts:
    """Sums over the videos seen so far; `add` returns a new one.

    Attributes:
        num_videos: videos seen.
        recall_sum: sum over videos of the recall of the 1, 2, ... best segments.
        class_segments: true segments of each class, for the average precision.
        detections: predicted segments of each video.
    """

    num_videos: int
    recall_sum: np.ndarray  # (MAX_PROPOSALS,) float64
    class_segments: np.ndarray  # (K,) int64
    detections: tuple[Detections, ...]

    @classmethod
    def zero(cls, num_classes: int) -> "RankedCounts":
        """Returns the sums over no video."""
        return cls(0, np.zeros(MAX_PROPOSALS), np.zeros(num_classes, np.int64), ())

    def add(
        self, predicted: list[Segment], true: list[Segment], scores: np.ndarray
    ) -> "RankedCounts":
        """Returns the sums with one more video.

        Args:
            predicted, true: its segments that are no background.
            scores: (num_frames, K).
        """
        overlaps = overlaps_of(predicted, true)
        ranks = np.array([_segment_score(s, scores) for s in predicted])
        best = np.max(overlaps * same_class(predicted, true), axis=1, initial=0.0)
        detections = Detections(labels_of(predicted), scores=ranks, overlaps=best)
        order = np.argsort(-ranks, kind="stable")
        per_class = np.bincount(labels_of(true), minlength=len(self.class_segments))
        return RankedCounts(
            num_videos=self.num_videos + 1,
            recall_sum=self.recall_sum + _recall_of_best(overlaps[order]),
            class_segments=self.class_segments + per_class,
            detections=(*self.detections, detections),
        )

    def merge(self, other: "RankedCounts") -> "RankedCounts":
        """Returns the sums over the videos of both, for the same classes."""
        return RankedCounts(
            num_videos=self.num_videos + other.num_videos,
            recall_sum=self.recall_sum + other.recall_sum,
            class_segments=self.class_segments + other.class_segments,
            detections=self.detections + other.detections,
        )

    def compute(self, background: Sequence[int]) -> dict[str, float]:
        """Returns auc, ar_N, map_50 and map_avg in percent."""
        recall = 100.0 * self.recall_sum / self.num_videos
        precision = 100.0 * self._average_precision(background)
        return {
            "auc": recall.mean(),
            "ar_1": recall[0],
            "ar_5": recall[4],
            "ar_15": recall[14],
            "map_50": precision[0],
            "map_avg": precision.mean(),
        }

    def _average_precision(self, background) -> np.ndarray:
        """Returns the mean over classes of the average precision, (10,) in 0..1."""
        labels, scores, overlaps = (
            np.concatenate([getattr(d, name) for d in self.detections])
            for name in ("labels", "scores", "overlaps")
        )
        # Among equal scores the worse detection first, so that nothing depends on the
        # order of the videos.
        order = np.lexsort((overlaps, -scores))
        labels, overlaps = labels[order], overlaps[order]
        classes = [k for k in range(len(self.class_segments)) if k not in background]
        total = np.zeros(len(PRECISION_OVERLAPS))
        for k in classes:
            if self.class_segments[k]:
                hits = overlaps[labels == k, None] >= np.array(PRECISION_OVERLAPS)
                total += _interpolated_precision(hits, self.class_segments[k])
        return total / max(1, len(classes))


def labels_of(segments: list[Segment]) -> np.ndarray:
    """Returns the class of every segment, (P,) int64."""
    return np.array([s.label for s in segments], np.int64)


def same_class(predicted: list[Segment], true: list[Segment]) -> np.ndarray:
    """Returns for every pair whether their class is one, (P, G) bool."""
    return labels_of(predicted)[:, None] == labels_of(true)


def overlaps_of(predicted: list[Segment], true: list[Segment]) -> np.ndarray:
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
