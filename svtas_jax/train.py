"""Trains a streaming segmentation model end to end on video files.

    python -m svtas_jax.train --config=configs/gtea_transeger.py --workdir=runs/x

The same command resumes a run that was stopped. Fields are overridden by
--config.section.field=value.
"""

import contextlib
import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax
import orbax.checkpoint as ocp
from absl import logging
from clu import parameter_overview
from jax.sharding import Mesh

from data_pipeline import annotations
from data_pipeline.checks import check_disjoint, check_records, describe, warn_of_shared
from data_pipeline.dataset import (
    StreamDataset,
    StreamIterator,
    feature_width,
    make_dataset,
)
from data_pipeline.schedule import Schedule
from svtas_jax import evaluate
from svtas_jax.checkpoints import resume, store
from svtas_jax.checkpoints.resume import Position
from svtas_jax.config import stream_spec, validate_config, with_clip_frames
from svtas_jax.evaluation.background import check_background
from svtas_jax.models import build_model
from svtas_jax.run_config import check_resumable
from svtas_jax.runtime import cli, lock, provenance
from svtas_jax.runtime.interruption import Interrupted, Interruption
from svtas_jax.runtime.sharding import local_slots, make_mesh, place, shard_batch
from svtas_jax.streaming import blank_chunk
from svtas_jax.structs import TrainState, VideoRecord
from svtas_jax.training.log import TrainLog
from svtas_jax.training.optim import make_optimizer
from svtas_jax.training.step import init_carry, init_train_state, make_train_functions
from svtas_jax.training.validation import Selector


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
    logging.info("videos to select on\n%s", describe(held_out, names))
    return TrainingData(names, records, held_out)


@lock.one_at_a_time
def train(config: ml_collections.ConfigDict, workdir: str) -> TrainState:
    """Trains until the last epoch; returns the final state.

    Raises:
        Interrupted: after SIGTERM, when all that the same command needs to go on is on
            the disk.
        InputError: if another program writes to `workdir`, among others.
    """
    data = read_training_data(config)
    given, config = config, with_clip_frames(config, data.num_frames)
    model = build_model(config, data.class_names)
    mesh = make_mesh(config.train.batch_size)
    dataset = training_batches(config, data, mesh)
    tx = optimizer_of(config, dataset.schedule.steps_per_epoch)
    state = first_state(config, model, tx, data.feature_width)
    with contextlib.closing(iter(dataset)) as batches:
        position = Position(
            state,
            init_carry(state, model, config.train.batch_size),
            batches.get_state(),
        )
        if candidates := resume.newest(workdir):
            _check_resumable(given, workdir, candidates)
            position = resume.restore_newest(workdir, candidates, position)
            batches.set_state(position.data)
            logging.info("resuming after step %d", position.state.step)
        parameter_overview.log_parameter_overview(state.params, include_stats=False)
        score = evaluate.make_scorer(model, config)
        with store.open_manager(workdir) as manager, Interruption() as signals:
            run = Run(
                config,
                given,
                workdir,
                data,
                model,
                tx,
                mesh,
                dataset.schedule,
                manager,
                Selector(config, data.class_names, data.selection, score, signals),
                signals,
            )
            return run.go_on(position, batches)


def _check_resumable(given, workdir, candidates) -> None:
    for folder, step in candidates:
        try:
            meta = store.read_meta(workdir, str(step), folder=folder)
        except Exception:  # damaged: `restore_newest` will say so
            continue
        check_resumable(given, meta.config, meta.origin)
        return


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
    config: ml_collections.ConfigDict, data: TrainingData, mesh: Mesh
) -> StreamDataset:
    """Returns the data set of all epochs, of the slots that lie in this process."""
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
            **store.initialise_from(config.train.init_from, variables)
        )
    return state


@dataclasses.dataclass(frozen=True)
class Run:
    """A training with all that stays the same; `given` is the config as the user gave
    it: what is stored."""

    config: ml_collections.ConfigDict
    given: ml_collections.ConfigDict
    workdir: str
    data: TrainingData
    model: nn.Module
    tx: optax.GradientTransformation
    mesh: Mesh
    schedule: Schedule
    manager: ocp.CheckpointManager
    selector: Selector
    signals: Interruption

    def go_on(self, position: Position, batches: StreamIterator) -> TrainState:
        """Next batch, step; every so often log, evaluate, save; until all is shown."""
        settings = self.config.train
        state, carry, shardings = place(
            position.state, position.carry, self.mesh, settings.split_from
        )
        accumulate, apply_gradients = self._compile(shardings)
        logging.info("%.0f%% of the chunks hold frames", 100 * self.schedule.filled)
        step, key = int(state.step), jax.random.key(self.config.seed)
        log = self._open_log(step, position)

        def here():
            return Position(state, carry, batches.get_state(), log.get_state())

        try:
            if self._was_left_in_evaluation(step, position):
                self._evaluate(here(), log)
            for batch in log.timed(batches):
                chunks = shard_batch(batch.chunks, self.mesh)
                state, carry = accumulate(state, carry, chunks, key)
                log.watch(carry.chunk_index)
                if batch.is_last:
                    state, carry, metrics = apply_gradients(state, carry)
                    log.watch(carry.chunk_index)
                    step += 1
                    log.add(metrics)
                    self._after(step, here, log)
                self.signals.check()
        except Interrupted as stop:
            self._save_interrupted(step, here())
            raise Interrupted(
                f"stopped by SIGTERM after step {step} of {self.schedule.num_steps}. "
                f"Where it stands is saved in {self.workdir}; the same command goes on "
                "from there."
            ) from stop
        finally:
            log.close()
        self.manager.wait_until_finished()
        resume.forget_interrupted(self.workdir)
        return state

    def _compile(self, shardings):
        settings = self.config.train
        return make_train_functions(
            self.model,
            self.tx,
            shardings=shardings,
            skip_bad=settings.max_bad_chunks > 0,
            smooth_weight=settings.smooth_weight,
            clip_weight=settings.clip_weight,
            remat=settings.remat,
        )

    def _open_log(self, step: int, position: Position) -> TrainLog:
        return TrainLog(
            self.workdir,
            self.config,
            first=step,
            last=self.schedule.num_steps,
            state=position.log,
            shown=self._name_shown,
        )

    def _after(self, step: int, here: Callable[[], Position], log: TrainLog) -> None:
        """Logs, evaluates and saves after a step where that is due."""
        settings, last = self.config.train, self.schedule.num_steps
        evaluates = self._evaluates_after(step)
        if evaluates or is_due(step, settings.log_every_steps, last):
            log.write(step)
        if evaluates:
            self._evaluate(here(), log)
        elif settings.save_every_steps and step % settings.save_every_steps == 0:
            self._save(here())

    def _evaluates_after(self, step: int) -> bool:
        epochs = self.config.train.eval_every_epochs
        return is_due(
            step, self.schedule.steps_per_epoch * epochs, self.schedule.num_steps
        )

    def _was_left_in_evaluation(self, step: int, position: Position) -> bool:
        ended = step > 0 and not position.in_step
        return (
            ended
            and self._evaluates_after(step)
            and step not in self.manager.all_steps()
        )

    def _evaluate(self, position: Position, log: TrainLog) -> None:
        scores = self.selector.evaluate(position.state)
        log.write_selection(int(position.state.step), scores)
        self._save(position, scores)

    def _save(self, position: Position, scores: dict[str, float] | None = None) -> None:
        meta = self._describe(int(position.state.step))
        resume.save(self.manager, position, meta, scores)
        if resume.was_interrupted(self.workdir):
            self.manager.wait_until_finished()
            resume.forget_interrupted(self.workdir)

    def _save_interrupted(self, step: int, position: Position) -> None:
        self.manager.wait_until_finished()
        resume.save_interrupted(self.workdir, position, self._describe(step))

    def _name_shown(self, step: int, chunk: int | None) -> str:
        return ", ".join(
            f"{self.data.train[video].name} (chunk {place})"
            for video, place in self.schedule.shown_at(step, chunk)
        )

    def _describe(self, step: int) -> store.Meta:
        epoch = step // self.schedule.steps_per_epoch
        return describe_run(self.given, self.data, step, epoch)


def is_due(step: int, every: int, last: int) -> bool:
    """Whether something that happens every `every` steps, and at the end, is due."""
    return step % every == 0 or step == last


def describe_run(
    config: ml_collections.ConfigDict, data: TrainingData, step: int, epoch: int
) -> store.Meta:
    """Returns what is stored beside the weights."""
    return store.Meta(
        config=config.to_dict(),
        class_names=data.class_names,
        fps=data.fps,
        step=step,
        epoch=epoch,
        versions=provenance.versions(),
        feature_width=data.feature_width,
        train_videos=tuple(record.name for record in data.train),
    )


if __name__ == "__main__":
    cli.define_distributed()
    cli.run(main, required=("config", "workdir"))
