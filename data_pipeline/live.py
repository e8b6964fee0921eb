"""Chunks from a source as it comes, built by the same function as those of a file."""

import dataclasses
import time
from collections.abc import Iterator

import ml_collections
import numpy as np

from data_pipeline import transforms, windows
from data_pipeline.cameras import Source
from data_pipeline.chunks import black_frames, build_chunks
from svtas_jax.errors import InputError
from svtas_jax.structs import IGNORE_LABEL, Chunk, StreamSpec


@dataclasses.dataclass(frozen=True, eq=False)
class LiveChunk:
    """One chunk of a stream, and when its frames were shown.

    Attributes:
        chunk: leaves (1, ...), without labels.
        start_frame: raw frames of the stream before it.
        num_frames: raw frames in it, at most `clip_frames`.
        times_s: (steps + 1,) float64, seconds of the sampled frames and of the end.
        decode_s: seconds spent on decoding and resizing.
    """

    chunk: Chunk
    start_frame: int
    num_frames: int
    times_s: np.ndarray
    decode_s: float


class ChunkFiller:
    """Gathers the sampled frames of a stream until a chunk is full.

    Args:
        spec: how the stream is cut.
        data_config: `config.data`: size and crop of the pictures.
    """

    def __init__(
        self, spec: StreamSpec, data_config: ml_collections.ConfigDict
    ) -> None:
        self.spec = spec
        self._resize, self._size = tuple(data_config.resize), data_config.crop
        self._crop = transforms.centre_crop(self._resize, self._size)
        self._num_chunks = 0
        self._frames: list[np.ndarray] = []
        self._times: list[float] = []
        self._decode_s = 0.0

    @property
    def is_full(self) -> bool:
        """Whether the chunk has all its sampled frames."""
        return len(self._frames) == self.spec.clip_steps

    def add(self, frame: np.ndarray, time_s: float, decode_s: float = 0.0) -> None:
        """Takes the next sampled frame.

        Args:
            frame: (H, W, 3) uint8 RGB, of any size.
            time_s: seconds since the stream's first frame.
            decode_s: spent on decoding it.
        """
        begin = time.perf_counter()
        self._frames.append(
            transforms.transform_frames(
                frame[None], resize=self._resize, crop=self._crop
            )[0]
        )
        self._times.append(time_s)
        self._decode_s += decode_s + time.perf_counter() - begin

    def take(self, num_frames: int, end_s: float) -> LiveChunk | None:
        """Returns the chunk that was gathered, if it holds any frame, and begins anew.

        Args:
            num_frames: raw frames of the stream so far.
            end_s: when the last of them ends.
        """
        if not self._frames:
            return None
        spec, index = self.spec, self._num_chunks
        plan = windows.plan_windows(num_frames, spec, first=index, count=1)
        chunk = build_chunks(
            self._frames,
            plan,
            black_frames(1, spec.clip_steps, crop=self._size),
            labels=np.full(num_frames, IGNORE_LABEL, np.int32),
            spec=spec,
            num_chunks=1,  # unknown, and only a loss divides by it
        )
        start = index * spec.clip_frames
        times_s = np.asarray([*self._times, end_s])
        live = LiveChunk(chunk, start, num_frames - start, times_s, self._decode_s)
        self._num_chunks += 1
        self._frames, self._times, self._decode_s = [], [], 0.0
        return live


def read_chunks(source: Source, filler: ChunkFiller) -> Iterator[LiveChunk]:
    """Fills one chunk at a time from a source; the last one may be short.

    A chunk is complete when the first frame after it arrives: only then is it known
    that the source did not end within the chunk's last stride.

    Raises:
        InputError: if the source breaks off, after its last chunk.
    """
    shots, failure = source.shots(filler.spec.frame_stride), None
    while True:
        begin = time.perf_counter()
        try:
            shot = next(shots, None)
        except InputError as error:
            shot, failure = None, error
        decode_s = time.perf_counter() - begin
        if shot is None:
            break
        if filler.is_full and (live := filler.take(shot.index, shot.time_s)):
            yield live
        filler.add(shot.frame, shot.time_s, decode_s)
    if live := filler.take(source.num_frames, source.end_s):
        yield live
    if failure is not None:
        raise failure
