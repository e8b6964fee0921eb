"""F1 of the borders between segments, at several tolerances, as running sums.

A border lies between two frames of different labels, background included; the
beginning and the end of a video are none. A predicted border within the tolerance of a
true one matches it, whatever the labels on its sides, and each matches one at most: the
number of pairs is the largest possible. F1 = 2 TP / (predicted + true borders), summed
over videos.

Classes do not count, so that it says whether labels change at the right time: Ishikawa
et al., "Alleviating Over-segmentation Errors by Detecting Action Boundaries" (ASRF),
WACV 2021, measure borders so, at one tolerance in frames. F1 of borders within some
seconds goes back to Turnbull et al., "A Supervised Approach for Detecting Boundaries in
Music Using Difference Features and Boosting", ISMIR 2007.
"""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from svtas_jax.structs import IGNORE_LABEL

TOLERANCES_S = (0.1, 0.5, 1.0)
TOLERANCES_FRAMES = (2, 8, 15)  # the same at 15 frames a second
_ROUNDING_FRAMES = 1e-9  # what is as far as the tolerance must not miss it by rounding


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryCounts:
    """Sums over the videos so far; `add` returns a new object.

    Attributes:
        in_seconds: whether tolerances are TOLERANCES_S or TOLERANCES_FRAMES.
        matched: pairs of borders, by tolerance.
        num_predicted, num_true: borders.
    """

    in_seconds: bool
    matched: np.ndarray  # (3,) int64
    num_predicted: int
    num_true: int

    @classmethod
    def zero(cls, rates: Iterable[float]) -> "BoundaryCounts":
        """Returns the sums before the first video.

        Args:
            rates: frame rate of every video to come; if one is 0 (unknown), tolerances
                are in frames.
        """
        return cls(all(fps > 0 for fps in rates), np.zeros(3, np.int64), 0, 0)

    def add(
        self, prediction: np.ndarray, truth: np.ndarray, fps: float
    ) -> "BoundaryCounts":
        """Returns the sums with one more video.

        A border beside a frame whose truth is IGNORE_LABEL does not count.

        Args:
            prediction: (num_frames,) class of every frame.
            truth: (num_frames,) class of every frame or IGNORE_LABEL.
            fps: frame rate, only for tolerances in seconds.
        """
        known = np.asarray(truth) != IGNORE_LABEL
        known = known[1:] & known[:-1]
        predicted, true = (borders_of(labels, known) for labels in (prediction, truth))
        pairs = [num_pairs(predicted, true, limit) for limit in self._limits(fps)]
        return dataclasses.replace(
            self,
            matched=self.matched + np.array(pairs, np.int64),
            num_predicted=self.num_predicted + len(predicted),
            num_true=self.num_true + len(true),
        )

    def merge(self, other: "BoundaryCounts") -> "BoundaryCounts":
        """Returns the sums over the videos of both.

        Raises:
            ValueError: if their tolerances differ.
        """
        if self.in_seconds != other.in_seconds:
            raise ValueError("counts of other tolerances cannot be added.")
        return BoundaryCounts(
            self.in_seconds,
            self.matched + other.matched,
            self.num_predicted + other.num_predicted,
            self.num_true + other.num_true,
        )

    def compute(self) -> dict[str, float]:
        """Returns the F1 at each tolerance in percent; NaN without any border."""
        borders = self.num_predicted + self.num_true
        scores = 200.0 * self.matched / borders if borders else np.full(3, math.nan)
        return {
            name: float(score)
            for name, score in zip(self._names(), scores, strict=True)
        }

    def _names(self) -> list[str]:
        if self.in_seconds:
            return [f"boundary_f1_{seconds:g}s" for seconds in TOLERANCES_S]
        return [f"boundary_f1_{frames}_frames" for frames in TOLERANCES_FRAMES]

    def _limits(self, fps: float) -> list[float]:
        if self.in_seconds:
            return [fps * seconds for seconds in TOLERANCES_S]
        return list(TOLERANCES_FRAMES)


def borders_of(labels: np.ndarray, known: np.ndarray) -> list[int]:
    """Returns the first frame after every border, ascending.

    Args:
        labels: (num_frames,) integers.
        known: (num_frames - 1,) whether a border may lie after a frame.
    """
    labels = np.asarray(labels)
    return (np.flatnonzero((labels[1:] != labels[:-1]) & known) + 1).tolist()


def num_pairs(predicted: list[int], true: list[int], limit: float) -> int:
    """Returns how many pairs of borders no more than `limit` frames apart can be made,
    each border in one pair at most.

    Taking the first two that are near enough, in order, loses no pair, because the
    limit is the same everywhere.

    Args:
        predicted, true: frames, ascending.
        limit: in frames.
    """
    pairs = i = j = 0
    while i < len(predicted) and j < len(true):
        gap = predicted[i] - true[j]
        near = abs(gap) <= limit + _ROUNDING_FRAMES
        pairs += near
        i += near or gap < 0
        j += near or gap > 0
    return pairs
