"""Evaluates a training's state on held-out videos, to select the best checkpoint."""

import dataclasses
import functools
from collections.abc import Mapping

import ml_collections
import numpy as np

from svtas_jax.evaluation.confusion_picture import draw_confusion
from svtas_jax.evaluation.metrics import SegmentCounts, new_counts
from svtas_jax.evaluation.scoring import Scorer, share_videos
from svtas_jax.evaluation.timeline import draw_timeline
from svtas_jax.runtime import hosts
from svtas_jax.runtime.interruption import Interrupted, Interruption
from svtas_jax.stitching import logits_to_confidence
from svtas_jax.structs import TrainState, VideoRecord

_SHOWN = 4  # videos, always the same ones, so that TensorBoard shows how they change


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """The result of an evaluation of the selection videos.

    Attributes:
        metrics: in percent.
        pictures: name -> (H, W, 3) uint8 RGB: the confusion of classes, and timelines
            of a few videos; none in other processes than the first.
    """

    metrics: dict[str, float]
    pictures: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Selector:
    """Evaluates a state on the selection videos.

    Attributes:
        config: of the run.
        class_names: of the data.
        records: the selection videos.
        score: see `evaluation.scoring.make_scorer`.
        signals: can interrupt an evaluation.
    """

    config: ml_collections.ConfigDict
    class_names: tuple[str, ...]
    records: tuple[VideoRecord, ...]
    score: Scorer
    signals: Interruption

    def evaluate(self, state: TrainState) -> Selection:
        """Returns metrics and pictures; each process evaluates a share of the videos.

        Raises:
            Interrupted: if one of the processes was asked to stop.
        """
        counts = none = new_counts(self.config, self.class_names)
        shown, kept = {record.name for record in self.records[:_SHOWN]}, {}
        for video in self.score(state.variables, share_videos(self.records)):
            counts = counts.add(video.labels, video.record.labels)
            if video.record.name in shown:
                confidence = logits_to_confidence(video.logits)
                kept[video.record.name] = video.labels, confidence
            if self.signals.requested:
                break
        parts, requested, videos = zip(
            *hosts.gather((counts, self.signals.requested, kept)), strict=True
        )
        if any(requested):
            raise Interrupted
        counts = functools.reduce(SegmentCounts.merge, parts, none)
        kept = functools.reduce(dict.__or__, videos, {})
        return Selection(counts.compute(), self._draw(counts.confusion, kept))

    def _draw(
        self, confusion: np.ndarray, kept: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        if not hosts.is_first():
            return {}
        pictures = {
            f"timeline/{record.name}": self._timeline(record, *kept[record.name])
            for record in self.records[:_SHOWN]
        }
        picture = draw_confusion(confusion, self.class_names)
        return pictures if picture is None else {"confusion": picture, **pictures}

    def _timeline(
        self, record: VideoRecord, labels: np.ndarray, confidence: np.ndarray
    ) -> np.ndarray:
        return draw_timeline(
            record.labels,
            labels,
            self.class_names,
            fps=record.fps,
            title=record.name,
            confidence=confidence,
            background=self.config.eval.background,
        )
