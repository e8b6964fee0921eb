"""Streams videos through a model, side by side, to the logits of every frame."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from data_pipeline.dataset import EMPTY_SLOT, make_dataset
from svtas_jax.config import stream_spec
from svtas_jax.runtime import hosts
from svtas_jax.runtime.sharding import by_slot, local_copy, local_mesh, shard_batch
from svtas_jax.stitching import logits_to_labels, stitch_steps
from svtas_jax.streaming import make_segmenter
from svtas_jax.structs import Chunk, Model, Params, VideoRecord


@dataclasses.dataclass(frozen=True)
class VideoScores:
    """What a model makes of every frame of a video.

    Attributes:
        record: the video.
        logits: (num_frames, K) float32.
    """

    record: VideoRecord
    logits: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The predicted class of every frame, (num_frames,) int32."""
        return logits_to_labels(self.logits)


Scorer = Callable[[Params, Sequence[VideoRecord]], Iterator[VideoScores]]


def share_videos(records: Sequence[VideoRecord]) -> tuple[VideoRecord, ...]:
    """Returns this process's share of the videos, in their order."""
    return hosts.share_out(records, [record.num_frames for record in records])


def make_scorer(model: Model, config: ml_collections.ConfigDict) -> Scorer:
    """Returns a function that streams videos, `config.eval.batch_size` side by side on
    the devices of this process, and yields each when it has ended. Memory is that of a
    few chunks and the scores of one batch."""
    mesh = local_mesh(config.eval.batch_size)
    segmenter = make_segmenter(model, by_slot(mesh))

    def score(variables, records):
        variables = local_copy(variables, mesh)
        state = model.initial_state(config.eval.batch_size)
        state = jax.device_put(state, by_slot(mesh))

        def step(state, chunks):
            return segmenter(variables, state, shard_batch(chunks, mesh))

        for record, logits in stream_videos(step, state, records, config):
            stitched = stitch_steps(
                logits, num_frames=record.num_frames, spec=stream_spec(config)
            )
            yield VideoScores(record, stitched)

    return score


def stream_videos(
    step: Callable[[Any, Chunk], tuple[Any, jax.Array]],
    state: Any,
    records: Sequence[VideoRecord],
    config: ml_collections.ConfigDict,
) -> Iterator[tuple[VideoRecord, np.ndarray]]:
    """Runs videos, if there are any, through a step; yields each, when it has ended,
    with what the step made of its chunks, (N, T, ...).

    Args:
        step: maps a state and chunks, leaves (N, B, ...), to the next state and an
            array (N, B, T, ...).
        state: to begin with.
    """
    if not records:
        return
    size = config.train.chunks_per_call
    dataset = make_dataset(
        records,
        config.data,
        batch_size=config.eval.batch_size,
        chunks_per_call=size,
        chunks_per_step=size,  # packed: no slot waits for the longest video
        train=False,
    )
    parts = collections.defaultdict(list)
    with contextlib.closing(iter(dataset)) as batches:
        for batch in batches:
            state, made = step(state, batch.chunks)
            made = np.asarray(made)
            for place in np.argwhere(batch.videos != EMPTY_SLOT):
                index = int(batch.videos[tuple(place)])
                parts[index].append(made[tuple(place)])
                if len(parts[index]) == dataset.schedule.num_chunks[index]:
                    yield records[index], np.stack(parts.pop(index))
