"""Videos as chunks on the host, each found by its index alone."""

import dataclasses
import functools
import math
import threading
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from data_pipeline import features, frame_cache, transforms, video, windows
from data_pipeline.chunks import black_frames, build_chunks, empty_chunks
from data_pipeline.prepared import reader as prepared
from data_pipeline.schedule import EMPTY_SLOT, Piece, Schedule
from svtas_jax.errors import DamagedVideoError, InputError, MissingInputError
from svtas_jax.structs import Chunk, StreamSpec, VideoRecord


@dataclasses.dataclass(frozen=True)
class View:
    """How pictures and labels of a video are presented."""

    spec: StreamSpec
    resize: tuple[int, int]
    crop: int
    augment: str  # "video", "frame" or "none"
    per_step: bool  # labels of decoded steps only (training)
    seed: int
    feature_width: int = 0  # numbers of a step's features; 0: pictures
    frame_cache: str = ""  # folder of resized frames; empty: videos are decoded anew

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
        perhaps flipped; features as they are."""
        if self.feature_width:
            return frame
        crop, flip = self.crop_and_flip(epoch, video_index, index)
        return transforms.transform_frames(
            frame[None], resize=self.resize, crop=crop, flip=flip
        )[0]

    def crop_and_flip(
        self, epoch: int, video_index: int, frame: int
    ) -> tuple[transforms.Crop, bool]:
        """Returns crop and flip of one frame, drawn from its identity alone."""
        if self.augment == "none":
            return transforms.centre_crop(self.resize, self.crop), False
        identity = (self.seed, epoch, video_index)
        if self.augment == "frame":
            identity = (*identity, frame)
        return _draw_crop(self.resize, self.crop, identity)


@functools.lru_cache(maxsize=1024)  # a draw takes as long as a small frame's resizing
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
    """Returns how `config.data` presents videos in training or evaluation."""
    return View(
        spec=StreamSpec(data_config.clip_frames, data_config.frame_stride),
        resize=tuple(data_config.resize),
        crop=data_config.crop,
        augment=data_config.augment if train else "none",
        per_step=train,
        seed=seed,
        feature_width=feature_width,
        frame_cache=data_config.frame_cache,
    )


Reader = (
    video.FrameReader
    | features.FeatureReader
    | frame_cache.CachedReader
    | prepared.PreparedReader
)


def open_reader(record: VideoRecord, view: View) -> Reader:
    """Opens a record's video, its frames in the cache, or its features."""
    if record.features is not None:
        return features.FeatureReader(record.video_path, record.features)
    if record.prepared is not None:
        return prepared.open_reader(record)
    if view.frame_cache:
        return frame_cache.CachedReader(
            record, view.spec, view.resize, view.frame_cache
        )
    return video.FrameReader(record.video_path, record.num_frames)


@dataclasses.dataclass
class _Slot:
    """A video kept open between two calls."""

    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    reader: Reader | None = None


@dataclasses.dataclass
class ChunkSource:
    """Random access to the elements, as Grain's sources have it: call-major, slots.

    Attributes:
        records: the videos.
        view: how they are presented.
        schedule: when.
        slots: those places of the batch that are read here, the other ones being other
            processes'.
        max_damaged: how many videos may turn out to be damaged or gone, each worker
            process counting its own; what they should show is padding then.
    """

    records: tuple[VideoRecord, ...]
    view: View
    schedule: Schedule
    slots: tuple[int, ...]
    max_damaged: int = 0

    def __post_init__(self) -> None:
        self._open = {slot: _Slot() for slot in self.slots}
        self._damaged: dict[int, str] = {}
        self._left_out: dict[tuple[int, int], int] = {}  # video, epoch: from this chunk
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets worker processes have a copy, with nothing open."""
        given = (self.records, self.view, self.schedule, self.slots, self.max_damaged)
        return ChunkSource, given

    def __repr__(self) -> str:
        """Stays short in Grain's messages."""
        return f"ChunkSource({len(self.records)} videos, {len(self)} elements)"

    def __len__(self) -> int:
        """Number of elements: calls times slots."""
        return self.schedule.num_calls * len(self.slots)

    def __getitem__(self, index: int) -> tuple[Chunk, np.ndarray]:
        """Returns the Chunk (K, ...) of a slot and the videos (K,) that it shows."""
        call, place = divmod(int(index), len(self.slots))
        slot = self.slots[place]
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
        """Reads a piece; of a damaged video what is left of it is padding."""
        # Threads run ahead of each other: what lies before the damage is read.
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
                    f"{count} videos are damaged or gone, more than "
                    "config.train.max_damaged_share allows:\n"
                    + "\n".join(self._damaged.values())
                ) from error
        if not self.max_damaged:
            raise error
        logging.warning(
            "left out until the epoch ends (%d damaged videos of at most %d): %s",
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

    `epoch` and `video_index` seed the augmentation.
    """
    plan = windows.plan_windows(record.num_frames, view.spec, first=first, count=count)
    shown = plan.frames[plan.frames >= 0].tolist()
    return build_chunks(
        (view.show(reader.frame(i), epoch, video_index, i) for i in shown),
        plan,
        view.blank(*plan.frames.shape),
        labels=record.labels,
        spec=view.spec,
        num_chunks=windows.num_windows(record.num_frames, view.spec),
        per_step=view.per_step,
    )
