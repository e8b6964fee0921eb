"""Which checkpoint of a training is the best: what its videos to select on say."""

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
    """Measures a state on the videos that choose the best checkpoint.

    Attributes:
        config: of the run.
        class_names: of the data.
        records: the videos.
        score: see `evaluation.scoring.make_scorer`.
        signals: may end a measurement.
    """

    config: ml_collections.ConfigDict
    class_names: tuple[str, ...]
    records: tuple[VideoRecord, ...]
    score: Scorer
    signals: Interruption

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Returns the metrics of the videos, in percent; every process looks at its
        share.

        Raises:
            Interrupted: if one of the processes has been told to stop.
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
