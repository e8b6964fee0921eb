"""The training loop: takes batches and steps; regularly logs, evaluates and saves."""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import ml_collections
import optax
import orbax.checkpoint as ocp
from absl import logging
from clu import parameter_overview
from jax.sharding import Mesh

from data_pipeline.dataset import StreamIterator
from data_pipeline.schedule import Schedule
from svtas_jax import models
from svtas_jax.checkpoints import resume, store
from svtas_jax.checkpoints.resume import Position
from svtas_jax.config import with_clip_frames
from svtas_jax.errors import InputError
from svtas_jax.evaluation.scoring import make_scorer
from svtas_jax.live.exported import is_exported
from svtas_jax.run_config import check_resumable
from svtas_jax.runtime import lock, provenance
from svtas_jax.runtime.interruption import Interrupted, Interruption
from svtas_jax.runtime.sharding import make_mesh, shard_batch
from svtas_jax.structs import Model, TrainState
from svtas_jax.training import averaging, start
from svtas_jax.training.data import (
    TrainingData,
    read_training_data,
    sample_chunks,
    training_batches,
)
from svtas_jax.training.functions import functions_of
from svtas_jax.training.log import TrainLog
from svtas_jax.training.optim import optimizer_of
from svtas_jax.training.placement import place, share_out
from svtas_jax.training.start import first_state, fresh_variables
from svtas_jax.training.step import begin_with, init_carry
from svtas_jax.training.validation import Selector

_Checkpoints = list[tuple[str, int]]  # see `resume.newest`


@lock.one_at_a_time
def train(config: ml_collections.ConfigDict, workdir: str) -> TrainState:
    """Trains until the last epoch; returns the final state.

    Args:
        config: a valid one, see `svtas_jax.config`.
        workdir: folder of the run; a run that was stopped is resumed.

    Raises:
        Interrupted: after SIGTERM, once everything needed to resume is on the disk.
        InputError: if another program writes to `workdir` or it holds an exported
            model; for any other mistake in the config or the data.
    """
    if is_exported(workdir):
        raise InputError(
            f"--workdir={workdir} holds an exported model, and a run needs a folder of "
            "its own; choose another one."
        )
    earlier = resume.newest(workdir)
    meta = resume.meta_of_newest(workdir, earlier)
    began = _beginning(config, earlier, meta)
    data = read_training_data(config)
    start.warn_of_seen(config, began, data.selection)
    given, config = config, with_clip_frames(config, data.num_frames)
    model = models.build_model(config, data.class_names)
    mesh = make_mesh(config.train.batch_size)
    dataset = training_batches(config, data, mesh)
    schedule = dataset.schedule
    tx = optimizer_of(config, schedule.steps_per_epoch, schedule.num_steps)
    state = _state_to_begin(config, data, model, tx, is_resumed=bool(earlier))
    with contextlib.closing(iter(dataset)) as batches:
        carry = init_carry(state, model, config.train.batch_size)
        carry = share_out(state, carry, mesh, config.train.split_from)
        position = Position(state, carry, batches.get_state())
        position = _resumed(given, workdir, earlier, meta, position)
        batches.set_state(position.data)
        parameter_overview.log_parameter_overview(state.params, include_stats=False)
        score = make_scorer(model, config)
        with store.open_manager(workdir) as manager, Interruption() as signals:
            training = Training(
                config=config,
                given=given,
                workdir=workdir,
                data=data,
                began=began,
                model=model,
                tx=tx,
                mesh=mesh,
                schedule=schedule,
                manager=manager,
                selector=Selector(
                    config, data.class_names, data.selection, score, signals
                ),
                signals=signals,
            )
            return training.go_on(position, batches)


def _beginning(
    config: ml_collections.ConfigDict, earlier: _Checkpoints, meta: store.Meta | None
) -> start.Start:
    """Returns which weights a run begins with, or began with if it is resumed."""
    if not earlier:
        began = start.read(config)
        if began.said:
            logging.info("starting from %s", began.said)
        return began
    return start.Start(meta.started_from, meta.seen_videos) if meta else start.Start()


def _state_to_begin(
    config: ml_collections.ConfigDict,
    data: TrainingData,
    model: Model,
    tx: optax.GradientTransformation,
    *,
    is_resumed: bool,
) -> TrainState:
    """Returns the state before the first step; of a run that is resumed, only the
    names and shapes matter."""
    if is_resumed:
        state = begin_with(fresh_variables(config, model, data.feature_width), tx)
    else:
        state = first_state(
            config,
            model,
            tx,
            data.feature_width,
            chunks=lambda: sample_chunks(config, data),
        )
    return averaging.begin(state, config.train.ema)


def _resumed(
    given: ml_collections.ConfigDict,
    workdir: str,
    earlier: _Checkpoints,
    meta: store.Meta | None,
    position: Position,
) -> Position:
    """Returns the position of the run in `workdir`, or `position` if there is none."""
    if not earlier:
        return position
    if meta:
        check_resumable(given, meta.config, meta.origin)
    position = resume.restore_newest(workdir, earlier, position)
    logging.info("resuming after step %d", position.state.step)
    return position


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Everything in a training that stays constant.

    Attributes:
        config: `given` after `with_clip_frames`.
        given: the user's config, which checkpoints store.
        workdir: folder of the run.
        data: the videos.
        began: the weights that the run began with.
        model, tx: the model and the optimizer.
        mesh: devices that share a batch.
        schedule: which chunks are shown in which step.
        manager: of the checkpoints.
        selector: evaluates a state, to find the best checkpoint.
        signals: whether the run was asked to stop.
    """

    config: ml_collections.ConfigDict
    given: ml_collections.ConfigDict
    workdir: str
    data: TrainingData
    began: start.Start
    model: Model
    tx: optax.GradientTransformation
    mesh: Mesh
    schedule: Schedule
    manager: ocp.CheckpointManager
    selector: Selector
    signals: Interruption

    def go_on(self, position: Position, batches: StreamIterator) -> TrainState:
        """Trains from a position to the end; returns the final state."""
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
                f"Its position is saved in {self.workdir}; the same command resumes "
                "from there."
            ) from stop
        finally:
            log.close()
        self.manager.wait_until_finished()
        resume.forget_interrupted(self.workdir)
        return state

    def _compile(self, shardings):
        return functions_of(
            self.config,
            self.model,
            self.tx,
            class_counts=self.data.class_counts,
            steps_per_epoch=self.schedule.steps_per_epoch,
            shardings=shardings,
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
        """Logs, evaluates and saves after a step if that is due."""
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
        found = self.selector.evaluate(position.state)
        log.write_selection(int(position.state.step), found)
        self._save(position, found.metrics)

    def _save(
        self, position: Position, metrics: dict[str, float] | None = None
    ) -> None:
        meta = self._describe(int(position.state.step))
        resume.save(self.manager, position, meta, metrics)
        if resume.was_interrupted(self.workdir):
            self.manager.wait_until_finished()
            resume.forget_interrupted(self.workdir)

    def _save_interrupted(self, step: int, position: Position) -> None:
        self.manager.wait_until_finished()
        resume.save_interrupted(self.workdir, position, self._describe(step))

    def _name_shown(self, step: int, chunk: int | None) -> str:
        return ", ".join(
            f"{self.data.train[video].name} (chunk {index})"
            for video, index in self.schedule.shown_at(step, chunk)
        )

    def _describe(self, step: int) -> store.Meta:
        epoch = step // self.schedule.steps_per_epoch
        return describe_run(self.given, self.data, step, epoch, began=self.began)


def is_due(step: int, every: int, last: int) -> bool:
    """Whether an action that is due every `every` steps and after the last is due."""
    return step % every == 0 or step == last


def describe_run(
    config: ml_collections.ConfigDict,
    data: TrainingData,
    step: int,
    epoch: int,
    *,
    began: start.Start,
) -> store.Meta:
    """Returns the facts that a checkpoint stores beside the weights."""
    return store.Meta(
        config=config.to_dict(),
        class_names=data.class_names,
        fps=data.fps,
        step=step,
        epoch=epoch,
        versions=provenance.versions(),
        feature_width=data.feature_width,
        train_videos=tuple(record.name for record in data.train),
        selected_by=data.selected_by,
        started_from=began.said,
        seen_videos=began.seen_videos,
    )
