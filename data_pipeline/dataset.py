"""Grain: records -> chunks of B videos side by side, a few chunks at a time.

A schedule computed once says which chunks every slot of a batch shows at every call.
One element of the data set is one (call, slot); a slot keeps its video open and reads
it forward, so that nothing is decoded twice and memory does not depend on the length of
a video. An element depends on its index alone: threads, processes and restored
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

from data_pipeline import windows
from data_pipeline.frame_cache import check_room
from data_pipeline.schedule import EMPTY_SLOT as EMPTY_SLOT
from data_pipeline.schedule import Schedule, make_schedule
from data_pipeline.source import ChunkSource, load_chunks, make_view, open_reader
from svtas_jax.errors import InputError
from svtas_jax.structs import Chunk, VideoRecord

_LOST = "terminated unexpectedly"  # what Grain says of a worker process
_MOST_LOST = 3  # in a row


@flax.struct.dataclass
class StreamBatch:
    """The next K chunks of B slots, on the host.

    Attributes:
        chunks: numpy leaves (K, B, ...), B of `make_dataset`'s slots.
        videos: (K, B) int32 index into the records, EMPTY_SLOT where there is none.
        is_last: whether an optimizer step ends here.
    """

    chunks: Chunk
    videos: np.ndarray
    is_last: bool


def feature_width(records: Sequence[VideoRecord]) -> int:
    """Returns how many numbers the features of a step have; 0 if they are pictures.

    Raises:
        InputError: if the files differ in it.
    """
    widths = {r.features.width if r.features else 0: r for r in records}
    if len(widths) > 1:
        named = (f"{r.video_path} has {width}" for width, r in widths.items())
        raise InputError(
            f"the features differ in width: {', '.join(named)}. Use files of one model."
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
        seed: of order and augmentation.
        max_damaged_share: of the videos, rounded up, that may turn out to be damaged or
            gone while they are read; 0: the first one is an error.
        slots: places of the batch to read here, those that other processes do not read;
            by default all.
        train: shuffles and augments, and repeats the decoded steps' labels; otherwise
            videos come in order, cropped in the centre, with the label of every frame.

    Raises:
        InputError: if there are no videos, or workers cannot share the slots evenly.
    """
    num_workers = data_config.num_workers
    slots = tuple(range(batch_size) if slots is None else slots)
    _check_sizes(records, len(slots), num_workers)
    width = feature_width(records)
    view = make_view(data_config, train=train, seed=seed, feature_width=width)
    if view.frame_cache and not width:
        check_room(records, view.spec, view.resize, view.frame_cache)
    schedule = make_schedule(
        [windows.num_windows(r.num_frames, view.spec) for r in records],
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
    """A source that worker processes read from a file, into which it is written.

    What a process is started with goes through a pipe. One that is killed before it has
    read that lets its parent wait for ever if the pipe cannot hold it all (64 KiB on
    Linux; the labels of many videos are more).
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
                "decoding processes are told there what to read. Set TMPDIR to one "
                "with room, or config.data.num_workers=0."
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is the source itself."""
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
    """Batches of a `ChunkSource`. Grain asks for a class here."""

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
        """What is shown when."""
        return self._source.schedule

    def __str__(self) -> str:
        """Stays short in Grain's messages."""
        return f"StreamDataset({self._source}, num_workers={self._num_workers})"

    def open(self, next_call: int) -> grain.DatasetIterator:
        """Returns Grain's own iterator from batch `next_call` on."""
        batch_size = len(self._source.slots)
        elements = grain.MapDataset.source(self._elements)[next_call * batch_size :]
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
        schedule, call = self._dataset.schedule, self._next_call
        if call == schedule.num_calls:
            self._stop()
            raise StopIteration
        chunks, videos = self._read(call)
        self._next_call += 1
        is_last = schedule.step_of(call + 1) > schedule.step_of(call)
        return StreamBatch(chunks, videos, is_last)

    def _read(self, call: int) -> tuple[Chunk, np.ndarray]:
        """Reads a batch; if a worker process is lost, anew with other ones."""
        for _ in range(_MOST_LOST):
            if self._batches is None:
                self._batches = self._dataset.open(call)
            try:
                return next(self._batches)
            except RuntimeError as error:
                if _LOST not in str(error):
                    raise
                logging.warning(
                    "A decoding process was lost (%s): starting anew.", error
                )
                self._stop()
        raise InputError(
            f"decoding processes were lost {_MOST_LOST} times at the same place, which "
            "mostly means that the machine has no memory left; use fewer of them "
            "(config.data.num_workers), or smaller chunks."
        )

    def get_state(self) -> dict[str, int]:
        """Returns where the iterator stands, for a checkpoint: optimizer steps done,
        and calls since."""
        schedule = self._dataset.schedule
        step = schedule.step_of(self._next_call)
        return {"step": step, "calls": self._next_call - schedule.first_call(step)}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on from where `get_state` was called.

        Raises:
            InputError: if another version wrote the state; which one that was says
                `checkpoints.resume` before it comes here.
        """
        if state.keys() != self.get_state().keys():
            raise InputError(
                f"{dict(state)} is no place in the data as this version writes it, but "
                "of another version of the program."
            )
        self._stop()
        first_call = self._dataset.schedule.first_call(state["step"])
        self._next_call = first_call + state["calls"]

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
            f"{num_slots}: every worker keeps its own videos of a batch; "
            f"try --config.data.num_workers={best}, or 0 to decode in threads."
        )
