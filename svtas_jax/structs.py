"""The types that flow through the program.

Axes: S stages of a model, N chunks of a video, B videos, T sampled steps in a chunk,
F = T * frame_stride raw frames in a chunk, H, W, C image, D features, K classes. Time
is always after batch.
"""

import dataclasses
from typing import Any

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

    `frames` may be uint8 (what the pipeline gives) or float: float frames are taken as
    already normalised. Of a model that reads features they are (B, T, D).
    """

    frames: jax.Array  # (B, T, H, W, 3) uint8 RGB, or (B, T, D) float32
    labels: jax.Array  # (B, F) int32, IGNORE_LABEL where there is no frame
    valid: jax.Array  # (B, F) bool, True where a real frame exists
    starts: jax.Array  # (B,) bool, True where a new stream begins: its state is reset
    num_chunks: jax.Array  # (B,) int32, chunks of the whole video: the loss's weight


@flax.struct.dataclass
class StreamState:
    """All that a stream remembers between two chunks."""

    labels: jax.Array  # (B, T) int32, actions of the last chunk, NO_LABEL before it;
    # (B, 1) where no prompt tells them
    context: tuple[
        jax.Array, ...
    ]  # per causal conv its left context (B, 2*dilation, D)


@flax.struct.dataclass
class ChunkOutput:
    """What a model says about one chunk. The features exist only where a loss needs
    them (METE in training)."""

    logits: (
        jax.Array
    )  # (S, B, T, K) float32, zero in invalid steps; the last stage counts
    image_features: jax.Array | None = None  # (B, T, D)
    text_features: jax.Array | None = None  # (B, T, D)
    logit_scale: jax.Array | None = (
        None  # () natural logarithm of the contrastive scale
    )


@flax.struct.dataclass
class TrainState:
    """All that training remembers between two optimizer steps."""

    step: jax.Array  # () int32, optimizer steps done
    params: Params
    batch_stats: Params
    opt_state: optax.OptState


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
        fps: frame rate of the video that it was made from, 0 if untold.
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
