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

IGNORE_LABEL = -100  # no frame, or no label: ignored by losses and metrics
NO_LABEL = -1  # in the state of a stream that has not seen a chunk yet

Array = jax.Array | np.ndarray  # on a device, or still on the host
# Of every layer with a memory what it holds; of a layer without one, nothing.
Contexts = tuple[jax.Array | tuple[()], ...]
Params = Any  # a tree of arrays, as Flax makes it


@flax.struct.dataclass
class Chunk:
    """One window of B videos. Stacked along a leading axis N it is B whole videos.

    Attributes:
        frames: (B, T, H, W, 3) uint8 RGB, or float if already normalised; or
            (B, T, D) float32 features.
        labels: (B, F) int32, IGNORE_LABEL where there is no frame.
        valid: (B, F) bool, True where a real frame exists.
        starts: (B,) bool, True where a new stream begins, whose state is reset.
        num_chunks: (B,) int32, number of chunks of the whole video, for the loss.
    """

    frames: Array
    labels: Array
    valid: Array
    starts: Array
    num_chunks: Array

    @property
    def step_valid(self) -> Array:
        """Which decoded steps are real, (B, T) bool."""
        return self.valid[..., :: self._stride]

    @property
    def step_labels(self) -> Array:
        """The labels of the decoded steps, (B, T) int32."""
        return self.labels[..., :: self._stride]

    @property
    def _stride(self) -> int:
        steps_axis = self.valid.ndim - 1  # also of stacked chunks
        return self.valid.shape[-1] // self.frames.shape[steps_axis]


@flax.struct.dataclass
class StreamState:
    """Everything that a stream remembers between two chunks.

    Attributes:
        labels: (B, T) int32, labels of the last chunk, NO_LABEL before the first;
            (B, 1) if no prompt reads them.
        context: per recurrent layer its memory: the left context (B, 2 * dilation, D)
            of a causal convolution, the hidden state (B, D) of a GRU, or keys or values
            (B, T, D) of attention.
        image: of a causal model, per shifted block the channels that the next step
            takes over, (B, H, W, C // 8).
        running: (B, T) int32, labels of the steps since the last full chunk; causal
            Transeger only.
        position: (B,) int32, the number of these steps, less than T; ditto.
        scores: (B, T, K) float32, probabilities of the last chunk's classes, 0 before
            the first; with soft feedback only.
        running_scores: (B, T, K) float32, those of the steps of `running`; ditto.
        history: (B, N) int32, classes of the last N runs of labels before `labels`,
            NO_LABEL in front where there were fewer; only if prompts tell of it.
    """

    labels: jax.Array
    context: Contexts
    image: Contexts = ()
    running: jax.Array | None = None
    position: jax.Array | None = None
    scores: jax.Array | None = None
    running_scores: jax.Array | None = None
    history: jax.Array | None = None


@flax.struct.dataclass
class ChunkOutput:
    """A model's output for one chunk.

    Attributes:
        logits: (S, B, T, K) float32, zero in invalid steps; the last stage counts.
        image_features, text_features: (B, T, D), only for METE in training.
        logit_scale: () natural logarithm of the contrastive loss's scale, ditto.
    """

    logits: jax.Array
    image_features: jax.Array | None = None
    text_features: jax.Array | None = None
    logit_scale: jax.Array | None = None


@flax.struct.dataclass
class TrainState:
    """Everything that training remembers between two optimizer steps.

    Attributes:
        step: () int32, optimizer steps done.
        params, batch_stats: the model's variables.
        opt_state: the optimizer's state.
        average: moving averages of "params" and "batch_stats"; None if none are kept.
    """

    step: jax.Array
    params: Params
    batch_stats: Params
    opt_state: optax.OptState
    average: Params = None

    @property
    def variables(self) -> Params:
        """What the model is evaluated with: the averages, if there are any."""
        if self.average is not None:
            return self.average
        return {"params": self.params, "batch_stats": self.batch_stats}


@flax.struct.dataclass
class BatchCarry:
    """What an optimizer step accumulates, chunk by chunk.

    Attributes:
        grads: sums of the gradients; same tree as the parameters. Arrays with one axis
            more, in front, hold each device's share.
        stream: state of the B streams.
        metrics: sums over the chunks so far, see `training.step.METRICS`.
        chunk_index: () int32, number of chunks so far.
        bad_chunk: () int32, index of the first chunk whose loss (or, with
            `max_bad_chunks`, gradient) is not finite; -1 for none.
        num_bad: () int32, number of such chunks; those of a group count together.
    """

    grads: Params
    stream: StreamState
    metrics: dict[str, jax.Array]
    chunk_index: jax.Array
    bad_chunk: jax.Array
    num_bad: jax.Array


class Model(Protocol):
    """The interface of every model: a pure function of a state and a chunk.

    Flax defines `init`, `apply` and `clone`; `apply` calls `__call__`.
    """

    clip_steps: int
    causal: bool

    def initial_state(self, batch_size: int) -> StreamState:
        """Returns the state of `batch_size` new streams."""
        ...

    def image_features(
        self, state: StreamState, chunk: Chunk
    ) -> tuple[StreamState, jax.Array]:
        """Returns the state after the image branch, and its output in evaluation,
        (B, T, D)."""
        ...

    def ahead(self, state: StreamState) -> jax.Array | None:
        """Returns the part of the next chunk's computation that needs no frames."""
        ...

    def init(self, *args: Any, **kwargs: Any) -> Params:
        """Returns fresh variables."""
        ...

    def clone(self, **changes: Any) -> Any:
        """Returns the model with other fields."""
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
    """The layout of a file of features.

    Attributes:
        num_rows: number of feature vectors.
        width: length of a vector (D).
        time_axis: 0 for (T, D), 1 for (D, T).
        stride: raw frames from one row to the next.
        fps: frame rate of the video behind the features, 0 if unknown.
    """

    num_rows: int
    width: int
    time_axis: int
    stride: int
    fps: float = 0.0


@dataclasses.dataclass(frozen=True)
class PreparedVideo:
    """Where a video is stored in a folder that `data_pipeline.tfds_builder` prepared.

    Attributes:
        folder: holds the records of all videos.
        first: index of the video's first record.
        count: number of its records.
        frame_stride: raw frames from one record to the next, if each is a resized
            frame; 0 if the records are parts of the video file.
    """

    folder: str
    first: int
    count: int
    frame_stride: int


@dataclasses.dataclass(frozen=True)
class VideoRecord:
    """One annotated video, or its features: host-side facts, no pixels.

    `labels` is as long as the shorter of label file and video. `video_path` is the path
    of the features if `features` is set, and only a name if `prepared` is set.
    """

    name: str
    video_path: str
    labels: np.ndarray  # (num_frames,) int32 class indices
    fps: float
    features: FeatureFile | None = None
    prepared: PreparedVideo | None = None

    @property
    def num_frames(self) -> int:
        """The number of frames that have both an image and a label."""
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Segment:
    """A maximal run of one label: frames `start` to `end - 1`."""

    label: int
    start: int
    end: int


def labels_to_segments(labels: np.ndarray) -> list[Segment]:
    """Returns the maximal runs of equal labels in temporal order.

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
