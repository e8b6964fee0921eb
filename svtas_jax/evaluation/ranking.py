"""Average recall and average precision of predicted segments ranked by score.

`svtas_jax.evaluation.metrics` defines these detection metrics. A score is the mean
logit of a segment's class; the name is that of SVTAS's public code.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from svtas_jax.evaluation.matching import labels_of, overlaps_of, same_class
from svtas_jax.structs import Segment

RECALL_OVERLAPS = (0.10, 0.25, 0.50)
PRECISION_OVERLAPS = tuple(np.linspace(0.50, 0.95, 10))
MAX_PROPOSALS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The predicted segments of one video, for the average precision."""

    labels: np.ndarray  # (P,) int64
    scores: np.ndarray  # (P,) float64, mean logit of the class
    overlaps: np.ndarray  # (P,) float64, best IoU with a true segment of the class


@dataclasses.dataclass(frozen=True, eq=False)
class RankedCounts:
    """Sums over the videos so far; `add` returns a new object.

    Attributes:
        num_videos: number of videos.
        recall_sum: sum over videos of the recall of the 1, 2, ... best segments.
        class_segments: number of true segments of each class.
        detections: predicted segments of each video.
    """

    num_videos: int
    recall_sum: np.ndarray  # (MAX_PROPOSALS,) float64
    class_segments: np.ndarray  # (K,) int64
    detections: tuple[Detections, ...]

    @classmethod
    def zero(cls, num_classes: int) -> "RankedCounts":
        """Returns the sums before the first video."""
        return cls(0, np.zeros(MAX_PROPOSALS), np.zeros(num_classes, np.int64), ())

    def add(
        self, predicted: list[Segment], true: list[Segment], scores: np.ndarray
    ) -> "RankedCounts":
        """Returns the sums with one more video.

        Args:
            predicted, true: its segments, without background.
            scores: (num_frames, K) logits.
        """
        overlaps = overlaps_of(predicted, true)
        own = np.array([_segment_score(s, scores) for s in predicted])
        best = np.max(overlaps * same_class(predicted, true), axis=1, initial=0.0)
        detections = Detections(labels_of(predicted), scores=own, overlaps=best)
        order = np.argsort(-own, kind="stable")
        per_class = np.bincount(labels_of(true), minlength=len(self.class_segments))
        return RankedCounts(
            num_videos=self.num_videos + 1,
            recall_sum=self.recall_sum + _recall_of_best(overlaps[order]),
            class_segments=self.class_segments + per_class,
            detections=(*self.detections, detections),
        )

    def merge(self, other: "RankedCounts") -> "RankedCounts":
        """Returns the sums over the videos of both; classes must be the same."""
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
        """Returns the mean average precision over classes, (10,) in 0..1."""
        labels, scores, overlaps = (
            np.concatenate([getattr(d, name) for d in self.detections])
            for name in ("labels", "scores", "overlaps")
        )
        # Equal scores: the worse detection first, so that the result does not depend
        # on the order of the videos.
        order = np.lexsort((overlaps, -scores))
        labels, overlaps = labels[order], overlaps[order]
        classes = [k for k in range(len(self.class_segments)) if k not in background]
        total = np.zeros(len(PRECISION_OVERLAPS))
        for k in classes:
            if self.class_segments[k]:
                hits = overlaps[labels == k, None] >= np.array(PRECISION_OVERLAPS)
                total += _interpolated_precision(hits, self.class_segments[k])
        return total / max(1, len(classes))


def _segment_score(segment: Segment, scores: np.ndarray) -> float:
    """Returns the mean logit of the segment's class; scores are (num_frames, K).

    As in SVTAS's public code, the mean includes the frame after the segment.
    """
    return scores[segment.start : segment.end + 1, segment.label].mean(dtype=np.float64)


def _recall_of_best(overlaps: np.ndarray) -> np.ndarray:
    """Returns the recall of the 1, 2, ... MAX_PROPOSALS best segments, in 0..1.

    It is a mean over RECALL_OVERLAPS and ignores classes; segments match as in
    `matching.match`. If there are P segments, the recall of more than P is that of all,
    and the recall of exactly P is 0, as in SVTAS's public code.

    Args:
        overlaps: (P, G) IoU, best predicted segment first.
    """
    num_predicted, num_true = overlaps.shape
    recall = np.zeros(MAX_PROPOSALS)
    if not num_predicted or not num_true:
        return recall
    chosen, overlap = overlaps.argmax(axis=1), overlaps.max(axis=1)
    for least in RECALL_OVERLAPS:
        candidates = np.flatnonzero(overlap >= least)  # ranks
        _, first = np.unique(chosen[candidates], return_index=True)
        ranks = candidates[first]  # the best segment that finds each true one
        found = np.bincount(ranks[ranks < MAX_PROPOSALS], minlength=MAX_PROPOSALS)
        recall += np.cumsum(found) / num_true
    if num_predicted <= MAX_PROPOSALS:
        recall[num_predicted - 1] = 0.0
    return recall / len(RECALL_OVERLAPS)


def _interpolated_precision(hits: np.ndarray, num_true: int) -> np.ndarray:
    """Returns the area under the interpolated precision-recall curve, (10,) in 0..1.

    Whether a detection is right does not depend on the others: from an IoU of 0.5 on,
    two predicted segments cannot hit the same true one. They would have to tile it, and
    would then be one segment.

    Args:
        hits: (P, 10) whether a detection is right, best first.
        num_true: number of true segments of the class.
    """
    found = np.cumsum(hits, axis=0)
    precision = found / np.arange(1, len(hits) + 1)[:, None]
    best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.sum(best_from_here * hits, axis=0) / num_true
