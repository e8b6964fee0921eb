"""Writes an exported model: a folder that is complete or does not exist."""

import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections

from svtas_jax.checkpoints import store
from svtas_jax.errors import InputError
from svtas_jax.export import metadata, onnx_step, stablehlo
from svtas_jax.export.flat import initial_values
from svtas_jax.export.int8 import quantise
from svtas_jax.export.metadata import FILE, Program
from svtas_jax.export.onnx_graph import import_onnx
from svtas_jax.runtime.files import draft_of, writing
from svtas_jax.streaming import look_ahead
from svtas_jax.structs import Model, Params

FORMATS = ("stablehlo", "onnx")
_OWN = {FILE, *(f"{name}.{kind}" for name in ("step", "text") for kind in FORMATS)}
_Writer = Callable[[], bytes]


def export(
    folder: str | os.PathLike,
    *,
    model: Model,
    variables: Params,
    config: ml_collections.ConfigDict,
    meta: store.Meta,
    formats: Sequence[str] = FORMATS,
    int8: bool = False,
) -> pathlib.Path:
    """Writes the programs of a run and their description; returns the folder.

    Args:
        folder: is created; an earlier export in it is replaced.
        model, variables, config, meta: see `svtas_jax.runs.TrainedRun`.
        formats: of `FORMATS`.
        int8: the ONNX step computes in integers, see `svtas_jax.export.int8`.

    Raises:
        InputError: if the folder holds something else or cannot be written, a part of
            the model has no ONNX, `onnx` is not installed, the model reads features, or
            `int8` needs another format or costs too much.
    """
    folder = pathlib.Path(folder)
    _check_formats(formats, int8=int8)
    _check_replaceable(folder)
    if config.data.features:
        raise InputError(
            "the run was trained on features; only models that read pictures are "
            "exported. Choose a run that was trained on videos."
        )
    if "history" in config.model.prompt_parts:
        raise InputError(
            "the run's prompts tell the stream's history (config.model.prompt_parts), "
            "which exported models cannot; choose a run that was trained without it."
        )
    if "onnx" in formats:
        import_onnx()
        onnx_step.check(model)
    draft = draft_of(folder)
    try:
        with writing(folder, option="--output"):
            draft.mkdir(parents=True)
            programs = _write_programs(draft, model, variables, config, meta, formats)
            found = metadata.describe(model, config, meta, programs)
            (draft / FILE).write_text(found.to_json(), encoding="utf-8")
            if int8:
                quantise(draft, config)
            _replace(folder, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _check_formats(formats: Sequence[str], *, int8: bool) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats or len(set(formats)) < len(formats):
        raise InputError(
            f"--formats={','.join(formats)} must be some of {','.join(FORMATS)}, each "
            "once."
        )
    if int8 and "onnx" not in formats:
        raise InputError("--int8 is for ONNX; export with --formats=onnx.")


def _check_replaceable(folder: pathlib.Path) -> None:
    """Checks that nothing but an earlier export would be lost."""
    with writing(folder, option="--output"):
        if not folder.exists():
            return
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    if not names or (FILE in names and names <= _OWN):
        return
    raise InputError(
        f"--output={folder} exists and is no earlier export, or holds more than that; "
        "choose another folder, or remove what is there."
    )


def _write_programs(
    draft: pathlib.Path, model, variables, config, meta, formats
) -> dict[str, Program]:
    state, size, text_width = initial_values(model), config.data.crop, 0
    ahead = jax.eval_shape(
        lambda v: look_ahead(v, model.initial_state(1), model=model), variables
    )
    if ahead is not None:
        text_width = ahead.shape[-1]
    own = dict(state=state, text_width=text_width)
    picture = dict(picture=(size, size, 3))
    writers: dict[str, dict[str, _Writer]] = {
        "step": {
            "stablehlo": lambda: stablehlo.export_step(
                model, variables, **own, **picture
            ),
            "onnx": lambda: onnx_step.step_graph(model, variables, **own, **picture),
        }
    }
    values = {
        "step": metadata.step_values(
            model, **own, size=size, num_classes=len(meta.class_names)
        )
    }
    if text_width:
        writers["text"] = {
            "stablehlo": lambda: stablehlo.export_text(model, variables),
            "onnx": lambda: onnx_step.text_file(model, variables),
        }
        values["text"] = metadata.text_values(model, text_width)
    return {
        name: Program(*values[name], dict(_write(draft, name, by_format, formats)))
        for name, by_format in writers.items()
    }


def _write(
    draft: pathlib.Path, name: str, writers: dict[str, _Writer], formats: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Writes a program in each format; yields format, file name and sum."""
    for kind in formats:
        content, file = writers[kind](), f"{name}.{kind}"
        (draft / file).write_bytes(content)
        yield kind, {"name": file, "sha256": hashlib.sha256(content).hexdigest()}


def _replace(folder: pathlib.Path, draft: pathlib.Path) -> None:
    """Puts the draft in the place of the folder."""
    if not folder.exists():
        os.rename(draft, folder)
        return
    old = draft_of(folder)
    os.rename(folder, old)
    try:
        os.rename(draft, folder)
    except OSError:
        os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
