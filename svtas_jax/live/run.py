"""What segments videos and streams: a trained run or an exported model."""

import abc
import dataclasses
import functools
import math
import os
from collections.abc import Iterator

import ml_collections
from absl import logging

from data_pipeline.reader import GAP_RESET_S
from data_pipeline.transforms import transform_of
from svtas_jax.config import stream_spec
from svtas_jax.errors import InputError
from svtas_jax.evaluation import presets, report, results
from svtas_jax.live.engine import Engine
from svtas_jax.live.feed import Feed, chunks_of
from svtas_jax.live.session import LiveSession
from svtas_jax.smoothing import OFF, Smoothing

FALLBACK_FPS = 25.0  # of training videos whose frame rate is unknown


@dataclasses.dataclass(frozen=True, eq=False)
class Run(abc.ABC):
    """A trained model and what is known of it.

    Attributes:
        workdir: folder of the run or of the exported model.
        config: of the run, or the one passed to `svtas_jax.load`.
    """

    workdir: str
    config: ml_collections.ConfigDict

    @property
    @abc.abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""

    @property
    @abc.abstractmethod
    def fps(self) -> float:
        """Frame rate of the training videos, 0 if unknown."""

    @property
    @abc.abstractmethod
    def step(self) -> int:
        """Optimizer steps that the weights were trained for."""

    @property
    @abc.abstractmethod
    def engine(self) -> str:
        """What computes the model: "jax", or another one for an exported model."""

    @property
    def causal(self) -> bool:
        """Whether each step is answered when it comes, not a chunk at a time."""
        return self.config.model.causal

    @abc.abstractmethod
    def open_engine(self, num_streams: int, steps_per_call: int) -> Engine:
        """Returns a compiled engine for new streams.

        Args:
            num_streams: how many there are.
            steps_per_call: see `Engine`.

        Raises:
            InputError: if the model cannot read videos.
        """

    @abc.abstractmethod
    def evaluate(
        self,
        config: ml_collections.ConfigDict | None = None,
        *,
        clip_frames: int | None = None,
        online: bool = False,
        preset: str = presets.DEFAULT,
    ) -> report.EvalReport:
        """Evaluates the model on the test videos, see `svtas_jax.runs.evaluate`.

        Raises:
            InputError: if this is an exported model.
        """

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
        feed = Feed(session, [os.fspath(source)], once=True)
        yield from chunks_of(feed, self.class_names)

    def open_stream(
        self,
        *,
        fps: float = 0.0,
        num_sources: int = 1,
        gap_reset_s: float = GAP_RESET_S,
        whole_chunks: bool = False,
        smoothing: Smoothing = OFF,
    ) -> LiveSession:
        """Opens a session that takes frames by `push`, or from a `Feed` of sources.

        Args:
            fps: frame rate of frames that are pushed without a time; 0 for that of the
                training.
            num_sources: how many sources are read at a time.
            gap_reset_s: a new stream begins after so many seconds without a frame.
            whole_chunks: a causal model, too, answers a chunk at a time: later, but
                with less work.
            smoothing: holds a new label back until it is clear.

        Raises:
            InputError: if a number is negative or not finite, or the run was trained on
                features.
        """
        if not 0 <= fps < math.inf:
            raise InputError(f"fps={fps} must be at least 0 (unknown) and finite.")
        if num_sources < 1:
            raise InputError(f"num_sources={num_sources} must be at least 1.")
        spec, trained_fps = stream_spec(self.config), self._trained_fps
        by_step = self.causal and not whole_chunks
        engine = self.open_engine(num_sources, 1 if by_step else spec.clip_steps)
        return LiveSession(
            engine,
            transform_of(self.config.data),
            class_names=self.class_names,
            clip_steps=spec.clip_steps,
            step_s=spec.frame_stride / trained_fps,
            num_sources=num_sources,
            fps=fps or trained_fps,
            gap_reset_s=gap_reset_s,
            smoothing=smoothing,
        )

    @functools.cached_property
    def _trained_fps(self) -> float:
        """The frame rate of the training videos, or what is taken for it."""
        if not self.fps:
            logging.warning(
                "the frame rate of the training videos is unknown and taken to be %g",
                FALLBACK_FPS,
            )
        return self.fps or FALLBACK_FPS
