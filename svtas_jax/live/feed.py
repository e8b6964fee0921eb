"""Reads the sources of a live session and yields its answers as they come."""

import dataclasses
import threading
from collections.abc import Iterator, Sequence

from absl import logging

from data_pipeline.reader import Reader
from data_pipeline.sources import TIMEOUT_S
from data_pipeline.step_queue import Policy
from svtas_jax.errors import InputError
from svtas_jax.evaluation.results import ChunkResult
from svtas_jax.live.results import ChunkGatherer, SourceEnd, StepResult
from svtas_jax.live.session import LiveSession

Event = StepResult | SourceEnd
_SETTLING_S = 5.0  # what a connection has gathered comes at once in the beginning


class Feed:
    """The sources of a session, each read in a thread of its own.

    Iterate over it: it yields a `StepResult` for every step, and a `SourceEnd` for
    every source; sources that have a step at the same time are computed together. After
    `close`, from any thread, it answers what is in hand and ends.

    Args:
        session: with as many sources.
        sources: see `svtas_jax.Run.stream`.
        policy, once, patient, timeout_s: see `data_pipeline.reader.Reader`.
        keeps_pictures: whether results hold the frames.
    """

    def __init__(
        self,
        session: LiveSession,
        sources: Sequence[str],
        *,
        policy: Policy | None = None,
        once: bool = False,
        patient: bool = False,
        timeout_s: tuple[float, float] = TIMEOUT_S,
        keeps_pictures: bool = False,
    ) -> None:
        self.sources = tuple(sources)
        self._session, self._changed = session, threading.Condition()
        self._has_warned = [False] * len(sources)
        self._begun: set[int] = set()  # the sources that have had a step
        self._is_closing = False
        self.readers = [
            Reader(
                source,
                step_s=session.step_s,
                transform=session.transform,
                policy=policy,
                once=once,
                patient=patient,
                timeout_s=timeout_s,
                gap_reset_s=session.gap_reset_s,
                keeps_pictures=keeps_pictures,
                newest=session.steps_per_answer,
                changed=self._changed,
            )
            for source in sources
        ]

    def __iter__(self) -> Iterator[Event]:
        """Yields answers until every source has ended, or until `close`."""
        going_on = set(range(len(self.readers)))
        try:
            while going_on:
                with self._changed:
                    self._changed.wait_for(lambda: self._ready(going_on))
                steps, ended = {}, []
                for number in sorted(going_on):
                    if self._is_closing:
                        ended.append(_end_of(number, self.readers[number]))
                    elif self.readers[number].is_ready:
                        self._take(number, steps, ended)
                self._warn(steps)
                yield from self._session.advance(steps)
                for end in ended:
                    answers, delays = self._session.end(end.source)
                    yield from answers
                    yield dataclasses.replace(end, delays=delays)
                    going_on.discard(end.source)
        finally:
            self.close()
            for reader in self.readers:
                reader.close(0)

    def close(self) -> None:
        """Ends the iteration soon, even while all sources stall."""
        self._is_closing = True
        with self._changed:
            self._changed.notify_all()

    def _ready(self, going_on: set[int]) -> bool:
        return self._is_closing or any(self.readers[n].is_ready for n in going_on)

    def _take(self, number: int, steps: dict, ended: list[SourceEnd]) -> None:
        reader, error = self.readers[number], None
        try:
            step = reader.take(0)
        except InputError as failure:
            step, error = None, failure
        if step is not None:
            steps[number] = step
        else:
            ended.append(_end_of(number, reader, error))

    def _warn(self, steps: dict) -> None:
        for number, step in steps.items():
            if step.resets and number in self._begun:
                logging.warning(
                    "%s: no frame came for more than %g s before %.1f s; a new stream "
                    "begins there.",
                    *(self.sources[number], self._session.gap_reset_s, step.time_s),
                )
            self._begun.add(number)
            is_settled = step.time_s > _SETTLING_S
            if step.dropped and is_settled and not self._has_warned[number]:
                self._has_warned[number] = True
                logging.warning(
                    "%s: its frames come faster than the model answers; the newest one "
                    "is taken and others are left out (counted as dropped).",
                    self.sources[number],
                )


def chunks_of(feed: Feed, class_names: tuple[str, ...]) -> Iterator[ChunkResult]:
    """Yields the chunks of a feed of one source.

    Args:
        feed: of the source.
        class_names: in the order of the class indices.

    Raises:
        InputError: if the source breaks off, after its last chunk.
    """
    gatherer = ChunkGatherer(class_names)
    for event in feed:
        if isinstance(event, SourceEnd):
            chunk = gatherer.end(event.num_frames, event.end_s)
        else:
            chunk = gatherer.add(event)
        if chunk is not None:
            yield chunk
        if isinstance(event, SourceEnd) and event.error is not None:
            raise event.error


def _end_of(number: int, reader: Reader, error: Exception | None = None) -> SourceEnd:
    return SourceEnd(number, *reader.end, reader.counters, error)
