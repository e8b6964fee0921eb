"""Which videos are shown when: computed once, with numpy, from the seed alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

EMPTY_SLOT = -1  # a batch with fewer videos than slots


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
