"""Loads a trained run, segments videos and streams with it, and evaluates it."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import jax
import ml_collections
from absl import logging

from data_pipeline import annotations
from data_pipeline.chunks import blank_chunk
from data_pipeline.dataset import feature_width
from data_pipeline.demo import render
from svtas_jax import models
from svtas_jax.checkpoints import store
from svtas_jax.config import stream_spec, with_clip_frames
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError
from svtas_jax.evaluation import measure, metrics, presets, report
from svtas_jax.evaluation import online as online_metrics
from svtas_jax.evaluation.background import check_background
from svtas_jax.export.load import check_engine
from svtas_jax.live.engine import JaxEngine, Programs, make_programs
from svtas_jax.live.exported import is_exported, load_exported_run
from svtas_jax.live.run import Run
from svtas_jax.run_config import load_config
from svtas_jax.runtime import hosts
from svtas_jax.smoothing import OFF, Smoothing
from svtas_jax.structs import Chunk, Model, Params, VideoRecord


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun(Run):
    """A run with the weights of one of its checkpoints.

    Attributes:
        checkpoint: "best", "latest" or a step, as passed to `load`.
        meta: facts that the checkpoint stores about itself.
        model: a pure function of state and chunk, see `svtas_jax.structs.Model`.
        variables: "params" and "batch_stats" of the model.
    """

    checkpoint: str
    meta: store.Meta
    model: Model
    variables: Params

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return self.meta.class_names

    @property
    def fps(self) -> float:
        """Frame rate of the training videos, 0 if unknown."""
        return self.meta.fps

    @property
    def step(self) -> int:
        """Optimizer steps that the weights were trained for."""
        return self.meta.step

    @property
    def engine(self) -> str:
        """What computes the model."""
        return "jax"

    def evaluate(
        self,
        config: ml_collections.ConfigDict | None = None,
        *,
        clip_frames: int | None = None,
        online: bool = False,
        preset: str = presets.DEFAULT,
        true_labels: bool = False,
        smoothing: Smoothing = OFF,
    ) -> report.EvalReport:
        """Evaluates the checkpoint on the test videos, see `evaluate`."""
        return evaluate(
            self.workdir,
            self.checkpoint,
            config=config,
            clip_frames=clip_frames,
            online=online,
            preset=preset,
            true_labels=true_labels,
            smoothing=smoothing,
        )

    def open_engine(self, num_streams: int, steps_per_call: int) -> JaxEngine:
        """Compiles the model for some streams, see `Run.open_engine`."""
        self._check_reads_videos()
        return JaxEngine(
            self._programs,
            num_streams=num_streams,
            clip_steps=stream_spec(self.config).clip_steps,
            steps_per_call=steps_per_call,
            size=self.config.data.crop,
        )

    @functools.cached_property
    def _programs(self) -> Programs:
        return make_programs(self.model, self.variables)

    def _check_reads_videos(self) -> None:
        if self.config.data.features:
            raise InputError(
                f"--workdir={self.workdir} was trained on features and cannot read "
                "videos; use a run that was trained on videos, or evaluate this one "
                "with --clip_frames=FRAMES to measure it on a stream."
            )


def load(
    workdir: str | os.PathLike,
    checkpoint: str = "best",
    *,
    config: ml_collections.ConfigDict | None = None,
    engine: str = "jax",
) -> Run:
    """Loads a trained run, or an exported model.

    Args:
        workdir: folder of a run, or one written by `python -m svtas_jax.export`.
        checkpoint: of a run: "best", "latest" or a step.
        config: used instead of the run's own; its model must be the same.
        engine: what computes an exported model: "jax", "onnxruntime" or "openvino".

    Returns:
        A `TrainedRun` or an `ExportedRun`.

    Raises:
        MissingInputError: if there is no such run, checkpoint or exported model.
        InputError: if the config describes another model, the engine is unknown, not
            installed or does not fit, or the exported model is damaged.
    """
    check_engine(engine)
    if is_exported(workdir):
        if config is not None or checkpoint != "best":
            raise InputError(
                f"--workdir={workdir} is an exported model, which has one checkpoint "
                "and one config of its own; leave out --checkpoint and --config."
            )
        return load_exported_run(workdir, engine)
    if engine != "jax":
        raise InputError(
            f"--engine={engine} needs an exported model, but --workdir={workdir} is "
            f"none; write one with python -m svtas_jax.export --workdir={workdir} "
            "--output=FOLDER, and give that folder."
        )
    return load_trained(workdir, checkpoint, config=config)


def load_trained(
    workdir: str | os.PathLike,
    checkpoint: str = "best",
    *,
    config: ml_collections.ConfigDict | None = None,
) -> TrainedRun:
    """Loads a run with the weights of a checkpoint; arguments and errors as `load`."""
    meta = _read_meta(workdir, checkpoint)
    config = load_config(config, meta.config, meta.origin)
    return restore(os.fspath(workdir), checkpoint, meta, config)


def _read_meta(workdir: str | os.PathLike, checkpoint: str) -> store.Meta:
    if is_exported(workdir):
        raise InputError(
            f"--workdir={workdir} is an exported model; this needs the run that it was "
            "exported from."
        )
    return store.read_meta(os.fspath(workdir), checkpoint)


def restore(
    workdir: str, checkpoint: str, meta: store.Meta, config: ml_collections.ConfigDict
) -> TrainedRun:
    """Builds a run's model and reads its weights; arguments as in `load`."""
    model, chunk = model_and_chunk(config, meta.class_names, meta.feature_width)
    template = jax.eval_shape(
        lambda: model.init(jax.random.key(0), model.initial_state(1), chunk)
    )
    variables = store.restore_model(workdir, checkpoint, template)
    return TrainedRun(workdir, config, checkpoint, meta, model, variables)


def evaluate(
    workdir: str,
    checkpoint: str = "best",
    *,
    config: ml_collections.ConfigDict | None = None,
    clip_frames: int | None = None,
    online: bool = False,
    preset: str = presets.DEFAULT,
    true_labels: bool = False,
    smoothing: Smoothing = OFF,
) -> report.EvalReport:
    """Evaluates a checkpoint on the test videos; writes a report to the run's folder.

    Args:
        workdir, checkpoint, config: see `load`.
        clip_frames: raw frames in a chunk, instead of the config's.
        online: also measure when labels come, see `svtas_jax.evaluation.online`.
        preset: conventions of the metrics, see `svtas_jax.evaluation.presets`; other
            ones than the default write to a folder of their own.
        true_labels: make prompts of the true labels of every last chunk: a ceiling, in
            a folder of its own.
        smoothing: hold labels back as `svtas_jax.stream` does with the same flags, in a
            folder of its own.

    Raises:
        MissingInputError, InputError: as `load`, or if the data does not fit; also if
            `online` or a shortest duration is set and the frame rate of a video is
            unknown, or `true_labels` and the model has no prompts of the last chunk's
            labels.
    """
    presets.preset_of(preset)
    meta = _read_meta(workdir, checkpoint)
    config = load_config(config, meta.config, meta.origin)
    if true_labels:
        check_reads_labels(workdir, config)
    folder = _folder_of(workdir, clip_frames, preset, true_labels, smoothing)
    if clip_frames is not None:
        config.data.clip_frames = clip_frames
    validate_config(config)
    hosts.once(render.ensure_configured, config.data)
    check_classes(annotations.class_names(config.data), meta, config)
    check_background(config, meta.class_names)
    records = annotations.read_split(config.data, "test")
    check_width(records, meta)
    if online:
        online_metrics.check_rates(records)
    measure.check_smoothing(smoothing, records)
    # Before whole videos become chunks that are as long as the longest.
    frames_at_once = online_metrics.frames_per_answer(config) if online else None
    config = with_clip_frames(config, [record.num_frames for record in records])
    run = restore(workdir, checkpoint, meta, config)
    result = measure.evaluate(
        *(config, meta, run.model, run.variables, records, folder),
        preset=preset,
        frames_at_once=frames_at_once,
        true_labels=true_labels,
        smoothing=smoothing,
    )
    for notice in report.notices(result.run):
        logging.warning("%s", notice)
    logging.info("%s", metrics.format_metrics(result.metrics))
    if result.online:
        logging.info("online: %s", metrics.format_metrics(result.online["metrics"]))
    return result


def _folder_of(
    workdir: str | os.PathLike,
    clip_frames: int | None,
    preset: str,
    true_labels: bool,
    smoothing: Smoothing,
) -> pathlib.Path:
    name = "evaluation" if clip_frames is None else f"evaluation_{clip_frames}_frames"
    own = "" if preset == presets.DEFAULT else f"_{preset}"
    told = "_true_labels" if true_labels else ""
    held = "".join(f"_{rule}_{value:g}" for rule, value in smoothing.rules.items())
    return pathlib.Path(workdir) / f"{name}{told}{held}{own}"


def check_reads_labels(
    workdir: str | os.PathLike, config: ml_collections.ConfigDict
) -> None:
    """Checks that a run can be told the true labels of its last chunk.

    Raises:
        InputError: if its model has no prompts of them.
    """
    model = config.model
    if model.system != "transeger" or model.prompt == "none":
        raise InputError(
            f"--true_labels feeds the true labels of the last chunk to prompts, but "
            f"--workdir={workdir} has none: config.model.system={model.system!r} with "
            f"config.model.prompt={model.prompt!r}; leave --true_labels out."
        )


def model_and_chunk(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...], width: int
) -> tuple[Model, Chunk]:
    """Builds a model, and a blank chunk to initialise it with.

    `width` is the width of the features that the model reads, 0 if it reads images.
    """
    # A model of whole videos has the same weights for any chunk length.
    config = with_clip_frames(config, [1])
    chunk = blank_chunk(1, stream_spec(config), config.data.crop, feature_width=width)
    return models.build_model(config, class_names), chunk


def check_classes(
    names: tuple[str, ...], meta: store.Meta, config: ml_collections.ConfigDict
) -> None:
    """Raises InputError if the data's classes differ from those of the training."""
    if names != meta.class_names:
        raise InputError(
            f"the data in {config.data.root} has the classes {', '.join(names)}, but "
            f"the checkpoint was trained on {', '.join(meta.class_names)}. Classes and "
            "their order must agree; train on this data, or use the run's mapping.txt."
        )


def check_width(records: Sequence[VideoRecord], meta: store.Meta) -> None:
    """Raises InputError if the features' width differs from that of the training."""
    width = feature_width(records)
    if width != meta.feature_width:
        raise InputError(
            f"{records[0].video_path} has {width} numbers per row, but the run was "
            f"trained on {meta.feature_width}; use features of the same model."
        )
