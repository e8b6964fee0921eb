"""The data of a training: annotations, held-out videos, batches."""

import dataclasses

import ml_collections
import numpy as np
from absl import logging
from jax.sharding import Mesh

from data_pipeline import annotations
from data_pipeline.checks import (
    check_disjoint,
    check_records,
    describe,
    warn_of_shared,
)
from data_pipeline.dataset import StreamDataset, feature_width, make_dataset
from data_pipeline.demo import render
from svtas_jax.checkpoints import store
from svtas_jax.evaluation.background import check_background
from svtas_jax.runtime import hosts
from svtas_jax.runtime.sharding import local_slots
from svtas_jax.structs import VideoRecord


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The videos to train on, and those that select the best checkpoint."""

    class_names: tuple[str, ...]
    train: tuple[VideoRecord, ...]
    selection: tuple[VideoRecord, ...]

    @property
    def num_frames(self) -> tuple[int, ...]:
        """The number of frames of every video."""
        return tuple(record.num_frames for record in (*self.train, *self.selection))

    @property
    def class_counts(self) -> np.ndarray:
        """The number of frames of every class in the videos to train on, (K,)."""
        labels = np.concatenate([record.labels for record in self.train])
        return np.bincount(labels[labels >= 0], minlength=len(self.class_names))

    @property
    def feature_width(self) -> int:
        """The width of a step's features (D); 0 if the model reads images."""
        return feature_width((*self.train, *self.selection))

    @property
    def fps(self) -> float:
        """The median frame rate of the training videos, 0 if none is known."""
        known = [record.fps for record in self.train if record.fps]
        return float(np.median(known)) if known else 0.0


def read_training_data(config: ml_collections.ConfigDict) -> TrainingData:
    """Reads and checks the annotations, and splits off the videos for selection: the
    test videos if `config.train.selection` says so, else some of the training videos.
    """
    hosts.once(render.ensure_configured, config.data)
    check_background(config, annotations.class_names(config.data))
    records = annotations.read_split(config.data, "train")
    if config.train.selection == "test":
        held_out = annotations.read_split(config.data, "test")
    else:
        warn_of_shared(records, config.data)
        records, held_out = annotations.hold_out(
            records, config.train.validation_share, config.seed
        )
    names = annotations.class_names(config.data)
    if config.train.init_from:
        store.warn_of_other_classes(config.train.init_from, names)
    check_disjoint(records, held_out, split=config.data.split)
    check_records((*records, *held_out), names)
    logging.info("training videos\n%s", describe(records, names))
    logging.info("selection videos\n%s", describe(held_out, names))
    return TrainingData(names, records, held_out)


def training_batches(
    config: ml_collections.ConfigDict, data: TrainingData, mesh: Mesh
) -> StreamDataset:
    """Returns the batches of all epochs, with the slots of this process's devices."""
    return make_dataset(
        data.train,
        config.data,
        batch_size=config.train.batch_size,
        chunks_per_call=config.train.chunks_per_call,
        chunks_per_step=config.train.chunks_per_step,
        num_epochs=config.train.num_epochs,
        seed=config.seed,
        max_damaged_share=config.train.max_damaged_share,
        slots=local_slots(mesh, config.train.batch_size),
        train=True,
    )
