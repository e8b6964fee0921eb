"""Random access to the chunks of videos, on the host."""

import dataclasses
import functools
import math
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np
from absl import logging

from data_pipeline import (
    augmentation,
    features,
    frame_cache,
    transforms,
    video,
    windows,
)
from data_pipeline.chunks import black_frames, build_chunks, empty_chunks
from data_pipeline.prepared import reader as prepared
from data_pipeline.schedule import EMPTY_SLOT, Piece, Schedule
from svtas_jax.errors import DamagedVideoError, InputError, MissingInputError
from svtas_jax.structs import Chunk, StreamSpec, VideoRecord


@dataclasses.dataclass(frozen=True)
class View:
    """How a model sees the frames and labels of a video."""

    spec: StreamSpec
    resize: tuple[int, int]
    crop: int
    augment: str  # one crop and flip per "video" or "frame", or "none"
    per_step: bool  # repeat the labels of decoded steps (training)
    seed: int
    feature_width: int = 0  # feature dimension; 0: pictures
    frame_cache: str = ""  # folder of resized frames; empty: no cache
    random_start: bool = False  # a video begins at another frame in every epoch
    strengths: augmentation.Strengths = augmentation.Strengths()
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # RGB in 0..1

    def blank(self, *shape: int) -> np.ndarray:
        """Returns black pictures, or zeros for features, in this shape."""
        return black_frames(*shape, crop=self.crop, feature_width=self.feature_width)

    def empty(self, count: int) -> Chunk:
        """Returns chunks without a video, leaves (count, ...)."""
        return empty_chunks(self.blank(count, self.spec.clip_steps), self.spec)

    def show(
        self, frame: np.ndarray, epoch: int, video_index: int, index: int
    ) -> np.ndarray:
        """Returns frame `index` of a video as the model sees it: resized, cropped and
        perhaps flipped and altered; features are unchanged."""
        if self.feature_width:
            return frame
        crop, flip = self.crop_and_flip(epoch, video_index, index)
        kept = transforms.transform_frames(
            frame[None], resize=self.resize, crop=crop, flip=flip
        )[0]
        identity = (self.seed, epoch, video_index)
        kept = augmentation.zoomed(kept, self.crop)
        return augmentation.altered(kept, self.strengths, self.mean, identity)

    def first_frame(self, record: VideoRecord, epoch: int, video_index: int) -> int:
        """Returns the raw frame with which a video begins in an epoch."""
        if not self.random_start:
            return 0
        # Of prepared pictures there are only some; a stride of 0 means a whole file.
        every = record.prepared.frame_stride if record.prepared else 1
        identity = (self.seed, epoch, video_index)
        return augmentation.first_frame(
            record.num_frames, self.spec.clip_frames, identity, every=every or 1
        )

    def num_chunks(self, record: VideoRecord, epoch: int, video_index: int) -> int:
        """Returns how many chunks of a video an epoch shows."""
        begin = self.first_frame(record, epoch, video_index)
        return windows.num_windows(record.num_frames - begin, self.spec)

    def crop_and_flip(
        self, epoch: int, video_index: int, frame: int
    ) -> tuple[transforms.Crop, bool]:
        """Returns crop and flip of a frame; they depend on seed and arguments alone.

        A zoom draws the side of a video's crop, and its place even without `augment`.
        """
        zoom = self.strengths.zoom
        if self.augment == "none" and not zoom:
            return transforms.centre_crop(self.resize, self.crop), False
        identity = (self.seed, epoch, video_index)
        side = augmentation.crop_side(self.resize, self.crop, zoom, identity)
        place = (*identity, frame) if self.augment == "frame" else identity
        crop, flip = _draw_crop(self.resize, side, place)
        return crop, flip and self.augment != "none"


@functools.lru_cache(maxsize=1024)  # a draw takes as long as resizing a small frame
def _draw_crop(
    resize: tuple[int, int], crop: int, identity: tuple[int, ...]
) -> tuple[transforms.Crop, bool]:
    return transforms.draw_crop(np.random.default_rng(identity), resize, crop)


def make_view(
    data_config: ml_collections.ConfigDict,
    *,
    train: bool,
    seed: int,
    feature_width: int = 0,
) -> View:
    """Returns the view of `config.data` in training or evaluation."""
    names = [field.name for field in dataclasses.fields(augmentation.Strengths)]
    strengths = {name: data_config[name] if train else 0.0 for name in names}
    return View(
        spec=StreamSpec(data_config.clip_frames, data_config.frame_stride),
        resize=tuple(data_config.resize),
        crop=data_config.crop,
        augment=data_config.augment if train else "none",
        per_step=train,
        seed=seed,
        feature_width=feature_width,
        frame_cache=data_config.frame_cache,
        random_start=train and data_config.random_start,
        strengths=augmentation.Strengths(**strengths),
        mean=tuple(data_config.mean),
    )


def count_chunks(
    records: Sequence[VideoRecord], view: View, num_epochs: int
) -> np.ndarray:
    """Returns the chunks of every video in every epoch, (num_epochs, V)."""
    epochs = range(num_epochs if view.random_start else 1)
    counts = [
        [view.num_chunks(record, epoch, index) for index, record in enumerate(records)]
        for epoch in epochs
    ]
    return np.broadcast_to(counts, (num_epochs, len(records)))


class Reader(Protocol):
    """What gives the frames of one video, or its features."""

    @property
    def path(self) -> str:
        """Names the video."""
        ...

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index`: (H, W, 3) uint8 RGB, or (D,) float32."""
        ...

    def close(self) -> None:
        """Frees what is open."""
        ...


def open_reader(record: VideoRecord, view: View) -> Reader:
    """Opens a record's video, its frames in the cache, or its features."""
    if record.features is not None:
        return features.FeatureReader(record.video_path, record.features)
    if record.prepared is not None:
        return prepared.open_reader(record, record.prepared)
    if view.frame_cache:
        return frame_cache.CachedReader(
            *(record, view.spec, view.resize, view.frame_cache),
            every_frame=view.random_start,
        )
    return video.FrameReader(record.video_path, record.num_frames)


@dataclasses.dataclass
class _Slot:
    """A video kept open between two calls."""

    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    reader: Reader | None = None


@dataclasses.dataclass
class ChunkSource:
    """A Grain source: element `call * len(slots) + i` is slot `slots[i]` in a call.

    Attributes:
        records: the videos.
        view: how the model sees them.
        schedule: which chunks every call shows.
        slots: indices of the batch slots that this process reads.
        max_damaged: number of videos, counted by every worker process on its own, that
            may prove damaged or missing; their chunks become padding.
    """

    records: tuple[VideoRecord, ...]
    view: View
    schedule: Schedule
    slots: tuple[int, ...]
    max_damaged: int = 0

    def __post_init__(self) -> None:
        self._open = {slot: _Slot() for slot in self.slots}
        self._damaged: dict[int, str] = {}
        self._left_out: dict[tuple[int, int], int] = {}  # video, epoch -> first chunk
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles without open videos, for worker processes."""
        given = (self.records, self.view, self.schedule, self.slots, self.max_damaged)
        return ChunkSource, given

    def __repr__(self) -> str:
        """Returns a short text for Grain's messages."""
        return f"ChunkSource({len(self.records)} videos, {len(self)} elements)"

    def __len__(self) -> int:
        """Number of elements: calls times slots."""
        return self.schedule.num_calls * len(self.slots)

    def __getitem__(self, index: int) -> tuple[Chunk, np.ndarray]:
        """Returns the Chunk (K, ...) of a slot in a call, and its videos (K,)."""
        call, slot_index = divmod(int(index), len(self.slots))
        slot = self.slots[slot_index]
        count = self.schedule.chunks_per_call
        videos = np.full(count, EMPTY_SLOT, np.int32)
        parts, filled = [], 0
        for piece in self.schedule.pieces(call, slot):
            if piece.offset > filled:
                parts.append(self.view.empty(piece.offset - filled))
            parts.append(self._read(slot, piece))
            filled = piece.offset + piece.count
            videos[piece.offset : filled] = piece.video
        if filled < count:
            parts.append(self.view.empty(count - filled))
        if len(parts) == 1:
            return parts[0], videos
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts), videos

    def _read(self, slot_index: int, piece: Piece) -> Chunk:
        """Reads a piece; the rest of a damaged video is padding."""
        # Threads overtake each other: chunks before the damage are still read.
        if piece.first_chunk >= self._left_out.get(
            (piece.video, piece.epoch), math.inf
        ):
            return self.view.empty(piece.count)
        try:
            return self._read_video(slot_index, piece)
        except (DamagedVideoError, MissingInputError) as error:
            self._leave_out(piece, error)
            return self.view.empty(piece.count)

    def _leave_out(self, piece: Piece, error: InputError) -> None:
        with self._lock:
            here = piece.video, piece.epoch
            known = self._left_out.get(here, piece.first_chunk)
            self._left_out[here] = min(known, piece.first_chunk)
            self._damaged[piece.video] = str(error)
            count = len(self._damaged)
            if count > self.max_damaged > 0:
                raise InputError(
                    f"{count} videos are damaged or missing, more than "
                    "config.train.max_damaged_share allows:\n"
                    + "\n".join(self._damaged.values())
                ) from error
        if not self.max_damaged:
            raise error
        logging.warning(
            "skipped to the end of the epoch (%d damaged videos of at most %d): %s",
            *(count, self.max_damaged, error),
        )

    def _read_video(self, slot_index: int, piece: Piece) -> Chunk:
        record, slot = self.records[piece.video], self._open[slot_index]
        with slot.lock:
            if slot.reader is None or slot.reader.path != record.video_path:
                if slot.reader is not None:
                    slot.reader.close()
                slot.reader = open_reader(record, self.view)
            return load_chunks(
                record,
                slot.reader,
                self.view,
                first=piece.first_chunk,
                count=piece.count,
                epoch=piece.epoch,
                video_index=piece.video,
            )


def load_chunks(
    record: VideoRecord,
    reader: Reader,
    view: View,
    *,
    first: int,
    count: int,
    epoch: int,
    video_index: int,
) -> Chunk:
    """Reads chunks `first` to `first + count` of a video, leaves (count, ...).

    `epoch` and `video_index` seed the augmentation, which may begin the video later: it
    is then read as if the frames before did not exist.
    """
    begin = view.first_frame(record, epoch, video_index)
    num_frames = record.num_frames - begin
    plan = windows.plan_windows(num_frames, view.spec, first=first, count=count)
    shown = (begin + plan.frames[plan.frames >= 0]).tolist()
    return build_chunks(
        (view.show(reader.frame(i), epoch, video_index, i) for i in shown),
        plan,
        view.blank(*plan.frames.shape),
        labels=record.labels[begin:],
        spec=view.spec,
        num_chunks=windows.num_windows(num_frames, view.spec),
        per_step=view.per_step,
    )
