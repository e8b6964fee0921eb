"""The types that flow through the program.

Axes: S stages of a model, N chunks of a video, B videos, T sampled steps in a chunk,
F = T * frame_stride raw frames in a chunk, H, W, C image, D features, K classes. Time
is always after batch.
"""

import dataclasses
from typing import Any, Protocol

import flax.struct
import jax
import numpy as np
import optax

IGNORE_LABEL = -100  # no frame, or no label: left out of losses and metrics
NO_LABEL = -1  # a stream that has not seen a chunk yet remembers no action

Params = Any  # a tree of arrays, as Flax makes it


@flax.struct.dataclass
class Chunk:
    """One window of B videos. Stacked along a leading axis N it is B whole videos.

    Attributes:
        frames: (B, T, H, W, 3) uint8 RGB as the pipeline gives them, or float: already
            normalised. A model of features reads (B, T, D) float32.
        labels: (B, F) int32, IGNORE_LABEL where there is no frame.
        valid: (B, F) bool, True where a real frame exists.
        starts: (B,) bool, True where a new stream begins: its state is reset.
        num_chunks: (B,) int32, chunks of the whole video: the loss is divided by it.
    """

    frames: jax.Array
    labels: jax.Array
    valid: jax.Array
    starts: jax.Array
    num_chunks: jax.Array

    @property
    def step_valid(self) -> jax.Array:
        """Which decoded steps are real, (B, T) bool."""
        return self.valid[..., :: self._stride]

    @property
    def step_labels(self) -> jax.Array:
        """The labels of the decoded steps, (B, T) int32."""
        return self.labels[..., :: self._stride]

    @property
    def _stride(self) -> int:
        steps_axis = self.valid.ndim - 1  # also of stacked chunks
        return self.valid.shape[-1] // self.frames.shape[steps_axis]


@flax.struct.dataclass
class StreamState:
    """All that a stream remembers between two chunks.

    Attributes:
        labels: (B, T) int32, actions of the last chunk, NO_LABEL before the first;
            (B, 1) if no prompt reads them.
        context: for every causal convolution its left context, (B, 2 * dilation, D).
    """

    labels: jax.Array
    context: tuple[jax.Array, ...]


@flax.struct.dataclass
class ChunkOutput:
    """A model's output for one chunk.

    Attributes:
        logits: (S, B, T, K) float32, zero in invalid steps; the last stage counts.
        image_features, text_features: (B, T, D), only where a loss needs them (METE in
            training).
        logit_scale: () natural logarithm of the contrastive scale, likewise.
    """

    logits: jax.Array
    image_features: jax.Array | None = None
    text_features: jax.Array | None = None
    logit_scale: jax.Array | None = None


@flax.struct.dataclass
class TrainState:
    """All that training remembers between two optimizer steps.

    Attributes:
        step: () int32, optimizer steps done.
        params, batch_stats: the model's variables.
        opt_state: the optimizer's.
    """

    step: jax.Array
    params: Params
    batch_stats: Params
    opt_state: optax.OptState


@flax.struct.dataclass
class BatchCarry:
    """All that an optimizer step gathers, chunk by chunk.

    Attributes:
        grads: sums of the gradients, like the parameters.
        stream: state of the B streams.
        metrics: sums over the chunks so far, see `training.step.METRICS`.
        chunk_index: () int32, chunks so far.
        bad_chunk: () int32, the first chunk whose loss is not finite, -1 for none.
        num_bad: () int32, how many such chunks there are.
    """

    grads: Params
    stream: StreamState
    metrics: dict[str, jax.Array]
    chunk_index: jax.Array
    bad_chunk: jax.Array
    num_bad: jax.Array


class Model(Protocol):
    """What every system is to the rest of the program: a pure function of a chunk.

    Flax's own `init`, `apply` and `clone` belong to it; `apply` calls `__call__`.
    """

    clip_steps: int

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` streams that have seen nothing."""
        ...

    def image_features(self, chunk: Chunk) -> jax.Array:
        """Returns what the temporal branch reads in evaluation, (B, T, D)."""
        ...

    def ahead(self, state: StreamState) -> jax.Array | None:
        """Returns what the next chunk needs and its frames do not change."""
        ...

    def init(self, *args: Any, **kwargs: Any) -> Params:
        """Returns fresh variables."""
        ...

    def apply(self, variables: Params, *args: Any, **kwargs: Any) -> Any:
        """Returns the next state and a `ChunkOutput`."""
        ...


@dataclasses.dataclass(frozen=True)
class StreamSpec:
    """How a video is cut into windows; they do not overlap unless `hop_frames` says so.

    Attributes:
        clip_frames: raw frames in a window.
        frame_stride: every `frame_stride`-th frame is decoded.
        hop_frames: raw frames from one window's start to the next; 0 means
            `clip_frames`.
    """

    clip_frames: int
    frame_stride: int
    hop_frames: int = 0

    @property
    def clip_steps(self) -> int:
        """Decoded frames in a window."""
        return self.clip_frames // self.frame_stride

    @property
    def hop(self) -> int:
        """Raw frames from one window's start to the next."""
        return self.hop_frames or self.clip_frames


@dataclasses.dataclass(frozen=True)
class FeatureFile:
    """How a file of features lies.

    Attributes:
        num_rows: vectors in it.
        width: numbers in a vector (D).
        time_axis: 0 for (T, D), 1 for (D, T).
        stride: raw frames from one row to the next.
        fps: frame rate of the video that it was made from, 0 if unknown.
    """

    num_rows: int
    width: int
    time_axis: int
    stride: int
    fps: float = 0.0


@dataclasses.dataclass(frozen=True)
class PreparedVideo:
    """Where a video lies in a folder that `data_pipeline.tfds_builder` prepared.

    Attributes:
        folder: with the records of all videos.
        first: the video's first record.
        count: how many it has.
        frame_stride: raw frames from a record to the next, each a resized picture; 0
            if the records are the parts of the video file.
    """

    folder: str
    first: int
    count: int
    frame_stride: int


@dataclasses.dataclass(frozen=True)
class VideoRecord:
    """One annotated video, or its features: host-side facts, no pixels.

    `labels` has the length that counts: the shorter of label file and video.
    `video_path` is that of the features if `features` says how they lie, and only a
    name if `prepared` says where the pictures are.
    """

    name: str
    video_path: str
    labels: np.ndarray  # (num_frames,) int32 class indices
    fps: float
    features: FeatureFile | None = None
    prepared: PreparedVideo | None = None

    @property
    def num_frames(self) -> int:
        """Frames that have both a picture and a label."""
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Segment:
    """A maximal run of one label: frames `start` to `end - 1`."""

    label: int
    start: int
    end: int


def labels_to_segments(labels: np.ndarray) -> list[Segment]:
    """Returns the maximal runs of equal labels in their order of time.

    Args:
        labels: (num_frames,) integers.
    """
    labels = np.asarray(labels)
    if not labels.size:
        return []
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    borders = [0, *changes.tolist(), len(labels)]
    return [
        Segment(label=int(labels[start]), start=start, end=end)
        for start, end in zip(borders[:-1], borders[1:], strict=True)
    ]
