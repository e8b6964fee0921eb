"""Streams of an exported model, which need neither its weights nor its classes."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from svtas_jax.config import stream_spec
from svtas_jax.errors import InputError
from svtas_jax.export import metadata
from svtas_jax.export.load import Exported, load_exported
from svtas_jax.live.engine import Rows, warm_up
from svtas_jax.live.run import Run
from svtas_jax.run_config import load_config
from svtas_jax.structs import Array


def is_exported(folder: str | os.PathLike) -> bool:
    """Returns whether a folder holds an exported model, not a run."""
    return (pathlib.Path(folder) / metadata.FILE).is_file()


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedRun(Run):
    """An exported model, whose programs all engines share."""

    exported: Exported

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return self.exported.metadata.class_names

    @property
    def fps(self) -> float:
        """Frame rate of the training videos, 0 if unknown."""
        return self.exported.metadata.fps

    @property
    def step(self) -> int:
        """Optimizer steps that the weights were trained for."""
        return self.exported.metadata.checkpoint_step

    @property
    def engine(self) -> str:
        """What computes the programs."""
        return self.exported.engine

    def open_engine(self, num_streams: int, steps_per_call: int) -> "ExportedEngine":
        """Prepares the programs for some streams, see `Run.open_engine`."""
        return ExportedEngine(
            self.exported, num_streams=num_streams, steps_per_call=steps_per_call
        )

    def evaluate(self, *args: object, **options: object) -> NoReturn:
        """Raises InputError: the run must be evaluated."""
        del args, options
        raise InputError(
            f"--workdir={self.workdir} is an exported model; evaluate the run that it "
            "was exported from."
        )


def load_exported_run(folder: str | os.PathLike, engine: str) -> ExportedRun:
    """Loads an exported model; arguments and errors as `load_exported`."""
    exported = load_exported(folder, engine)
    facts = exported.metadata
    config = load_config(None, facts.config)
    spec = stream_spec(config)
    told = (facts.size, facts.resize, facts.frame_stride, facts.clip_steps)
    own = (config.data.crop, config.data.resize, spec.frame_stride, spec.clip_steps)
    if told != own:
        raise InputError(
            f"{pathlib.Path(folder) / metadata.FILE} is damaged: size, resize, "
            f"frame_stride and clip_steps are {told}, but its config says {own}; "
            "export again."
        )
    return ExportedRun(os.fspath(folder), config, exported)


class ExportedEngine:
    """An engine (see `live.engine.Engine`) that runs an exported model.

    The states of the streams lie on the host. Of Transeger, text features are computed
    once a chunk, after the call that fills it; a call that fills it and goes on is
    split there.

    Args:
        exported: see `export.load.load_exported`.
        num_streams: how many streams there are.
        steps_per_call: see `Engine`.

    Raises:
        InputError: if the model does not take so many steps in a call.
    """

    def __init__(
        self, exported: Exported, *, num_streams: int, steps_per_call: int
    ) -> None:
        facts = exported.metadata
        least, longest = facts.steps
        if not least <= steps_per_call <= (longest or steps_per_call):
            raise InputError(
                f"steps_per_call={steps_per_call}, but the exported model takes "
                f"{least} to {longest or 'any number of'} steps."
            )
        self.steps_per_call, self.size = steps_per_call, facts.size
        self._exported, self._clip_steps = exported, facts.clip_steps
        self._rows = Rows(num_streams)
        self._state = exported.initial_state(num_streams + 1)
        self._counts = "position" in self._state  # steps in the running chunk
        self._fresh = self._text = np.zeros(0)
        self._reads_text = exported.text_shape is not None
        if exported.text_shape:
            self._fresh = self._text_of(exported.initial_state(1))
            self._text = np.repeat(self._fresh, num_streams + 1, axis=0)
        self._position = np.zeros(num_streams + 1, np.int64)
        self._warm_up()

    def run(
        self, rows: Sequence[int], frames: np.ndarray, valid: np.ndarray, starts: Array
    ) -> np.ndarray:
        """Computes the next steps of some streams, see `Engine.run`; the valid steps
        come first."""
        index, starts = np.asarray(rows), np.asarray(starts, bool)
        count = valid.sum(axis=1)
        assert np.array_equal(valid, np.arange(valid.shape[1]) < count[:, None])
        self._position[index[starts]] = 0
        if self._reads_text:
            self._text[index[starts]] = self._fresh
        first = self._until_full(index, count)
        logits = self._call(index, frames, first, starts)
        more = np.flatnonzero(first < count)
        if len(more):
            self._go_on(more, index, frames, first, count, logits)
        return logits

    def _until_full(self, rows: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Returns how many of the steps belong to the running chunks."""
        if not self._counts:  # every call is a chunk
            return count
        return np.minimum(count, self._clip_steps - self._position[rows])

    def _go_on(self, more, rows, frames, first, count, logits) -> None:
        """Computes the steps after a chunk's end; puts their logits in place."""
        own = np.zeros_like(frames[more])
        for place, row in enumerate(more):
            own[place, : count[row] - first[row]] = frames[row, first[row] : count[row]]
        left = count[more] - first[more]
        valid = np.arange(frames.shape[1]) < left[:, None]
        found = self.run(rows[more], own, valid, np.zeros(len(more), bool))
        for place, row in enumerate(more):
            logits[row, first[row] : count[row]] = found[place, : left[place]]

    def _call(self, rows, frames, count, starts) -> np.ndarray:
        index, (frames, count, starts) = self._padded(rows, frames, count, starts)
        state = {name: array[index] for name, array in self._state.items()}
        text = self._text[index] if self._reads_text else None
        state, logits = self._exported.step(state, frames, count, starts, text)
        for name, array in state.items():
            self._state[name][index] = array
        is_full = count[: len(rows)] > 0
        if self._counts:
            self._position[rows] += count[: len(rows)]
            is_full &= self._position[rows] == self._clip_steps
            self._position[rows[is_full]] = 0
        self._look_ahead(rows[is_full])
        return np.array(logits[: len(rows)])

    def _look_ahead(self, rows: np.ndarray) -> None:
        if self._reads_text and len(rows):
            index, _ = self._padded(rows)
            state = {name: array[index] for name, array in self._state.items()}
            self._text[index] = self._text_of(state)

    def _text_of(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        text = self._exported.text(state["labels"], state.get("scores"))
        assert text is not None  # `_reads_text`
        return text

    def _padded(self, rows, *arrays):
        """Fills a batch up where every batch size is compiled anew."""
        if self._exported.engine == "jax":
            return self._rows.padded(rows, *arrays)
        return rows, list(arrays)

    def _warm_up(self) -> None:
        """Compiles for every batch size, before the first frame arrives."""
        warm_up(self, self._rows.sizes)
        if self._reads_text:
            for size in self._rows.sizes:
                self._text_of({n: array[:size] for n, array in self._state.items()})
