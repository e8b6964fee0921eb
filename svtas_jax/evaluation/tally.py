"""Counts all that a report shows of labels, by the conventions of a preset."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from svtas_jax.evaluation.boundaries import BoundaryCounts
from svtas_jax.evaluation.detection import DetectionCounts
from svtas_jax.evaluation.metrics import (
    SegmentCounts,
    background_classes,
    frame_metrics,
)
from svtas_jax.evaluation.presets import Preset
from svtas_jax.structs import IGNORE_LABEL


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Sums over the videos so far; `add` returns a new object.

    Attributes:
        preset: the conventions.
        segments: sums for frames and segments.
        boundaries: sums for borders.
        detections: sums for average precision; empty unless the preset has it.
        num_without_actions: videos whose true labels are all background.
    """

    preset: Preset
    segments: SegmentCounts
    boundaries: BoundaryCounts
    detections: DetectionCounts
    num_without_actions: int = 0

    @classmethod
    def zero(
        cls,
        preset: Preset,
        class_names: Sequence[str],
        *,
        background: Sequence[str],
        rates: Iterable[float],
    ) -> "Tally":
        """Returns the sums before the first video.

        Args:
            preset: the conventions.
            class_names: names in the order of the class indices.
            background: `config.eval.background`.
            rates: frame rate of every video to come, 0 if unknown.
        """
        names = preset.background_of(tuple(background))
        ignored = background_classes(class_names, names)
        return cls(
            preset,
            SegmentCounts.zero(len(class_names), ignored, preset.rules),
            BoundaryCounts.zero(rates),
            DetectionCounts.zero(len(class_names), ignored),
        )

    def add(
        self,
        prediction: np.ndarray,
        truth: np.ndarray,
        scores: np.ndarray | None,
        *,
        fps: float,
    ) -> "Tally":
        """Returns the sums with one more video.

        Args:
            prediction: (num_frames,) class of every frame; see `SegmentCounts.add`.
            truth: (num_frames,) class of every frame or IGNORE_LABEL.
            scores: (num_frames, K) by which segments are ranked, logits for a preset
                with ranks; None if unknown, for all videos or for none.
            fps: frame rate, 0 if unknown.
        """
        known = truth != IGNORE_LABEL
        shown = prediction[: len(truth)]
        detections = self.detections
        if self.preset.has_detections:
            kept = None if scores is None else scores[known]
            detections = detections.add(shown[known], truth[known], kept)
        is_idle = known.any() and np.isin(truth[known], self.segments.background).all()
        ranked = scores if self.preset.has_ranks else None
        return dataclasses.replace(
            self,
            segments=self.segments.add(prediction, truth, ranked),
            boundaries=self.boundaries.add(shown, truth, fps),
            detections=detections,
            num_without_actions=self.num_without_actions + int(is_idle),
        )

    def merge(self, other: "Tally") -> "Tally":
        """Returns the sums over the videos of both, which have the same preset."""
        return Tally(
            self.preset,
            self.segments.merge(other.segments),
            self.boundaries.merge(other.boundaries),
            self.detections.merge(other.detections),
            self.num_without_actions + other.num_without_actions,
        )

    def own_metrics(self) -> dict[str, float]:
        """Returns the preset's metrics in percent; none without a labelled frame."""
        return self._chosen() if self.segments.num_videos else {}

    def compute(self) -> dict[str, float]:
        """Returns all metrics in percent.

        Raises:
            InputError: if there was no labelled frame.
        """
        return {
            **self._chosen(),
            **frame_metrics(self.segments),
            **self.boundaries.compute(),
        }

    def _chosen(self) -> dict[str, float]:
        found = self.segments.compute()
        if self.preset.has_detections:
            return {"acc": found["acc"], **self.detections.compute()}
        return found

    def conventions(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns the conventions in words, and what they meant for these videos."""
        names = [class_names[k] for k in self.segments.background]
        idle = str(self.num_without_actions)
        if self.num_without_actions and not self.preset.rules.hit_without_actions:
            idle += f"; at such a video {self.preset.source} stops, or gives no Edit"
        return {
            **self.preset.describe(),
            "background": ", ".join(names) or "none of the classes",
            "videos without actions": idle,
        }
