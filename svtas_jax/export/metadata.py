"""What `model.json` says about an exported model."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from svtas_jax.checkpoints import store
from svtas_jax.config import stream_spec
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import provenance
from svtas_jax.runtime.origin import compared, origin_of
from svtas_jax.structs import Model

FORMAT = 1  # increase it when older programs cannot read a new one
FILE = "model.json"
_HOW = (
    "resize to (height, width) with an antialiased linear (triangle) filter, RGB, then "
    "cut the square of `size` pixels out of the middle; the program normalises"
)
Values = tuple[dict[str, Any], ...]  # name, shape and dtype of inputs or outputs


@dataclasses.dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        inputs, outputs: name, shape and dtype of each array, in order; sizes "B" and
            "T" are free. A state array also has its `initial` value.
        files: by format, name and SHA-256 sum.
    """

    inputs: Values
    outputs: Values
    files: dict[str, dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """All that a user of an exported model needs to know.

    Attributes:
        system: "sete", "mete" or "transeger".
        class_names: by class index.
        causal: whether a step's logits depend on no later step.
        clip_steps: steps in a chunk.
        steps: least and largest T of a call; None for no limit.
        size: height and width of a picture.
        resize: height and width of the frame that the picture is cut from.
        frame_stride: frames of the training videos from one step to the next.
        fps: frame rate of the training videos, 0 if unknown.
        programs: "step", and for a Transeger with prompts "text".
        checkpoint_step: optimizer steps that the weights were trained for.
        config: of the run.
        facts: origin of the run, normalisation.
    """

    system: str
    class_names: tuple[str, ...]
    causal: bool
    clip_steps: int
    steps: tuple[int, int | None]
    size: int
    resize: tuple[int, int]
    frame_stride: int
    fps: float
    programs: dict[str, Program]
    checkpoint_step: int
    config: dict[str, Any]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def step_s(self) -> float | None:
        """Seconds from one step to the next, None if unknown."""
        return self.frame_stride / self.fps if self.fps else None

    def to_json(self) -> str:
        """Returns the content of `model.json`."""
        facts = dataclasses.asdict(self)
        origin = facts.pop("facts")
        found = {"format": FORMAT, **facts, "step_s": self.step_s, "picture": _HOW}
        found |= origin
        return json.dumps(found, indent=1, ensure_ascii=False, default=str)


def describe(
    model: Model,
    config: ml_collections.ConfigDict,
    meta: store.Meta,
    programs: dict[str, Program],
) -> Metadata:
    """Returns the facts about a model of a run; arguments as in `write.export`."""
    data, spec = config.data, stream_spec(config)
    longest = model.clip_steps if hasattr(model, "joint") else None
    least = 1 if model.causal else model.clip_steps
    return Metadata(
        system=config.model.system,
        class_names=meta.class_names,
        causal=model.causal,
        clip_steps=model.clip_steps,
        steps=(least, longest if model.causal else model.clip_steps),
        size=data.crop,
        resize=tuple(data.resize),
        frame_stride=spec.frame_stride,
        fps=meta.fps,
        programs=programs,
        checkpoint_step=meta.step,
        config=config.to_dict(),
        facts={
            "normalisation": {
                "where": "baked in",
                "mean": list(data.mean),
                "std": list(data.std),
            },
            "commit": provenance.git_commit(),
            "versions": provenance.versions(),
        },
    )


def step_values(
    model: Model,
    state: Mapping[str, np.ndarray],
    *,
    size: int,
    num_classes: int,
    text_width: int,
) -> tuple[Values, Values]:
    """Returns inputs and outputs of the step.

    Args:
        model: see `svtas_jax.models`.
        state: arrays of one new stream, (1, ...) each.
        size: height and width of a picture.
        num_classes: K.
        text_width: D of the text features, 0 if the step reads none.
    """
    steps = "T" if model.causal else model.clip_steps
    arrays = [
        _value(name, array.shape[1:], array.dtype.name) for name, array in state.items()
    ]
    initial = [{"initial": array.flat[0].item()} for array in state.values()]
    inputs = [array | value for array, value in zip(arrays, initial, strict=True)]
    inputs.append(_value("frames", (steps, size, size, 3), "uint8"))
    inputs += [_value("count", (), "int32"), _value("starts", (), "bool")]
    if text_width:
        inputs.append(_value("text", (model.clip_steps, text_width), "float32"))
    outputs = [array | {"name": f"next_{array['name']}"} for array in arrays]
    outputs.append(_value("logits", (steps, num_classes), "float32"))
    return tuple(inputs), tuple(outputs)


def text_values(model: Model, text_width: int) -> tuple[Values, Values]:
    """Returns inputs and outputs of the text program."""
    inputs = [_value("labels", (model.clip_steps,), "int32")]
    scores = model.initial_state(1).scores
    if scores is not None:
        inputs.append(_value("scores", scores.shape[1:], "float32"))
    text = _value("text", (model.clip_steps, text_width), "float32")
    return tuple(inputs), (text,)


def _value(name: str, shape: tuple[int | str, ...], dtype: str) -> dict[str, Any]:
    return {"name": name, "shape": ["B", *shape], "dtype": dtype}


def read(folder: pathlib.Path) -> Metadata:
    """Reads `model.json`.

    Raises:
        MissingInputError: if there is none.
        InputError: if it is damaged or of another format.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        is_known = isinstance(found, dict) and isinstance(found.get("format"), int)
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{folder} holds no exported model: {FILE} is missing; write one with "
            "python -m svtas_jax.export --workdir=RUN --output=FOLDER."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; export again.") from error
    if not is_known:
        raise InputError(f"{path} is no description of an exported model.")
    if found["format"] != FORMAT:
        raise InputError(
            f"{path} is of another version. {compared(origin_of(found), FORMAT)} Use "
            "that version, or export again."
        )
    try:
        return _parse(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: {type(error).__name__} {error}; export again."
        ) from error


def _parse(found: dict[str, Any]) -> Metadata:
    programs = {
        name: Program(
            inputs=tuple(dict(value) for value in program["inputs"]),
            outputs=tuple(dict(value) for value in program["outputs"]),
            files={
                name: {"name": str(file["name"]), "sha256": str(file["sha256"])}
                for name, file in program["files"].items()
            },
        )
        for name, program in found["programs"].items()
    }
    least, longest = found["steps"]
    height, width = found["resize"]
    for value in programs["step"].inputs:
        _ = value["name"], np.dtype(value["dtype"]), list(value["shape"])
    return Metadata(
        system=str(found["system"]),
        class_names=tuple(map(str, found["class_names"])),
        causal=bool(found["causal"]),
        clip_steps=int(found["clip_steps"]),
        steps=(int(least), None if longest is None else int(longest)),
        size=int(found["size"]),
        resize=(int(height), int(width)),
        frame_stride=int(found["frame_stride"]),
        fps=float(found["fps"]),
        programs=programs,
        checkpoint_step=int(found["checkpoint_step"]),
        config=dict(found["config"]),
        facts={name: found[name] for name in ("normalisation", "commit", "versions")},
    )
