"""Computes steps of several streams at once and keeps their states, one row each.

A call gathers the rows of the streams that have a step, runs `segment_chunk`, and puts
the new rows back. It is compiled for a few batch sizes; if fewer streams have a step,
rows of no stream, whose steps are not valid, fill the batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from svtas_jax.streaming import (
    look_ahead,
    segment_chunk,
    start_streams,
    with_weights,
)
from svtas_jax.structs import Array, Chunk, Model, Params, StreamState


class Engine(Protocol):
    """What computes the steps of a fixed number of streams.

    Attributes:
        steps_per_call: T, the steps of a stream in a call; fewer may be valid.
        size: height and width of the pictures.
    """

    steps_per_call: int
    size: int

    def run(
        self, rows: Sequence[int], frames: np.ndarray, valid: np.ndarray, starts: Array
    ) -> np.ndarray:
        """Computes the next steps of some streams.

        Args:
            rows: b numbers of streams, all different.
            frames: (b, T, size, size, 3) uint8 RGB.
            valid: (b, T) bool, True where there is a step.
            starts: (b,) bool, True where a new stream begins.

        Returns:
            Logits (b, T, K), on the host.
        """
        ...


def batch_sizes(num_streams: int) -> tuple[int, ...]:
    """Returns 1, 2, 4 and so on, and `num_streams` as the last one."""
    powers = [1 << n for n in range(num_streams.bit_length())]
    return tuple(n for n in powers if n < num_streams) + (num_streams,)


class Rows:
    """Which of the compiled batch sizes a call takes, and what fills it up."""

    def __init__(self, num_streams: int) -> None:
        self.sizes = batch_sizes(num_streams)
        self.spare = num_streams  # the row of no stream

    def padded(
        self, rows: Sequence[int], *arrays: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns rows and arrays (b, ...) as (size, ...), zero in the added rows."""
        size = next(size for size in self.sizes if size >= len(rows))
        more = size - len(rows)
        if not more:
            return np.asarray(rows, np.int32), list(arrays)
        filled = [
            np.concatenate((a, np.zeros((more, *a.shape[1:]), a.dtype))) for a in arrays
        ]
        return np.asarray([*rows, *[self.spare] * more], np.int32), filled


def warm_up(engine: Engine, sizes: Sequence[int]) -> None:
    """Compiles an engine for some batch sizes, before the first frame arrives."""
    for size in sizes:
        shape = (size, engine.steps_per_call)
        frames = np.zeros((*shape, engine.size, engine.size, 3), np.uint8)
        engine.run(range(size), frames, np.zeros(shape, bool), np.ones(size, bool))


class Programs(NamedTuple):
    """A model and its jitted functions with its weights, which engines may share.

    Attributes:
        model: see `svtas_jax.structs.Model`.
        start: returns the state of some new streams.
        segment, prepare: `_segment_rows` and `_prepare_rows`.
        look_ahead: see `svtas_jax.streaming`.
    """

    model: Model
    start: Callable[[int], StreamState]
    segment: Callable[..., Any]
    prepare: Callable[..., Any]
    look_ahead: Callable[..., Any]


def make_programs(model: Model, variables: Params) -> Programs:
    """Returns the programs of a model; they are compiled when an engine uses them."""
    segment, prepare, ahead = (
        functools.partial(function, model=model)
        for function in (_segment_rows, _prepare_rows, look_ahead)
    )
    return Programs(
        model,
        functools.partial(start_streams, model, variables),
        with_weights(segment, variables, donate_argnums=1),
        with_weights(prepare, variables),
        with_weights(ahead, variables),
    )


class JaxEngine:
    """An engine that runs the model itself; arguments as in `Engine`.

    For a causal model any `steps_per_call` does that divides `clip_steps`; others need
    whole chunks. Of Transeger, text features are computed once a chunk, after the call
    that fills it: they need no frames and add no latency.

    Args:
        programs: see `make_programs`.
        num_streams: how many streams there are.
        clip_steps: steps in a chunk.
        steps_per_call, size: see `Engine`.
    """

    def __init__(
        self,
        programs: Programs,
        *,
        num_streams: int,
        clip_steps: int,
        steps_per_call: int,
        size: int,
    ) -> None:
        self.steps_per_call, self.size = steps_per_call, size
        self._programs = programs
        self._clip_steps, self._rows = clip_steps, Rows(num_streams)
        self._state = programs.start(num_streams + 1)
        self._fresh = programs.look_ahead(programs.start(1))
        self._ahead: Any = None
        if self._fresh is not None:
            self._ahead = jnp.repeat(self._fresh, num_streams + 1, axis=0)
        self._position = np.zeros(num_streams + 1, np.int64)
        warm_up(self, self._rows.sizes)

    def run(
        self, rows: Sequence[int], frames: np.ndarray, valid: np.ndarray, starts: Array
    ) -> np.ndarray:
        """Computes the next steps of some streams, see `Engine.run`."""
        count = valid.sum(axis=1)
        logits = self._call(rows, frames, valid, np.asarray(starts))
        self._position[list(rows)] = np.where(starts, 0, self._position[list(rows)])
        self._position[list(rows)] += count
        if self._ahead is not None:
            self._look_ahead(
                [r for r in rows if not self._position[r] % self._clip_steps]
            )
        return logits

    def _call(self, rows, frames, valid, starts) -> np.ndarray:
        index, arrays = self._rows.padded(rows, frames, valid, starts)
        self._state, self._ahead, logits = self._programs.segment(
            self._state, self._ahead, self._fresh, index, *arrays
        )
        return np.asarray(logits)[: len(rows)]

    def _look_ahead(self, rows: Sequence[int]) -> None:
        if rows:
            index, _ = self._rows.padded(rows)
            self._ahead = self._programs.prepare(self._state, self._ahead, index)


def _segment_rows(
    variables: Params,
    state: StreamState,
    ahead: jax.Array | None,
    fresh: jax.Array | None,
    rows: jax.Array,
    frames: jax.Array,
    valid: jax.Array,
    starts: jax.Array,
    *,
    model: Model,
) -> tuple[StreamState, jax.Array | None, jax.Array]:
    """Computes the next state, `ahead` with that of new streams, and the logits."""
    chunk = Chunk(
        frames=frames,
        labels=jnp.zeros(valid.shape, jnp.int32),  # only losses read them
        valid=valid,
        starts=starts,
        num_chunks=jnp.ones(len(rows), jnp.int32),
    )
    own = None
    if ahead is not None and fresh is not None:
        own = jnp.where(starts[:, None, None], fresh, ahead[rows])
        ahead = ahead.at[rows].set(own)
    mine = jax.tree.map(lambda leaf: leaf[rows], state)
    mine, logits = segment_chunk(variables, mine, chunk, own, model=model)
    state = jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), state, mine)
    return state, ahead, logits


def _prepare_rows(
    variables: Params,
    state: StreamState,
    ahead: jax.Array,
    rows: jax.Array,
    *,
    model: Model,
) -> jax.Array:
    """Returns `ahead` with what `look_ahead` computes for some rows."""
    mine = jax.tree.map(lambda leaf: leaf[rows], state)
    return ahead.at[rows].set(look_ahead(variables, mine, model=model))
