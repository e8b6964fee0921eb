"""The data of a training: annotations, held-out videos, batches."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator

import jax
import ml_collections
import numpy as np
from absl import logging
from jax.sharding import Mesh

from data_pipeline import annotations, groups
from data_pipeline.checks import (
    check_disjoint,
    check_records,
    describe,
    warn_of_fixed_steps,
    warn_of_shared,
    warn_of_shared_groups,
)
from data_pipeline.dataset import StreamDataset, feature_width, make_dataset
from data_pipeline.demo import render
from svtas_jax.evaluation.background import check_background
from svtas_jax.runtime import hosts
from svtas_jax.runtime.sharding import local_slots
from svtas_jax.structs import Chunk, VideoRecord
from svtas_jax.training import start

# To measure statistics on: from each of several videos, its first chunks.
_NUM_VIDEOS, _NUM_CHUNKS = 8, 2


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The videos to train on, and those that select the best checkpoint."""

    class_names: tuple[str, ...]
    train: tuple[VideoRecord, ...]
    selection: tuple[VideoRecord, ...]
    selected_by: str = ""  # what kind of videos `selection` is, in words

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
    pattern = config.train.validation_group
    warn_of_shared_groups(records, config.data, pattern)
    if config.train.selection == "test":
        held_out = annotations.read_split(config.data, "test")
    else:
        warn_of_shared(records, config.data)
        records, held_out = groups.hold_out(
            *(records, config.train.validation_share, config.seed, pattern)
        )
    names = annotations.class_names(config.data)
    start.warn_of_other_classes(config.train.init_from, names)
    check_disjoint(records, held_out, split=config.data.split)
    check_records((*records, *held_out), names)
    warn_of_fixed_steps(records, config.data)
    logging.info("training videos\n%s", describe(records, names))
    logging.info("selection videos\n%s", describe(held_out, names))
    selected_by = describe_selection(config.train, held_out)
    logging.info("the best checkpoint is chosen by %s", selected_by)
    return TrainingData(names, records, held_out, selected_by)


def describe_selection(
    train_config: ml_collections.ConfigDict, held_out: tuple[VideoRecord, ...]
) -> str:
    """Returns in words which videos choose the best checkpoint, and whether they show
    what is trained on."""
    count, pattern = len(held_out), train_config.validation_group
    videos = f"{count} video{'s' if count > 1 else ''}"
    if train_config.selection == "test":
        return f"the test split ({videos})"
    if not pattern:
        return f"{videos} held out of the training split, perhaps of people trained on"
    names = groups.known_groups(
        [record.name for record in held_out], pattern, groups.OPTION
    )
    which = "groups" if len(names) > 1 else "group"
    are = "are" if len(names) > 1 else "is"
    return f"{videos} of the {which} {groups.listed(names)}, which {are} not trained on"


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


def sample_chunks(
    config: ml_collections.ConfigDict, data: TrainingData
) -> Iterator[Chunk]:
    """Yields a few training chunks, augmented as in training, leaves (1, ...).

    They depend on the seed alone, not on the batch size, the number of epochs or this
    process's share of a batch.
    """
    settings = config.data.copy_and_resolve_references()
    settings.num_workers = 0  # what few chunks there are, threads decode in no time
    num_videos = min(_NUM_VIDEOS, len(data.train))
    batches = make_dataset(
        data.train,
        settings,
        batch_size=num_videos,
        chunks_per_call=1,
        seed=config.seed,
        max_damaged_share=config.train.max_damaged_share,
        train=True,
    )
    with contextlib.closing(iter(batches)) as batches:
        for batch in itertools.islice(batches, _NUM_CHUNKS):
            for slot in range(num_videos):
                one = (0, slice(slot, slot + 1))
                yield jax.tree.map(lambda leaf, one=one: leaf[one], batch.chunks)
