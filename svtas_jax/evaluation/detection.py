"""Average precision of segments as detections, as running sums over videos.

Temporal action detection measures it so: per class, the predicted segments of all
videos are ranked by score. In this order each takes the true segment of its class and
video with the highest IoU that is not taken yet, if that IoU reaches the threshold;
then it is right. AP is the area under the interpolated curve of precision over recall,
mAP the mean over the classes that have a true segment. Background is left out.

    map_50, map_75, map_95   mAP at one IoU
    map_avg                  mean over IoU 0.50:0.05:0.95, ActivityNet's figure
    map_30_70                mean over IoU 0.3:0.1:0.7, the figure on THUMOS14

The score of a segment is the mean score of its class over its frames. Segments of equal
score enter together, so that their order does not matter: without any scores, the curve
is one point, and AP is precision times recall.

Heilbron et al., "ActivityNet: A Large-Scale Video Benchmark for Human Activity
Understanding", CVPR 2015; Idrees et al., "The THUMOS Challenge on Action Recognition
for Videos 'in the Wild'", CVIU 2017. SVTAS's ranked metrics are in `ranking`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from svtas_jax.evaluation.matching import labels_of, overlaps_of
from svtas_jax.structs import Segment, labels_to_segments

ACTIVITYNET = tuple(range(50, 100, 5))  # IoU in percent
THUMOS = tuple(range(30, 80, 10))
OVERLAPS = tuple(sorted({*ACTIVITYNET, *THUMOS}))


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The predicted segments of one video."""

    labels: np.ndarray  # (P,) int64
    scores: np.ndarray  # (P,) float64
    hits: np.ndarray  # (P, len(OVERLAPS)) bool, whether it is right


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionCounts:
    """Sums over the videos so far; `add` returns a new object.

    Attributes:
        background: classes to leave out.
        true_segments: number of true segments of each class.
        detections: predicted segments of each video.
    """

    background: tuple[int, ...]
    true_segments: np.ndarray  # (K,) int64
    detections: tuple[Detections, ...]

    @classmethod
    def zero(cls, num_classes: int, background: Sequence[int]) -> "DetectionCounts":
        """Returns the sums before the first video."""
        return cls(tuple(background), np.zeros(num_classes, np.int64), ())

    def add(
        self, prediction: np.ndarray, truth: np.ndarray, scores: np.ndarray | None
    ) -> "DetectionCounts":
        """Returns the sums with one more video.

        Args:
            prediction, truth: (num_frames,) class of every frame.
            scores: (num_frames, K), higher for what is more likely; None if unknown.
        """
        predicted, true = (
            [s for s in labels_to_segments(labels) if s.label not in self.background]
            for labels in (prediction, truth)
        )
        own = np.array([_score(s, scores) for s in predicted], np.float64)
        hits = find_hits(predicted, true, own)
        detections = Detections(labels_of(predicted), own, hits)
        per_class = np.bincount(labels_of(true), minlength=len(self.true_segments))
        return dataclasses.replace(
            self,
            true_segments=self.true_segments + per_class,
            detections=(*self.detections, detections),
        )

    def merge(self, other: "DetectionCounts") -> "DetectionCounts":
        """Returns the sums over the videos of both; classes must be the same."""
        return dataclasses.replace(
            self,
            true_segments=self.true_segments + other.true_segments,
            detections=self.detections + other.detections,
        )

    def compute(self) -> dict[str, float]:
        """Returns the metrics in percent; NaN without any true segment."""
        if not self.true_segments.any():
            mean = np.full(len(OVERLAPS), np.nan)
        else:
            mean = 100.0 * self.class_precision()[self.true_segments > 0].mean(axis=0)
        at = dict(zip(OVERLAPS, mean.tolist(), strict=True))
        return {
            "map_avg": float(np.mean([at[overlap] for overlap in ACTIVITYNET])),
            "map_30_70": float(np.mean([at[overlap] for overlap in THUMOS])),
            **{f"map_{o}": at[o] for o in (*THUMOS, 75, 95)},
        }

    def class_precision(self) -> np.ndarray:
        """Returns the average precision of every class, (K, len(OVERLAPS)) in 0..1."""
        labels, scores, hits = (
            np.concatenate([getattr(d, name) for d in self.detections])
            for name in ("labels", "scores", "hits")
        )
        found = np.zeros((len(self.true_segments), len(OVERLAPS)))
        for k in np.flatnonzero(self.true_segments):
            own = labels == k
            found[k] = _precision(scores[own], hits[own], self.true_segments[k])
        return found


def find_hits(
    predicted: list[Segment], true: list[Segment], scores: np.ndarray
) -> np.ndarray:
    """Returns which predicted segments of a video are right, (P, len(OVERLAPS)) bool.

    Of two with equal scores the earlier one chooses first.

    Args:
        predicted, true: segments.
        scores: (P,) of the predicted ones.
    """
    hits = np.zeros((len(predicted), len(OVERLAPS)), bool)
    overlaps = overlaps_of(predicted, true)
    overlaps = overlaps * (labels_of(predicted)[:, None] == labels_of(true))
    least = np.array(OVERLAPS)[:, None] / 100
    free = np.ones((len(OVERLAPS), len(true)), bool)
    thresholds = np.arange(len(OVERLAPS))
    near = np.max(overlaps, axis=1, initial=0.0) >= least[0, 0]
    for index in np.argsort(-scores, kind="stable"):
        if not near[index]:
            continue
        open_to = np.where(free & (overlaps[index] >= least), overlaps[index], -1.0)
        chosen = open_to.argmax(axis=1)
        hits[index] = open_to[thresholds, chosen] >= 0
        free[thresholds, chosen] &= ~hits[index]
    return hits


def _score(segment: Segment, scores: np.ndarray | None) -> float:
    if scores is None:
        return 1.0
    own = scores[segment.start : segment.end, segment.label]
    return float(own.mean(dtype=np.float64))


def _precision(scores: np.ndarray, hits: np.ndarray, num_true: int) -> np.ndarray:
    """Returns a class's average precision, (len(OVERLAPS),) in 0..1."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    ends = np.searchsorted(-scores, -scores, side="right")  # of those as good
    precision = np.cumsum(hits, axis=0)[ends - 1] / ends[:, None]
    best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.sum(best_from_here * hits, axis=0) / num_true
