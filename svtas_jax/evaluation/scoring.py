"""Streams videos through a model, several in parallel; returns every frame's logits."""

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
from svtas_jax.feedback import make_told_segmenter
from svtas_jax.runtime import hosts
from svtas_jax.runtime.sharding import by_slot, local_copy, local_mesh, shard_batch
from svtas_jax.stitching import logits_to_labels, logits_to_scores, stitch_steps
from svtas_jax.streaming import make_segmenter
from svtas_jax.structs import Chunk, Model, Params, VideoRecord


@dataclasses.dataclass(frozen=True)
class VideoScores:
    """A model's output for every frame of a video.

    Attributes:
        record: the video.
        logits: (num_frames, K) float32.
        smoothed: (num_frames,) int32, the labels that a viewer is shown if they are
            not the model's.
    """

    record: VideoRecord
    logits: np.ndarray
    smoothed: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """The class of every frame, (num_frames,) int32."""
        return logits_to_labels(self.logits) if self.smoothed is None else self.smoothed

    @property
    def scores(self) -> np.ndarray:
        """The probability of every class, (num_frames, K) float32."""
        return logits_to_scores(self.logits)


Scorer = Callable[[Params, Sequence[VideoRecord]], Iterator[VideoScores]]


def share_videos(records: Sequence[VideoRecord]) -> tuple[VideoRecord, ...]:
    """Returns this process's share of the videos, in the same order."""
    return hosts.share_out(records, [record.num_frames for record in records])


def make_scorer(
    model: Model, config: ml_collections.ConfigDict, *, true_labels: bool = False
) -> Scorer:
    """Returns a function that streams videos through the model and yields each result
    when its video has ended.

    It runs `config.eval.batch_size` videos in parallel on this process's devices, and
    holds only a few chunks and the logits of these videos in memory. With
    `true_labels`, prompts are made of these, see `feedback.segment_told_truth`.
    """
    mesh = local_mesh(config.eval.batch_size)
    make = make_told_segmenter if true_labels else make_segmenter
    segmenter = make(model, by_slot(mesh))

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
    """Streams videos through a step function; yields each video, when it has ended,
    with the outputs of its chunks (N, T, ...).

    Args:
        step: maps a state and chunks, leaves (N, B, ...), to the next state and
            outputs (N, B, T, ...).
        state: the initial one.
        records: the videos.
        config: see `svtas_jax.config`.
    """
    if not records:
        return
    size = config.train.chunks_per_call
    dataset = make_dataset(
        records,
        config.data,
        batch_size=config.eval.batch_size,
        chunks_per_call=size,
        chunks_per_step=size,  # videos back to back: no slot waits for the longest
        train=False,
    )
    parts = collections.defaultdict(list)
    with contextlib.closing(iter(dataset)) as batches:
        for batch in batches:
            state, outputs = step(state, batch.chunks)
            outputs = np.asarray(outputs)
            for chunk_and_slot in map(tuple, np.argwhere(batch.videos != EMPTY_SLOT)):
                index = int(batch.videos[chunk_and_slot])
                parts[index].append(outputs[chunk_and_slot])
                if len(parts[index]) == dataset.schedule.num_chunks[0, index]:
                    yield records[index], np.stack(parts.pop(index))
