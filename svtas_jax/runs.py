"""Loads a trained run, segments videos and streams with it, and evaluates it."""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Iterator, Sequence

import jax
import ml_collections
from absl import logging

from data_pipeline import annotations
from data_pipeline.chunks import blank_chunk
from data_pipeline.dataset import feature_width
from data_pipeline.demo import render
from data_pipeline.reader import GAP_RESET_S
from data_pipeline.transforms import transform_of
from svtas_jax import models
from svtas_jax.checkpoints import store
from svtas_jax.config import stream_spec, validate_config, with_clip_frames
from svtas_jax.errors import InputError
from svtas_jax.evaluation import measure, metrics, report, results
from svtas_jax.evaluation import online as online_metrics
from svtas_jax.evaluation.background import check_background
from svtas_jax.live.engine import JaxEngine, Programs, compile_programs
from svtas_jax.live.feed import Feed
from svtas_jax.live.results import ChunkGatherer, SourceEnd
from svtas_jax.live.session import LiveSession
from svtas_jax.run_config import load_config
from svtas_jax.runtime import hosts
from svtas_jax.structs import Chunk, Model, Params, VideoRecord

FALLBACK_FPS = 25.0  # of training videos whose frame rate is unknown


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run with the weights of one of its checkpoints.

    Attributes:
        workdir: folder of the run.
        checkpoint: "best", "latest" or a step, as passed to `load`.
        meta: facts that the checkpoint stores about itself.
        config: of the run, or the one passed to `load`.
        model: a pure function of state and chunk, see `svtas_jax.structs.Model`.
        variables: "params" and "batch_stats" of the model.
    """

    workdir: str
    checkpoint: str
    meta: store.Meta
    config: ml_collections.ConfigDict
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

    def segment(self, source: str | os.PathLike) -> results.VideoResult:
        """Segments a whole video.

        Args:
            source: a file, an address or a pipe that ends.

        Raises:
            MissingInputError: if the file does not exist.
            InputError: if it cannot be read, or the run was trained on features.
        """
        return results.join(self.stream(source))

    def stream(self, source: str | os.PathLike) -> Iterator[results.ChunkResult]:
        """Segments a source chunk by chunk; yields each result at once.

        Args:
            source: a video file, an address (URL), the number of a camera, a pipe, or
                "-" for standard input.

        Raises:
            InputError: as `segment`; also if a live source breaks off, after the last
                result.
        """
        session = self.open_stream(whole_chunks=True)
        gatherer = ChunkGatherer(self.class_names)
        for event in Feed(session, [os.fspath(source)], once=True):
            if isinstance(event, SourceEnd):
                chunk = gatherer.end(event.num_frames, event.end_s)
            else:
                chunk = gatherer.add(event)
            if chunk is not None:
                yield chunk
            if isinstance(event, SourceEnd) and event.error is not None:
                raise event.error

    def open_stream(
        self,
        *,
        fps: float = 0.0,
        num_sources: int = 1,
        gap_reset_s: float = GAP_RESET_S,
        whole_chunks: bool = False,
    ) -> LiveSession:
        """Opens a session that takes frames by `push`, or from a `Feed` of sources.

        Args:
            fps: frame rate of frames that are pushed without a time; 0 for that of the
                training.
            num_sources: how many sources are read at a time.
            gap_reset_s: a new stream begins after so many seconds without a frame.
            whole_chunks: a causal model, too, answers a chunk at a time: later, but
                with less work.

        Raises:
            InputError: if a number is negative or not finite, or the run was trained on
                features.
        """
        self._check_reads_videos()
        if not 0 <= fps < math.inf:
            raise InputError(f"fps={fps} must be at least 0 (unknown) and finite.")
        if num_sources < 1:
            raise InputError(f"num_sources={num_sources} must be at least 1.")
        spec, trained_fps = stream_spec(self.config), self._trained_fps
        by_step = self.model.causal and not whole_chunks
        engine = JaxEngine(
            self._programs,
            self.variables,
            num_streams=num_sources,
            clip_steps=spec.clip_steps,
            steps_per_call=1 if by_step else spec.clip_steps,
            size=self.config.data.crop,
        )
        return LiveSession(
            engine,
            transform_of(self.config.data),
            class_names=self.class_names,
            clip_steps=spec.clip_steps,
            step_s=spec.frame_stride / trained_fps,
            num_sources=num_sources,
            fps=fps or trained_fps,
            gap_reset_s=gap_reset_s,
        )

    @functools.cached_property
    def _programs(self) -> Programs:
        return compile_programs(self.model)

    @functools.cached_property
    def _trained_fps(self) -> float:
        """The frame rate of the training videos, or what is taken for it."""
        if not self.fps:
            logging.warning(
                "the frame rate of the training videos is unknown and taken to be %g",
                FALLBACK_FPS,
            )
        return self.fps or FALLBACK_FPS

    def evaluate(
        self,
        config: ml_collections.ConfigDict | None = None,
        *,
        clip_frames: int | None = None,
        online: bool = False,
    ) -> report.EvalReport:
        """Evaluates the checkpoint on the test videos, see `evaluate`."""
        return evaluate(
            self.workdir,
            self.checkpoint,
            config=config,
            clip_frames=clip_frames,
            online=online,
        )

    def _check_reads_videos(self) -> None:
        if self.config.data.features:
            raise InputError(
                f"--workdir={self.workdir} was trained on features and cannot read "
                "videos; use a run that was trained on videos, or evaluate this one "
                "with --clip_frames=FRAMES to measure it on a stream."
            )


def load(
    workdir: str,
    checkpoint: str = "best",
    *,
    config: ml_collections.ConfigDict | None = None,
) -> Run:
    """Loads a run with the weights of a checkpoint.

    Args:
        workdir: folder of the run.
        checkpoint: "best", "latest" or a step.
        config: used instead of the run's own; its model must be the same.

    Raises:
        MissingInputError: if there is no such run or checkpoint.
        InputError: if the config describes another model.
    """
    meta = store.read_meta(workdir, checkpoint)
    config = load_config(config, meta.config, meta.origin)
    return restore(workdir, checkpoint, meta, config)


def restore(
    workdir: str, checkpoint: str, meta: store.Meta, config: ml_collections.ConfigDict
) -> Run:
    """Builds a run's model and reads its weights; arguments as in `load`."""
    model, chunk = model_and_chunk(config, meta.class_names, meta.feature_width)
    template = jax.eval_shape(
        lambda: model.init(jax.random.key(0), model.initial_state(1), chunk)
    )
    variables = store.restore_model(workdir, checkpoint, template)
    return Run(workdir, checkpoint, meta, config, model, variables)


def evaluate(
    workdir: str,
    checkpoint: str = "best",
    *,
    config: ml_collections.ConfigDict | None = None,
    clip_frames: int | None = None,
    online: bool = False,
) -> report.EvalReport:
    """Evaluates a checkpoint on the test videos; writes a report to the run's folder.

    Args:
        workdir, checkpoint, config: see `load`.
        clip_frames: raw frames in a chunk, instead of the config's.
        online: also measure when labels come, see `svtas_jax.evaluation.online`.

    Raises:
        MissingInputError, InputError: as `load`, or if the data does not fit; also if
            `online` is set and the frame rate of a video is unknown.
    """
    meta = store.read_meta(workdir, checkpoint)
    config = load_config(config, meta.config, meta.origin)
    folder = pathlib.Path(workdir) / "evaluation"
    if clip_frames is not None:
        config.data.clip_frames = clip_frames
        folder = folder.with_name(f"evaluation_{clip_frames}_frames")
    validate_config(config)
    hosts.once(render.ensure_configured, config.data)
    check_classes(annotations.class_names(config.data), meta, config)
    check_background(config, meta.class_names)
    records = annotations.read_split(config.data, "test")
    check_width(records, meta)
    if online:
        online_metrics.check_rates(records)
    # Before whole videos become chunks that are as long as the longest.
    frames_at_once = online_metrics.frames_per_answer(config) if online else None
    config = with_clip_frames(config, [record.num_frames for record in records])
    run = restore(workdir, checkpoint, meta, config)
    result = measure.evaluate(
        *(config, meta, run.model, run.variables, records, folder),
        frames_at_once=frames_at_once,
    )
    logging.info("%s", metrics.format_metrics(result.metrics))
    if result.online:
        logging.info("online: %s", metrics.format_metrics(result.online["metrics"]))
    return result


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
