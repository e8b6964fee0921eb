"""Grain: records -> chunks of B videos in step, in order, a few chunks at a time.

A schedule computed once says which video every slot of a batch shows at every call. One
element of the data set is one (call, slot); a slot keeps its video open and reads it
forward, so that nothing is decoded twice and memory does not depend on the length of a
video. An element depends on its index alone: threads, processes and restored iterators
change the speed, never the data.
"""

import dataclasses
import gc
import threading
from collections.abc import Sequence
from typing import Any

import flax.struct
import grain
import ml_collections
import numpy as np
from absl import flags

from data_pipeline import transforms, video, windows
from svtas_jax.errors import InputError
from svtas_jax.structs import IGNORE_LABEL, Chunk, StreamSpec, VideoRecord

EMPTY_SLOT = -1


@flax.struct.dataclass
class StreamBatch:
    """The next K chunks of B videos, on the host.

    Attributes:
        chunks: numpy leaves (K, B, ...).
        videos: (B,) int32 index into the records, EMPTY_SLOT where there is none.
        first_chunk: index of `chunks[0]` within the videos.
        is_last: whether the videos end here: the optimizer steps after it.
        epoch: counted from 0.
    """

    chunks: Chunk
    videos: np.ndarray
    first_chunk: int
    is_last: bool
    epoch: int


@dataclasses.dataclass(frozen=True)
class View:
    """How pictures and labels of a video are presented."""

    spec: StreamSpec
    resize: tuple[int, int]
    crop: int
    augment: str  # "video", "frame" or "none"
    per_step: bool  # labels of decoded steps only (training)
    seed: int

    def place(
        self, epoch: int, video_index: int, frame: int
    ) -> tuple[transforms.Crop, bool]:
        """Returns crop and flip of one frame, drawn from its identity alone."""
        if self.augment == "none":
            return transforms.centre_crop(self.resize, self.crop), False
        entropy = [self.seed, epoch, video_index]
        if self.augment == "frame":
            entropy.append(frame)
        rng = np.random.default_rng(entropy)
        return transforms.draw_crop(rng, self.resize, self.crop)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which videos are shown when: S optimizer steps of B slots, each several calls.

    Attributes:
        videos: (S, B) int32 index into the records, EMPTY_SLOT where there is none.
        epochs: (S,) int32.
        ends: (S,) int64, number of calls up to the end of a step.
        chunks_per_call: K.
    """

    videos: np.ndarray
    epochs: np.ndarray
    ends: np.ndarray
    chunks_per_call: int

    @property
    def num_calls(self) -> int:
        """Number of batches that the data set yields."""
        return int(self.ends[-1])

    def locate(self, call: int) -> tuple[int, int, bool]:
        """Returns step, first chunk and whether `call` is the last one of the step."""
        step = int(np.searchsorted(self.ends, call, side="right"))
        start = int(self.ends[step - 1]) if step else 0
        first_chunk = (call - start) * self.chunks_per_call
        return step, first_chunk, call + 1 == int(self.ends[step])


def num_steps(
    records: Sequence[VideoRecord], batch_size: int, num_epochs: int = 1
) -> int:
    """Returns the optimizer steps of a training run: one a batch of videos."""
    return -(-len(records) // batch_size) * num_epochs


def load_video(
    record: VideoRecord,
    data_config: ml_collections.ConfigDict,
    *,
    train: bool = False,
    seed: int = 0,
    epoch: int = 0,
    video_index: int = 0,
) -> Chunk:
    """Loads all chunks of one video; for tests and short videos.

    Returns:
        Chunk with numpy leaves (N, ...): frames (N, T, crop, crop, 3), labels (N, F).
    """
    view = make_view(data_config, train=train, seed=seed)
    reader = video.FrameReader(record.video_path, record.num_frames)
    try:
        return _load_chunks(
            record,
            reader,
            view,
            first=0,
            count=windows.num_windows(record.num_frames, view.spec),
            epoch=epoch,
            video_index=video_index,
        )
    finally:
        reader.close()


def make_dataset(
    records: Sequence[VideoRecord],
    data_config: ml_collections.ConfigDict,
    *,
    batch_size: int,
    chunks_per_call: int,
    num_epochs: int = 1,
    seed: int = 0,
    train: bool,
) -> "StreamDataset":
    """Streams batches of videos, the next `chunks_per_call` chunks at a time.

    Args:
        records: the videos.
        data_config: `config.data`.
        batch_size: videos side by side (B); an incomplete last batch has empty slots.
        chunks_per_call: chunks a batch holds (K).
        num_epochs: passes over the videos.
        seed: of order and augmentation.
        train: shuffles and augments, and repeats the decoded steps' labels; otherwise
            videos come in order, cropped in the centre, with the label of every frame.

    Raises:
        InputError: if there are no videos, or workers cannot share the slots evenly.
    """
    num_workers = data_config.num_workers
    _check_sizes(records, batch_size, num_workers)
    view = make_view(data_config, train=train, seed=seed)
    schedule = make_schedule(
        [windows.num_windows(r.num_frames, view.spec) for r in records],
        batch_size=batch_size,
        chunks_per_call=chunks_per_call,
        num_epochs=num_epochs,
        shuffle_seed=seed if train else None,
    )
    source = ChunkSource(tuple(records), view, schedule)
    return StreamDataset(source, num_workers=num_workers)


def make_view(
    data_config: ml_collections.ConfigDict, *, train: bool, seed: int
) -> View:
    """Returns how `config.data` presents videos in training or evaluation."""
    return View(
        spec=StreamSpec(data_config.clip_frames, data_config.frame_stride),
        resize=tuple(data_config.resize),
        crop=data_config.crop,
        augment=data_config.augment if train else "none",
        per_step=train,
        seed=seed,
    )


def make_schedule(
    num_chunks: Sequence[int],
    *,
    batch_size: int,
    chunks_per_call: int,
    num_epochs: int,
    shuffle_seed: int | None,
) -> Schedule:
    """Computes which videos are shown when.

    Args:
        num_chunks: of every video.
        batch_size: slots side by side.
        chunks_per_call: chunks a call shows.
        num_epochs: passes over the videos.
        shuffle_seed: None keeps the order of the videos.
    """
    num_videos = len(num_chunks)
    steps = -(-num_videos // batch_size)
    videos = np.full((num_epochs, steps * batch_size), EMPTY_SLOT, np.int32)
    for epoch in range(num_epochs):
        order = np.arange(num_videos)
        if shuffle_seed is not None:
            order = np.random.default_rng([shuffle_seed, epoch]).permutation(order)
        videos[epoch, :num_videos] = order
    videos = videos.reshape(-1, batch_size)
    lengths = np.append(np.asarray(num_chunks, np.int64), 0)[videos].max(axis=1)
    return Schedule(
        videos=videos,
        epochs=np.repeat(np.arange(num_epochs, dtype=np.int32), steps),
        ends=np.cumsum(-(-lengths // chunks_per_call)),
        chunks_per_call=chunks_per_call,
    )


@dataclasses.dataclass
class _Slot:
    """A video kept open between two calls."""

    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    reader: video.FrameReader | None = None


@dataclasses.dataclass
class ChunkSource:
    """Random access to the elements, as Grain's sources have it: call-major, slots."""

    records: tuple[VideoRecord, ...]
    view: View
    schedule: Schedule

    def __post_init__(self) -> None:
        self._slots = tuple(_Slot() for _ in range(self.num_slots))

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets worker processes have a copy, with nothing open."""
        return ChunkSource, (self.records, self.view, self.schedule)

    def __repr__(self) -> str:
        """Stays short in Grain's messages."""
        return f"ChunkSource({len(self.records)} videos, {len(self)} elements)"

    @property
    def num_slots(self) -> int:
        """Videos side by side (B)."""
        return self.schedule.videos.shape[1]

    def __len__(self) -> int:
        """Number of elements: calls times slots."""
        return self.schedule.num_calls * self.num_slots

    def __getitem__(self, index: int) -> tuple[Chunk, np.ndarray]:
        """Returns the Chunk (K, ...) of a slot and its (video, first, last, epoch)."""
        call, slot_index = divmod(int(index), self.num_slots)
        step, first_chunk, is_last = self.schedule.locate(call)
        epoch = int(self.schedule.epochs[step])
        video_index = int(self.schedule.videos[step, slot_index])
        count = self.schedule.chunks_per_call
        if video_index == EMPTY_SLOT:
            chunks = _empty_chunks(self.view, first=first_chunk, count=count)
        else:
            chunks = self._read(slot_index, video_index, first_chunk, epoch)
        return chunks, np.array([video_index, first_chunk, is_last, epoch], np.int32)

    def _read(
        self, slot_index: int, video_index: int, first_chunk: int, epoch: int
    ) -> Chunk:
        record, slot = self.records[video_index], self._slots[slot_index]
        with slot.lock:
            if slot.reader is None or slot.reader.path != record.video_path:
                if slot.reader is not None:
                    slot.reader.close()
                slot.reader = video.FrameReader(record.video_path, record.num_frames)
            return _load_chunks(
                record,
                slot.reader,
                self.view,
                first=first_chunk,
                count=self.schedule.chunks_per_call,
                epoch=epoch,
                video_index=video_index,
            )


class StreamDataset(grain.IterDataset):
    """Batches of a `ChunkSource`. Grain asks for a class here."""

    def __init__(self, source: ChunkSource, *, num_workers: int) -> None:
        super().__init__()
        self._source = source
        self._num_workers = num_workers

    def __iter__(self) -> "StreamIterator":
        """Starts at the first batch."""
        return StreamIterator(self)

    @property
    def num_calls(self) -> int:
        """Number of batches."""
        return self._source.schedule.num_calls

    def __str__(self) -> str:
        """Stays short in Grain's messages."""
        return f"StreamDataset({self._source}, num_workers={self._num_workers})"

    def open(self, next_call: int) -> grain.DatasetIterator:
        """Returns Grain's own iterator from batch `next_call` on."""
        batch_size = self._source.num_slots
        elements = grain.MapDataset.source(self._source)[next_call * batch_size :]
        num_threads = batch_size // max(1, self._num_workers)
        options = grain.ReadOptions(
            num_threads=num_threads, prefetch_buffer_size=2 * num_threads
        )
        dataset = elements.to_iter_dataset(options)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():  # outside absl's app.run; Grain insists
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(self._num_workers)
            )
        return iter(dataset.batch(batch_size, batch_fn=_stack_slots))


class StreamIterator(grain.DatasetIterator):
    """Gives batches and remembers how many: the same state for any `num_workers`.

    Grain's own state depends on the number of workers, and a run that is resumed on
    another machine may have more of them.
    """

    def __init__(self, dataset: StreamDataset) -> None:
        super().__init__()
        self._dataset = dataset
        self._next_call = 0
        self._batches: grain.DatasetIterator | None = None

    def __next__(self) -> StreamBatch:
        """Returns the next batch."""
        if self._next_call == self._dataset.num_calls:
            self._stop()
            raise StopIteration
        if self._batches is None:
            self._batches = self._dataset.open(self._next_call)
        batch = next(self._batches)
        self._next_call += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Returns where the iterator stands, for a checkpoint."""
        return {"next_call": self._next_call}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on from where `get_state` was called."""
        self._stop()
        self._next_call = state["next_call"]

    def close(self) -> None:
        """Ends threads and processes."""
        super().close()
        self._stop()

    def _stop(self) -> None:
        if self._batches is None:
            return
        self._batches.close()
        self._batches = None
        # Grain's iterators refer to themselves and still hold shared memory.
        gc.collect()


def _load_chunks(
    record: VideoRecord,
    reader: video.FrameReader,
    view: View,
    *,
    first: int,
    count: int,
    epoch: int,
    video_index: int,
) -> Chunk:
    plan = windows.plan_windows(record.num_frames, view.spec, first=first, count=count)
    labels, valid = windows.window_targets(
        record.labels, plan, view.spec, per_step=view.per_step
    )
    frames = np.zeros((*plan.frames.shape, view.crop, view.crop, 3), np.uint8)
    for window, step in np.argwhere(plan.frames >= 0):
        index = int(plan.frames[window, step])
        crop, flip = view.place(epoch, video_index, index)
        frames[window, step] = transforms.transform_frames(
            reader.frame(index)[None], resize=view.resize, crop=crop, flip=flip
        )[0]
    total = windows.num_windows(record.num_frames, view.spec)
    return _with_position(frames, labels, valid, first=first, num_chunks=total)


def _empty_chunks(view: View, *, first: int, count: int) -> Chunk:
    shape = (count, view.spec.clip_steps, view.crop, view.crop, 3)
    labels = np.full((count, view.spec.clip_frames), IGNORE_LABEL, np.int32)
    return _with_position(
        np.zeros(shape, np.uint8), labels, labels >= 0, first=first, num_chunks=1
    )


def _with_position(
    frames: np.ndarray,
    labels: np.ndarray,
    valid: np.ndarray,
    *,
    first: int,
    num_chunks: int,
) -> Chunk:
    count = len(frames)
    return Chunk(
        frames=frames,
        labels=labels,
        valid=valid,
        starts=np.arange(first, first + count) == 0,
        num_chunks=np.full(count, num_chunks, np.int32),
    )


def _stack_slots(elements: Sequence[tuple[Chunk, np.ndarray]]) -> StreamBatch:
    slots, positions = zip(*elements, strict=True)
    fields = [field.name for field in dataclasses.fields(Chunk)]
    chunks = Chunk(
        **{
            name: np.stack([np.asarray(getattr(slot, name)) for slot in slots], axis=1)
            for name in fields
        }
    )
    _, first_chunk, is_last, epoch = positions[0].tolist()
    videos = np.array([position[0] for position in positions], np.int32)
    return StreamBatch(chunks, videos, first_chunk, bool(is_last), epoch)


def _check_sizes(
    records: Sequence[VideoRecord], batch_size: int, num_workers: int
) -> None:
    if not records:
        raise InputError(
            "There are no videos to read; the split must name at least one."
        )
    if num_workers and batch_size % num_workers:
        divisors = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
        best = max(n for n in divisors if n <= num_workers)
        raise InputError(
            f"config.data.num_workers={num_workers} does not divide the batch size "
            f"{batch_size}: every worker keeps its own videos of a batch; "
            f"try --config.data.num_workers={best}, or 0 to decode in threads."
        )
