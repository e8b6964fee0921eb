"""Loads an exported model and runs it, whatever computes it."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.export import metadata
from svtas_jax.export.metadata import Metadata, Program
from svtas_jax.export.programs import FORMAT_OF, Function, load_program

ENGINES = tuple(FORMAT_OF)
State = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """An exported model.

    Attributes:
        metadata: what `model.json` says.
        engine: what computes it, of `ENGINES`.
        programs: the functions, by name.
    """

    metadata: Metadata
    engine: str
    programs: Mapping[str, Function]

    @property
    def text_shape(self) -> tuple[int, int] | None:
        """Shape (clip_steps, D) of the text features; None if the step reads none."""
        if "text" not in self.metadata.programs:
            return None
        steps, width = self.metadata.programs["text"].outputs[0]["shape"][1:]
        return steps, width

    def initial_state(self, batch_size: int) -> State:
        """Returns the state of `batch_size` new streams."""
        return {
            value["name"]: np.full(
                (batch_size, *value["shape"][1:]), value["initial"], value["dtype"]
            )
            for value in self.metadata.programs["step"].inputs
            if "initial" in value
        }

    def step(
        self,
        state: Mapping[str, np.ndarray],
        frames: np.ndarray,
        count: np.ndarray,
        starts: np.ndarray,
        text: np.ndarray | None = None,
    ) -> tuple[State, np.ndarray]:
        """Computes the next state and the logits (B, T, K), zero in invalid steps.

        Args:
            state: see `initial_state`.
            frames: (B, T, size, size, 3) uint8 RGB.
            count: (B,) how many of the T steps are valid; they come first.
            starts: (B,) bool, True where a new stream begins.
            text: (B, clip_steps, D) the result of `text` for the state's labels, if
                there is such a program.

        Raises:
            InputError: if shapes do not fit, or a stream's steps go beyond the end of
                its chunk where the next one needs another text.
        """
        arrays = dict(state) | {
            "frames": np.asarray(frames),
            "count": np.asarray(count, np.int32),
            "starts": np.asarray(starts, bool),
        }
        if text is not None:
            arrays["text"] = np.asarray(text)
        self._check(arrays)
        found = self.programs["step"](arrays)
        return {name: found[f"next_{name}"] for name in state}, found["logits"]

    def text(
        self, labels: np.ndarray, scores: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Returns the text features (B, clip_steps, D) of labels (B, clip_steps), and
        of scores (B, clip_steps, K) if the state has them; None if the step reads none.

        Raises:
            InputError: if the program needs scores and there are none, or the reverse.
        """
        if "text" not in self.programs:
            return None
        arrays: dict[str, np.ndarray] = {"labels": np.asarray(labels, np.int32)}
        if scores is not None:
            arrays["scores"] = np.asarray(scores, np.float32)
        names = [value["name"] for value in self.metadata.programs["text"].inputs]
        if names != list(arrays):
            raise InputError(
                f"the text program takes {' and '.join(names)} of the state, not "
                f"{' and '.join(arrays)}."
            )
        return self.programs["text"](arrays)["text"]

    def _check(self, arrays: Mapping[str, np.ndarray]) -> None:
        values = self.metadata.programs["step"].inputs
        names = {value["name"] for value in values}
        if names != arrays.keys():
            raise InputError(
                f"the step takes {', '.join(sorted(names))}, not "
                f"{', '.join(sorted(arrays))}."
            )
        count, num_steps = arrays["count"], arrays["frames"].shape[1:2]
        sizes = {"B": len(count), "T": num_steps[0] if num_steps else 0}
        for value in values:
            array = arrays[value["name"]]
            shape = tuple(sizes.get(size, size) for size in value["shape"])
            if array.shape != shape or array.dtype != value["dtype"]:
                raise InputError(
                    f"{value['name']} is {array.shape} {array.dtype} and must be "
                    f"{shape} {value['dtype']}."
                )
        self._check_steps(arrays, sizes["T"])

    def _check_steps(self, arrays: Mapping[str, np.ndarray], num_steps: int) -> None:
        least, longest = self.metadata.steps
        if num_steps < least or (longest is not None and num_steps > longest):
            raise InputError(
                f"frames has {num_steps} steps; the model takes "
                + (
                    f"{least}."
                    if least == longest
                    else f"{least} to {longest or 'any'}."
                )
            )
        count = arrays["count"]
        if np.any(count < 0) or np.any(count > num_steps):
            raise InputError(f"count={count} must lie between 0 and {num_steps}.")
        if "position" not in arrays:
            return
        first = np.where(arrays["starts"], 0, arrays["position"])
        if np.any(first + count > self.metadata.clip_steps):
            raise InputError(
                f"count={count} goes beyond the end of a chunk of "
                f"{self.metadata.clip_steps} steps, of which {first} are done; the "
                "steps of the next chunk need another call, with its text."
            )


def check_engine(engine: str) -> None:
    """Raises InputError if there is no such engine."""
    if engine not in ENGINES:
        raise InputError(f"--engine={engine} is not one of {', '.join(ENGINES)}.")


def load_exported(folder: str | os.PathLike, engine: str = "jax") -> Exported:
    """Loads an exported model.

    Args:
        folder: written by `python -m svtas_jax.export`.
        engine: of `ENGINES`.

    Raises:
        MissingInputError: if there is no exported model, or not in this format.
        InputError: if it is damaged or of another version, or the engine is unknown or
            not installed.
    """
    check_engine(engine)
    folder = pathlib.Path(folder)
    found = metadata.read(folder)
    programs = {
        name: _load(folder, program, engine) for name, program in found.programs.items()
    }
    return Exported(found, engine, programs)


def _load(folder: pathlib.Path, program: Program, engine: str) -> Callable:
    kind = FORMAT_OF[engine]
    if kind not in program.files:
        raise MissingInputError(
            f"{folder} was exported without {kind}, which --engine={engine} needs; "
            f"export again with --formats={kind}, or use another engine."
        )
    path = folder / program.files[kind]["name"]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MissingInputError(
            f"{path} cannot be read: {error.strerror or error}; export again."
        ) from error
    if digest != program.files[kind]["sha256"]:
        raise InputError(f"{path} is damaged: its sum is not that in model.json.")
    names = tuple(value["name"] for value in program.outputs)
    return load_program(path, engine, names)
