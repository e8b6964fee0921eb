"""Plans which chunks every call shows: once, with numpy, from the seed alone.

A batch has B slots, and a slot shows one video after the other, chunk by chunk. There
are two plans for the start of the next video: together with the next batch of videos,
as in the Transeger paper, or packed, as soon as the slot is free.
"""

import dataclasses
import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

EMPTY_SLOT = -1  # video index where a slot shows nothing


class Piece(NamedTuple):
    """Consecutive chunks of one video, from chunk `offset` of a call on."""

    offset: int
    count: int
    video: int
    epoch: int
    first_chunk: int


@dataclasses.dataclass(frozen=True)
class Slot:
    """The n videos that one slot of the batch shows, ascending by start.

    Attributes:
        videos: (n,) int32 index into the records.
        epochs: (n,) int32, epoch of every video.
        starts: (n,) int64, index of every video's first chunk in the slot.
    """

    videos: np.ndarray
    epochs: np.ndarray
    starts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which chunks every slot shows in every call.

    Attributes:
        slots: the B slots.
        num_chunks: (num_epochs, V) chunks of every record in every epoch.
        step_ends: (S,) int64, number of calls up to the end of every optimizer step.
        chunks_per_call: K.
        steps_per_epoch: optimizer steps that show about as many chunks as all videos.
    """

    slots: tuple[Slot, ...]
    num_chunks: np.ndarray
    step_ends: np.ndarray
    chunks_per_call: int
    steps_per_epoch: int

    @property
    def num_calls(self) -> int:
        """Number of batches that the data set yields."""
        return int(self.step_ends[-1])

    @property
    def num_steps(self) -> int:
        """Number of optimizer steps."""
        return len(self.step_ends)

    @property
    def filled(self) -> float:
        """Share of the chunks that show a video; the others are padding."""
        shown = sum(
            int(self.num_chunks[slot.epochs, slot.videos].sum()) for slot in self.slots
        )
        return shown / (self.num_calls * self.chunks_per_call * len(self.slots))

    def step_of(self, call: int) -> int:
        """Returns the optimizer step that a call belongs to."""
        return int(np.searchsorted(self.step_ends, call, side="right"))

    def first_call(self, step: int) -> int:
        """Returns the call at which an optimizer step begins."""
        return int(self.step_ends[step - 1]) if step else 0

    def shown_at(self, step: int, chunk: int | None = None) -> list[tuple[int, int]]:
        """Returns the (video, chunk) pairs shown at a chunk of an optimizer step; for
        None, every video of the step with its first chunk."""
        calls = range(self.first_call(step), int(self.step_ends[step]))
        offset = None
        if chunk is not None:
            call, offset = divmod(chunk, self.chunks_per_call)
            calls = calls[call : call + 1]
        shown: dict[int, int] = {}
        for call in calls:
            for slot in range(len(self.slots)):
                for piece in self.pieces(call, slot):
                    index = 0 if offset is None else offset - piece.offset
                    if 0 <= index < piece.count:
                        shown.setdefault(piece.video, piece.first_chunk + index)
        return list(shown.items())

    def pieces(self, call: int, slot_index: int) -> Iterator[Piece]:
        """Yields the pieces of a slot in a call, in order; the rest is padding."""
        slot, begin = self.slots[slot_index], call * self.chunks_per_call
        end = begin + self.chunks_per_call
        first = max(0, int(np.searchsorted(slot.starts, begin, side="right")) - 1)
        for index in range(first, len(slot.starts)):
            start, video = int(slot.starts[index]), int(slot.videos[index])
            if start >= end:
                return
            low, epoch = max(start, begin), int(slot.epochs[index])
            count = min(start + int(self.num_chunks[epoch, video]), end) - low
            if count > 0:
                yield Piece(low - begin, count, video, epoch, low - start)


def make_schedule(
    num_chunks: Sequence[int] | np.ndarray,
    *,
    batch_size: int,
    chunks_per_call: int,
    num_epochs: int,
    shuffle_seed: int | None,
    chunks_per_step: int = 0,
) -> Schedule:
    """Plans which chunks every call shows.

    Args:
        num_chunks: (V,) chunks of every video, or (num_epochs, V) if they differ
            between epochs.
        batch_size: slots side by side.
        chunks_per_call: chunks a call shows.
        num_epochs: passes over the videos.
        shuffle_seed: shuffles the videos anew every epoch; None keeps their order.
        chunks_per_step: 0: an optimizer step is a batch of videos, shown from the start
            to the end of the longest one, as in the Transeger paper. Otherwise packed:
            a slot shows the next video as soon as one ends, and a step is this many
            chunks of every slot (a multiple of `chunks_per_call`).
    """
    counts = np.asarray(num_chunks, np.int64)
    counts = np.broadcast_to(counts, (num_epochs, counts.shape[-1]))
    orders = [
        _order(counts.shape[-1], shuffle_seed, epoch) for epoch in range(num_epochs)
    ]
    if chunks_per_step:
        rows, num_calls = _packed(counts, orders, batch_size, chunks_per_call)
        pace = chunks_per_step // chunks_per_call
        ends = np.minimum(np.arange(pace, num_calls + pace, pace), num_calls)
        # Of the first epoch: more epochs must not change it.
        steps_per_epoch = round(counts[0].sum() / (batch_size * chunks_per_step))
    else:
        rows, ends = _in_batches(counts, orders, batch_size, chunks_per_call)
        steps_per_epoch = len(ends) // num_epochs
    return Schedule(
        slots=tuple(_slot(row) for row in rows),
        num_chunks=counts,
        step_ends=np.asarray(ends, np.int64),
        chunks_per_call=chunks_per_call,
        steps_per_epoch=max(1, steps_per_epoch),
    )


def _order(num_videos: int, seed: int | None, epoch: int) -> np.ndarray:
    order = np.arange(num_videos)
    if seed is None:
        return order
    return np.random.default_rng([seed, epoch]).permutation(order)


def _in_batches(num_chunks, orders, batch_size, chunks_per_call):
    """Returns (video, epoch, start) by slot, and the number of calls up to the end of
    every batch."""
    rows, ends, call = [[] for _ in range(batch_size)], [], 0
    for epoch, order in enumerate(orders):
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            for row, video in zip(rows, batch, strict=False):
                row.append((int(video), epoch, call * chunks_per_call))
            call += -(-int(num_chunks[epoch, batch].max()) // chunks_per_call)
            ends.append(call)
    return rows, ends


def _packed(num_chunks, orders, batch_size, chunks_per_call):
    """Gives every video to the slot that is free first; returns (video, epoch, start)
    by slot, and the number of calls."""
    rows = [[] for _ in range(batch_size)]
    free = [(0, slot) for slot in range(batch_size)]  # heap of (start, slot)
    for epoch, order in enumerate(orders):
        for video in order:
            start, slot = free[0]
            rows[slot].append((int(video), epoch, start))
            heapq.heapreplace(free, (start + int(num_chunks[epoch, video]), slot))
    return rows, -(-max(free)[0] // chunks_per_call)


def _slot(row: list[tuple[int, int, int]]) -> Slot:
    videos, epochs, starts = np.array(row, np.int64).reshape(-1, 3).T
    return Slot(videos.astype(np.int32), epochs.astype(np.int32), starts)
