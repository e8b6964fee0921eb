"""Grain data set: batches of B videos side by side, K chunks at a time.

A schedule, computed once, says which chunks every slot of the batch shows in every
call. An element of the data set is one (call, slot). A slot keeps its video open and
reads it forward, so that nothing is decoded twice and memory does not grow with the
length of a video. An element depends only on its index: threads, processes and restored
iterators change the speed, never the data.
"""

import dataclasses
import gc
import math
import pathlib
import pickle
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any

import flax.struct
import grain
import ml_collections
import numpy as np
from absl import flags, logging

from data_pipeline.frame_cache import check_room
from data_pipeline.schedule import EMPTY_SLOT as EMPTY_SLOT
from data_pipeline.schedule import Schedule, make_schedule
from data_pipeline.source import (
    ChunkSource,
    count_chunks,
    load_chunks,
    make_view,
    open_reader,
)
from svtas_jax.errors import InputError
from svtas_jax.structs import Chunk, VideoRecord

_LOST = "terminated unexpectedly"  # in Grain's error about a lost worker
_MOST_LOST = 3  # workers in a row before giving up


@flax.struct.dataclass
class StreamBatch:
    """The next K chunks of B slots, on the host.

    Attributes:
        chunks: numpy leaves (K, B, ...), where B counts the slots read here.
        videos: (K, B) int32 index into the records, EMPTY_SLOT where there is none.
        is_last: whether an optimizer step ends with this batch.
    """

    chunks: Chunk
    videos: np.ndarray
    is_last: bool


def feature_width(records: Sequence[VideoRecord]) -> int:
    """Returns the feature dimension of the records; 0 if they hold pictures.

    Raises:
        InputError: if it differs between files.
    """
    widths = {r.features.width if r.features else 0: r for r in records}
    if len(widths) > 1:
        named = (f"{r.video_path} has {width}" for width, r in widths.items())
        raise InputError(
            f"the features differ in width: {', '.join(named)}. "
            "Use features of one model."
        )
    return next(iter(widths), 0)


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
    width = feature_width([record])
    view = make_view(data_config, train=train, seed=seed, feature_width=width)
    reader = open_reader(record, view)
    try:
        return load_chunks(
            record,
            reader,
            view,
            first=0,
            count=view.num_chunks(record, epoch, video_index),
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
    chunks_per_step: int = 0,
    num_epochs: int = 1,
    seed: int = 0,
    max_damaged_share: float = 0.0,
    slots: Sequence[int] | None = None,
    train: bool,
) -> "StreamDataset":
    """Streams videos side by side, the next `chunks_per_call` chunks at a time.

    Args:
        records: the videos.
        data_config: `config.data`.
        batch_size: videos side by side (B).
        chunks_per_call: chunks a batch holds (K).
        chunks_per_step: see `schedule.make_schedule`.
        num_epochs: passes over the videos.
        seed: determines order and augmentation.
        max_damaged_share: share of the videos, rounded up to whole videos, that may
            prove damaged or missing while they are read; 0: the first is an error.
        slots: indices of the batch slots that this process reads; all by default.
        train: True shuffles, augments, and repeats the label of every decoded step;
            False keeps the order, crops the centre and gives every frame its own label.

    Raises:
        InputError: if there are no videos, or workers cannot share the slots evenly.
    """
    num_workers = data_config.num_workers
    slots = tuple(range(batch_size) if slots is None else slots)
    _check_sizes(records, len(slots), num_workers)
    width = feature_width(records)
    view = make_view(data_config, train=train, seed=seed, feature_width=width)
    if view.frame_cache and not width:
        check_room(
            *(records, view.spec, view.resize, view.frame_cache),
            every_frame=view.random_start,
        )
    schedule = make_schedule(
        count_chunks(records, view, num_epochs),
        batch_size=batch_size,
        chunks_per_call=chunks_per_call,
        num_epochs=num_epochs,
        shuffle_seed=seed if train else None,
        chunks_per_step=chunks_per_step,
    )
    max_damaged = math.ceil(max_damaged_share * len(records))
    source = ChunkSource(tuple(records), view, schedule, slots, max_damaged)
    return StreamDataset(source, num_workers=num_workers)


class _Filed:
    """A source pickled to a file, from which worker processes load it.

    Otherwise the source would reach a new process through a pipe. If the process is
    killed before it has read the pipe, its parent waits for ever when the pipe cannot
    hold all the data (64 KiB on Linux; the labels of many videos are larger).
    """

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        try:
            handle, path = tempfile.mkstemp(prefix="svtas_jax-")
            self._path = pathlib.Path(path)
            weakref.finalize(self, self._path.unlink, missing_ok=True)
            with open(handle, "wb") as file:
                pickle.dump(source, file)
        except OSError as error:
            raise InputError(
                f"the folder for temporary files cannot be written ({error.strerror}); "
                "decoding processes load the list of videos from it. Set TMPDIR to a "
                "folder with free space, or config.data.num_workers=0."
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickles as the source itself."""
        return _read_source, (self._path,)

    def __repr__(self) -> str:
        return repr(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Chunk, np.ndarray]:
        return self._source[index]


def _read_source(path: pathlib.Path) -> ChunkSource:
    return pickle.loads(path.read_bytes())


class StreamDataset(grain.IterDataset):
    """Batches of a `ChunkSource`; Grain requires a class."""

    def __init__(self, source: ChunkSource, *, num_workers: int) -> None:
        super().__init__()
        self._source = source
        self._elements = _Filed(source) if num_workers else source
        self._num_workers = num_workers

    def __iter__(self) -> "StreamIterator":
        """Starts at the first batch."""
        return StreamIterator(self)

    @property
    def schedule(self) -> Schedule:
        """Which chunks every call shows."""
        return self._source.schedule

    def __str__(self) -> str:
        """Returns a short text for Grain's messages."""
        return f"StreamDataset({self._source}, num_workers={self._num_workers})"

    def open(self, next_call: int) -> grain.DatasetIterator:
        """Returns Grain's own iterator, starting at batch `next_call`."""
        batch_size = len(self._source.slots)
        elements = grain.MapDataset.source(self._elements)[next_call * batch_size :]
        num_threads = batch_size // max(1, self._num_workers)
        options = grain.ReadOptions(
            num_threads=num_threads, prefetch_buffer_size=2 * num_threads
        )
        dataset = elements.to_iter_dataset(options)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():  # Grain needs them outside app.run
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(self._num_workers)
            )
        return iter(dataset.batch(batch_size, batch_fn=_stack_slots))


class StreamIterator(grain.DatasetIterator):
    """Yields batches and counts them: the state is the same for any `num_workers`.

    Grain's own state depends on the number of workers, which may differ when a run is
    resumed on another machine.
    """

    def __init__(self, dataset: StreamDataset) -> None:
        super().__init__()
        self._dataset = dataset
        self._next_call = 0
        self._batches: grain.DatasetIterator | None = None

    def __next__(self) -> StreamBatch:
        """Returns the next batch."""
        schedule, call = self._dataset.schedule, self._next_call
        if call == schedule.num_calls:
            self._stop()
            raise StopIteration
        chunks, videos = self._read(call)
        self._next_call += 1
        is_last = schedule.step_of(call + 1) > schedule.step_of(call)
        return StreamBatch(chunks, videos, is_last)

    def _read(self, call: int) -> tuple[Chunk, np.ndarray]:
        """Reads a batch; starts new workers if one is lost."""
        for _ in range(_MOST_LOST):
            if self._batches is None:
                self._batches = self._dataset.open(call)
            try:
                return next(self._batches)
            except RuntimeError as error:
                if _LOST not in str(error):
                    raise
                logging.warning(
                    "A decoding process was lost (%s): starting new ones.", error
                )
                self._stop()
        raise InputError(
            f"decoding processes were lost {_MOST_LOST} times at the same batch, "
            "mostly because the machine has no memory left; use fewer of them "
            "(config.data.num_workers), or smaller chunks."
        )

    def get_state(self) -> dict[str, int]:
        """Returns the position for a checkpoint: completed optimizer steps, and calls
        since the last one."""
        schedule = self._dataset.schedule
        step = schedule.step_of(self._next_call)
        return {"step": step, "calls": self._next_call - schedule.first_call(step)}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues from a position that `get_state` returned.

        Raises:
            InputError: if another version wrote the state; `checkpoints.resume` names
                that version earlier.
        """
        if state.keys() != self.get_state().keys():
            raise InputError(
                f"{dict(state)} is not a position in the data as this version writes "
                "it, but as another version of the program does."
            )
        self._stop()
        first_call = self._dataset.schedule.first_call(state["step"])
        self._next_call = first_call + state["calls"]

    def close(self) -> None:
        """Stops threads and processes."""
        super().close()
        self._stop()

    def _stop(self) -> None:
        if self._batches is None:
            return
        self._batches.close()
        self._batches = None
        # Grain's iterators form reference cycles that keep shared memory alive.
        gc.collect()


def _stack_slots(
    elements: Sequence[tuple[Chunk, np.ndarray]],
) -> tuple[Chunk, np.ndarray]:
    slots, videos = zip(*elements, strict=True)
    fields = [field.name for field in dataclasses.fields(Chunk)]
    chunks = Chunk(
        **{
            name: np.stack([np.asarray(getattr(slot, name)) for slot in slots], axis=1)
            for name in fields
        }
    )
    return chunks, np.stack([np.asarray(shown) for shown in videos], axis=1)


def _check_sizes(
    records: Sequence[VideoRecord], num_slots: int, num_workers: int
) -> None:
    if not records:
        raise InputError(
            "There are no videos to read; the split must name at least one."
        )
    if num_workers and num_slots % num_workers:
        divisors = [n for n in range(1, num_slots + 1) if num_slots % n == 0]
        best = max(n for n in divisors if n <= num_workers)
        raise InputError(
            f"config.data.num_workers={num_workers} does not divide the batch size "
            f"{num_slots}: every worker reads its own slots of a batch; "
            f"try --config.data.num_workers={best}, or 0 to decode in threads."
        )
