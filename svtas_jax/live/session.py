"""A live session: the steps of several sources go in, a result for each comes out."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from data_pipeline.sampling import StepClock
from data_pipeline.step_queue import Step
from svtas_jax.errors import InputError
from svtas_jax.live.engine import Engine
from svtas_jax.live.results import Latency, StepResult
from svtas_jax.smoothing import OFF, Delays, Smoother, Smoothing
from svtas_jax.stitching import logits_to_labels, logits_to_scores

Transform = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(eq=False)
class _Slot:
    """What a session knows of one source.

    Attributes:
        clock: chooses the steps of pushed frames.
        smoother: of its labels.
        waiting: steps that have not been computed, those that repeat a frame included.
        starts: whether the next call begins a new stream.
        in_chunk, chunk: steps of the running chunk so far, and its number.
        last: the model's input of the last step, which stands in for missing ones.
        num_frames, last_s: of the pushed frames.
    """

    clock: StepClock
    smoother: Smoother
    waiting: list["_Waiting"] = dataclasses.field(default_factory=list)
    starts: bool = True
    in_chunk: int = 0
    chunk: int = -1
    last: np.ndarray | None = None
    num_frames: int = 0
    last_s: float = -np.inf


@dataclasses.dataclass(frozen=True, eq=False)
class _Waiting:
    """A step in a slot: `step` is None where it repeats a frame."""

    frame: np.ndarray
    step: Step | None
    chunk: int
    starts: bool


class LiveSession:
    """Streams in progress: push frames as they come, and close it at the end.

    A causal model answers every step when it comes, others when `clip_steps` are there.

    Args:
        engine: computes the steps.
        transform: makes the model's input (size, size, 3) uint8 of a frame (H, W, 3).
        class_names: in the order of the class indices.
        clip_steps: steps in a chunk.
        step_s: seconds of a step, `frame_stride / fps` of the training.
        num_sources: how many sources are read at a time.
        fps: frame rate of frames that are pushed without a time.
        gap_reset_s: a new stream begins after a longer gap.
        smoothing: of the labels.
    """

    def __init__(
        self,
        engine: Engine,
        transform: Transform,
        *,
        class_names: tuple[str, ...],
        clip_steps: int,
        step_s: float,
        num_sources: int = 1,
        fps: float,
        gap_reset_s: float,
        smoothing: Smoothing = OFF,
    ) -> None:
        self.class_names, self.clip_steps, self.fps = class_names, clip_steps, fps
        self.step_s, self.gap_reset_s, self.transform = step_s, gap_reset_s, transform
        self._engine, self.smoothing = engine, smoothing
        self._slots = [self._new_slot() for _ in range(num_sources)]
        self._is_open, self._calls = True, itertools.count()

    @property
    def num_sources(self) -> int:
        """How many sources are read at a time."""
        return len(self._slots)

    @property
    def steps_per_answer(self) -> int:
        """Steps that are answered together: 1 for a causal model."""
        return self._engine.steps_per_call

    def push(
        self,
        frames: np.ndarray,
        times_s: Sequence[float] | np.ndarray | None = None,
        *,
        source: int = 0,
    ) -> list[StepResult]:
        """Takes the next raw frames of a source; returns what is answered now.

        Push every frame: the session chooses those that are steps by their time.

        Args:
            frames: (n, H, W, 3) or (H, W, 3) uint8 RGB, of any size.
            times_s: their times in seconds since the first frame of the source; by
                default computed from the frame rate.
            source: number of the source, from 0.

        Raises:
            InputError: if the frames have another shape or type, if the number of times
                differs, if they run back, if there is no such source, or if the session
                is closed.
        """
        slot = self._slot(source)
        frames, captured_s = _checked(frames), time.monotonic()
        if not slot.num_frames:
            slot.clock.guess_rate(self.fps)
        results = []
        times = self._times_of(slot, len(frames), times_s)
        for frame, time_s in zip(frames, times, strict=True):
            step = self.step_of(source, frame, time_s, captured_s=captured_s)
            if step is not None:
                results += self.advance({source: step})
        return results

    def step_of(
        self,
        source: int,
        frame: np.ndarray,
        time_s: float,
        *,
        captured_s: float,
        begin_s: float | None = None,
    ) -> Step | None:
        """Takes a source's next frame; returns a step for `advance` if it is one.

        Args:
            source: number of the source.
            frame: (H, W, 3) uint8 RGB.
            time_s: seconds since its first frame.
            captured_s: when it arrived, in seconds of the monotonic clock.
            begin_s: when its decoding began, by default now.
        """
        slot = self._slot(source)
        begin_s = time.monotonic() if begin_s is None else begin_s
        index, slot.num_frames = slot.num_frames, slot.num_frames + 1
        slot.last_s, due = time_s, slot.clock.at(time_s)
        if not due.is_step:
            return None
        return Step(
            frame=self.transform(frame),
            index=index,
            time_s=time_s,
            repeats=due.missed,
            dropped=0,
            resets=due.resets,
            captured_s=captured_s,
            decode_s=time.monotonic() - begin_s,
        )

    def advance(self, steps: Mapping[int, Step]) -> list[StepResult]:
        """Takes at most one step of every source; returns what is answered now.

        Sources that have a step are computed together.
        """
        self._check_open()
        results = []
        for source, step in steps.items():
            if step.resets:
                results += self._end_stream(source)
            self._add(self._slots[source], step)
        while ready := [s for s in steps if self._is_ready(self._slots[s])]:
            results += self._answer(ready)
        return results

    def flush(self, source: int) -> list[StepResult]:
        """Ends a source, whose place another one may take; its frames count from 0.

        Returns the answers of a chunk that is not full.
        """
        return self.end(source)[0]

    def end(self, source: int) -> tuple[list[StepResult], Delays]:
        """Ends a source as `flush` does; also returns how late labels were shown."""
        results = self._end_stream(source)
        delays = self._slots[source].smoother.summary
        self._slots[source] = self._new_slot()
        return results, delays

    def close(self) -> list[StepResult]:
        """Ends the session; returns the answers of all chunks that are not full."""
        if not self._is_open:
            return []
        results = [r for n in range(self.num_sources) for r in self.flush(n)]
        self._is_open = False
        return results

    def __enter__(self) -> "LiveSession":
        """Returns the session."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the session without its last chunks; call `close` first to get them."""
        self._is_open = False

    def _new_slot(self) -> _Slot:
        return _Slot(StepClock(self.step_s, self.gap_reset_s), Smoother(self.smoothing))

    def _end_stream(self, source: int) -> list[StepResult]:
        slot = self._slot(source)
        results = self._answer([source]) if slot.waiting else []
        slot.starts, slot.in_chunk, slot.last = True, 0, None
        return results

    def _add(self, slot: _Slot, step: Step) -> None:
        """Adds a step, and before it one for each that the source left out."""
        if not step.resets and slot.last is not None:
            for _ in range(step.repeats):
                self._append(slot, slot.last, None)
        self._append(slot, step.frame, step)

    def _append(self, slot: _Slot, frame: np.ndarray, step: Step | None) -> None:
        if slot.in_chunk == 0:
            slot.chunk += 1
        slot.waiting.append(_Waiting(frame, step, slot.chunk, slot.starts))
        slot.starts, slot.last = False, frame
        slot.in_chunk = (slot.in_chunk + 1) % self.clip_steps

    def _is_ready(self, slot: _Slot) -> bool:
        return len(slot.waiting) >= self._engine.steps_per_call

    def _answer(self, sources: Sequence[int]) -> list[StepResult]:
        """Computes the next call's steps of some sources."""
        num_steps, size = self._engine.steps_per_call, self._engine.size
        taken = []
        for source in sources:
            slot = self._slots[source]
            taken.append(slot.waiting[:num_steps])
            del slot.waiting[:num_steps]
        frames = np.zeros((len(taken), num_steps, size, size, 3), np.uint8)
        valid = np.zeros((len(taken), num_steps), bool)
        for row, steps in enumerate(taken):
            frames[row, : len(steps)] = [waiting.frame for waiting in steps]
            valid[row, : len(steps)] = True
        starts = np.array([steps[0].starts for steps in taken])
        begin_s = time.monotonic()
        logits = self._engine.run(sources, frames, valid, starts)
        call = _Call(next(self._calls), begin_s, time.monotonic())
        rows = zip(sources, taken, logits, strict=True)
        return [r for row in rows for r in self._results(*row, call)]

    def _results(
        self, source: int, steps: Sequence[_Waiting], logits: np.ndarray, call: "_Call"
    ) -> Iterator[StepResult]:
        labels, scores = logits_to_labels(logits), logits_to_scores(logits)
        smoother = self._slots[source].smoother
        for waiting, label, row in zip(steps, labels.tolist(), scores, strict=False):
            step = waiting.step
            if step is None:
                continue
            label = smoother.update(label, row, step.time_s, starts=waiting.starts)
            yield StepResult(
                source=source,
                frame=step.index,
                time_s=step.time_s,
                label=self.class_names[label],
                class_index=label,
                scores=row,
                chunk=waiting.chunk,
                call=call.number,
                starts=waiting.starts,
                dropped=step.dropped,
                latency=call.latency_of(step),
                answered_s=call.end_s,
                picture=step.picture,
            )

    def _slot(self, source: int) -> _Slot:
        self._check_open()
        if not 0 <= source < self.num_sources:
            raise InputError(
                f"source={source} is none of this session's {self.num_sources}, which "
                "count from 0; open it with more sources."
            )
        return self._slots[source]

    def _check_open(self) -> None:
        if not self._is_open:
            raise InputError("the stream is closed; open a new one.")

    def _times_of(
        self, slot: _Slot, count: int, times_s: Sequence[float] | np.ndarray | None
    ) -> list[float]:
        if times_s is None:
            return ((slot.num_frames + np.arange(count)) / self.fps).tolist()
        times = np.asarray(times_s, np.float64)
        if times.shape != (count,):
            raise InputError(
                f"{count} frames came with {times.size} times; give one time for each "
                "frame, or none at all."
            )
        if (
            not np.isfinite(times).all()
            or (np.diff(times, prepend=slot.last_s) < 0).any()
        ):
            raise InputError(
                f"the times of frames {slot.num_frames} to "
                f"{slot.num_frames + count - 1} run back or are not finite; a "
                f"stream's time only goes on, and has come to {max(slot.last_s, 0):g} "
                "s."
            )
        return times.tolist()


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of the model; times are seconds of the monotonic clock."""

    number: int
    begin_s: float
    end_s: float

    def latency_of(self, step: Step) -> Latency:
        waited_s = self.begin_s - step.captured_s - step.decode_s
        return Latency(step.decode_s, max(0.0, waited_s), self.end_s - self.begin_s)


def _checked(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise InputError(
            f"frames have shape {frames.shape} and type {frames.dtype}; a stream takes "
            "(n, height, width, 3) or (height, width, 3) uint8 RGB."
        )
    return frames
