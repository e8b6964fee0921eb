"""Trains a streaming segmentation model end to end on video files.

    python -m svtas_jax.train --config=configs/gtea_transeger.py --workdir=runs/x

The same command resumes a run that was stopped. Fields are overridden by
--config.section.field=value.
"""

import contextlib
import dataclasses

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax
from absl import logging
from clu import parameter_overview

from data_pipeline import annotations
from data_pipeline.checks import check_disjoint, check_records, describe
from data_pipeline.dataset import StreamDataset, feature_width, make_dataset
from svtas_jax import checkpoint, cli, evaluate, provenance
from svtas_jax.config import stream_spec, validate_config, with_clip_frames
from svtas_jax.files import make_folder
from svtas_jax.models import build_model
from svtas_jax.optim import make_optimizer
from svtas_jax.run_config import check_resumable
from svtas_jax.sharding import make_mesh, replicate, shard_batch
from svtas_jax.streaming import blank_chunk, make_segmenter
from svtas_jax.structs import TrainState, VideoRecord
from svtas_jax.train_log import TrainLog
from svtas_jax.train_step import init_carry, init_train_state, make_train_functions


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a run learns from and what it is selected on."""

    class_names: tuple[str, ...]
    train: tuple[VideoRecord, ...]
    selection: tuple[VideoRecord, ...]

    @property
    def num_frames(self) -> tuple[int, ...]:
        """Of every video."""
        return tuple(record.num_frames for record in (*self.train, *self.selection))

    @property
    def feature_width(self) -> int:
        """Numbers of a step's features; 0 if the model sees pictures."""
        return feature_width((*self.train, *self.selection))

    @property
    def fps(self) -> float:
        """The usual frame rate of the training videos, 0 if no file tells its own."""
        told = [record.fps for record in self.train if record.fps]
        return float(np.median(told)) if told else 0.0


def main() -> None:
    """Runs the command."""
    config, workdir = cli.CONFIG.value, cli.WORKDIR.value
    validate_config(config)
    train(config, workdir)


def read_training_data(config: ml_collections.ConfigDict) -> TrainingData:
    """Reads annotations; holds out validation videos unless the test split selects."""
    evaluate.prepare_data(config)
    records = annotations.read_split(config.data, "train")
    if config.train.selection == "test":
        held_out = annotations.read_split(config.data, "test")
    else:
        records, held_out = annotations.hold_out(
            records, config.train.validation_share, config.seed
        )
    names = annotations.class_names(config.data)
    check_disjoint(records, held_out, split=config.data.split)
    check_records((*records, *held_out), names)
    logging.info("training videos\n%s", describe(records, names))
    logging.info("videos to select on\n%s", describe(held_out, names))
    return TrainingData(names, records, held_out)


def train(config: ml_collections.ConfigDict, workdir: str) -> TrainState:
    """Trains until the last epoch; returns the final state."""
    make_folder(workdir)
    data = read_training_data(config)
    given, config = config, with_clip_frames(config, data.num_frames)
    model = build_model(config, data.class_names)
    dataset = training_batches(config, data)
    tx = optimizer_of(config, dataset.schedule.steps_per_epoch)
    with checkpoint.open_manager(workdir) as manager:
        batches = iter(dataset)
        state = first_state(config, model, tx, data.feature_width)
        if manager.latest_step() is not None:
            check_resumable(given, checkpoint.read_meta(workdir, "latest").config)
            state = checkpoint.restore_training(manager, state, data_iterator=batches)
            logging.info("resuming after step %d", state.step)
        parameter_overview.log_parameter_overview(state.params, include_stats=False)
        with contextlib.closing(batches):
            return _loop(
                config,
                given,
                workdir,
                data,
                model,
                tx,
                state,
                batches,
                dataset.schedule,
                manager,
            )


def optimizer_of(
    config: ml_collections.ConfigDict, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Returns the optimizer that `config.train` describes."""
    return make_optimizer(
        learning_rate=config.train.learning_rate,
        weight_decay=config.train.weight_decay,
        milestones=tuple(e * steps_per_epoch for e in config.train.lr_milestones),
        decay=config.train.lr_decay,
    )


def training_batches(
    config: ml_collections.ConfigDict, data: TrainingData
) -> StreamDataset:
    """Returns the data set of all epochs."""
    return make_dataset(
        data.train,
        config.data,
        batch_size=config.train.batch_size,
        chunks_per_call=config.train.chunks_per_call,
        chunks_per_step=config.train.chunks_per_step,
        num_epochs=config.train.num_epochs,
        seed=config.seed,
        train=True,
    )


def first_state(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    tx: optax.GradientTransformation,
    feature_width: int = 0,
) -> TrainState:
    """Returns fresh parameters, or those of `config.train.init_from` where they fit."""
    chunk = blank_chunk(
        1, stream_spec(config), config.data.crop, feature_width=feature_width
    )
    state = init_train_state(model, tx, chunk, jax.random.key(config.seed))
    if config.train.init_from:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        state = state.replace(
            **checkpoint.initialise_from(config.train.init_from, variables)
        )
    return state


def _loop(
    config, given, workdir, data, model, tx, state, batches, schedule, manager
) -> TrainState:
    """Next batch, step; every so often log, evaluate, save.

    `given` is the config as the user gave it: what is stored.
    """
    settings, key = config.train, jax.random.key(config.seed)
    steps_per_epoch, last = schedule.steps_per_epoch, schedule.num_steps
    eval_every = steps_per_epoch * settings.eval_every_epochs
    accumulate, apply_gradients = make_train_functions(
        model,
        tx,
        smooth_weight=settings.smooth_weight,
        clip_weight=settings.clip_weight,
        remat=settings.remat,
    )
    selector = Selector(config, data, model, make_segmenter(model))
    mesh = make_mesh(settings.batch_size)
    state = replicate(state, mesh)
    carry = replicate(init_carry(state, model, settings.batch_size), mesh)
    step = int(state.step)
    logging.info("%.0f%% of the chunks hold frames", 100 * schedule.filled)
    log = TrainLog(workdir, config, first=step, last=last)
    for batch in log.timed(batches):
        chunks = shard_batch(batch.chunks, mesh)
        state, carry = accumulate(state, carry, chunks, key)
        log.watch(carry.chunk_index)
        if not batch.is_last:
            continue
        state, carry, metrics = apply_gradients(state, carry)
        log.watch(carry.chunk_index)
        step += 1
        log.add(metrics)
        evaluates = is_due(step, eval_every, last)
        if evaluates or is_due(step, settings.log_every_steps, last):
            log.write(step)  # also checks that what is saved next is finite
        if evaluates:
            scores = selector.evaluate(state)
            log.write_selection(step, scores)
            meta = describe_run(given, data, step, step // steps_per_epoch)
            checkpoint.save(
                manager, state, data_iterator=batches, meta=meta, metrics=scores
            )
    manager.wait_until_finished()
    log.close()
    return state


def is_due(step: int, every: int, last: int) -> bool:
    """Whether something that happens every `every` steps, and at the end, is due."""
    return step % every == 0 or step == last


def describe_run(
    config: ml_collections.ConfigDict, data: TrainingData, step: int, epoch: int
) -> checkpoint.Meta:
    """Returns what is stored beside the weights."""
    return checkpoint.Meta(
        config=config.to_dict(),
        class_names=data.class_names,
        fps=data.fps,
        step=step,
        epoch=epoch,
        versions=provenance.versions(),
        feature_width=data.feature_width,
        train_videos=tuple(record.name for record in data.train),
    )


@dataclasses.dataclass(frozen=True)
class Selector:
    """Measures a state on the videos that choose the best checkpoint."""

    config: ml_collections.ConfigDict
    data: TrainingData
    model: nn.Module
    segmenter: evaluate.Segmenter

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Returns the metrics of the selection videos, in percent."""
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        counts = evaluate.new_counts(self.config, self.data.class_names)
        for video in evaluate.score_videos(
            self.segmenter, self.model, variables, self.data.selection, self.config
        ):
            counts = counts.add(video.labels, video.record.labels)
        return counts.compute()


if __name__ == "__main__":
    cli.run(main, required=("config", "workdir"))
