"""Evaluates a training's state on held-out videos, to select the best checkpoint."""

import dataclasses
import functools

import ml_collections

from svtas_jax.evaluation.metrics import SegmentCounts, new_counts
from svtas_jax.evaluation.scoring import Scorer, share_videos
from svtas_jax.runtime import hosts
from svtas_jax.runtime.interruption import Interrupted, Interruption
from svtas_jax.structs import TrainState, VideoRecord


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

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Returns the metrics in percent; each process evaluates a share of the videos.

        Raises:
            Interrupted: if one of the processes was asked to stop.
        """
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        counts = none = new_counts(self.config, self.class_names)
        for video in self.score(variables, share_videos(self.records)):
            counts = counts.add(video.labels, video.record.labels)
            if self.signals.requested:
                break
        parts, requested = zip(
            *hosts.gather((counts, self.signals.requested)), strict=True
        )
        if any(requested):
            raise Interrupted
        return functools.reduce(SegmentCounts.merge, parts, none).compute()
