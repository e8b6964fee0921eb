"""Saves and restores a training so that it resumes bit by bit, wherever it stopped.

Ordinary checkpoints are written between optimizer steps. A run that is asked to stop
can also write one within a step, with the gradients so far, to a separate folder.
"""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from svtas_jax.checkpoints import small_arrays, store
from svtas_jax.checkpoints.formats import said_of
from svtas_jax.errors import InputError
from svtas_jax.runtime import hosts
from svtas_jax.structs import BatchCarry, Params, TrainState

INTERRUPTED = "interrupted"  # folder for the checkpoint of a run that was stopped


@dataclasses.dataclass(frozen=True)
class Position:
    """The position of a run between two batches.

    Attributes:
        state: parameters, statistics, optimizer.
        carry: streams, and the sums of the current step.
        data: state of the data's iterator.
        log: state of the log, see `TrainLog.get_state`.
    """

    state: TrainState
    carry: BatchCarry
    data: dict[str, int]
    log: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def in_step(self) -> bool:
        """Whether there are gradients that have not been applied yet."""
        return self.data["calls"] > 0


def save(
    manager: ocp.CheckpointManager,
    position: Position,
    meta: store.Meta,
    metrics: dict[str, float] | None = None,
) -> None:
    """Starts to write a checkpoint in the background.

    It writes copies of the arrays: on CPU the writer reads an array's own memory, which
    the next step donates before the writer may have finished.
    """
    progress = {"data": position.data, "log": position.log}
    args = ocp.args.Composite(
        model=store.packed(store.model_item(position.state)),
        optimizer=store.packed(_optimizer_item(position.state)),
        carry=store.packed(_carry_item(position.carry, position.in_step)),
        place=ocp.args.JsonSave(progress),
        meta=ocp.args.JsonSave(dataclasses.asdict(meta)),
    )
    manager.save(meta.step, args=args, metrics=metrics)


def save_interrupted(workdir: str, position: Position, meta: store.Meta) -> None:
    """Writes the position of a stopped run; returns when it is on the disk."""
    forget_interrupted(workdir)
    with store.open_manager(workdir, folder=INTERRUPTED) as manager:
        save(manager, position, meta)


def was_interrupted(workdir: str) -> bool:
    """Whether `save_interrupted` wrote here; False in all but the first process."""
    return hosts.is_first() and (pathlib.Path(workdir) / INTERRUPTED).is_dir()


def forget_interrupted(workdir: str) -> None:
    """Removes the checkpoint of `save_interrupted`."""
    if hosts.is_first():
        shutil.rmtree(pathlib.Path(workdir) / INTERRUPTED, ignore_errors=True)


def newest(workdir: str) -> list[tuple[str, int]]:
    """Returns the folder and step of each of a run's checkpoints, newest first."""
    found = []
    for folder in (store.FOLDER, INTERRUPTED):
        if (pathlib.Path(workdir) / folder).is_dir():
            with store.open_manager(workdir, folder=folder, read_only=True) as manager:
                found += [(step, folder) for step in manager.all_steps()]
    # In the same step, the interrupted one is newer: the next save removes it.
    order = sorted(found, key=lambda one: (one[0], one[1] == INTERRUPTED))
    return [(folder, step) for step, folder in reversed(order)]


def meta_of_newest(
    workdir: str, checkpoints: Sequence[tuple[str, int]]
) -> store.Meta | None:
    """Returns what the newest of `newest` that can be read stores about itself, or
    None; a damaged one is reported where it is restored."""
    for folder, step in checkpoints:
        with contextlib.suppress(Exception):
            return store.read_meta(workdir, str(step), folder=folder)
    return None


def restore(workdir: str, folder: str, step: int, position: Position) -> Position:
    """Reads one of `newest`; `position` gives the names and shapes.

    Gradients come back as the devices that wrote them had shared them.

    Raises:
        InputError: if it belongs to another model, or another version wrote it.
    """
    state, carry = position.state, position.carry
    with store.open_manager(workdir, folder=folder, read_only=True) as manager:
        layout = store.read_layout(manager, step, "carry")
        in_step = "chunk_index" in layout
        if in_step:
            grads = _shared_as_in(layout, carry.grads, state.params)
            carry = dataclasses.replace(carry, grads=grads)
        found = store.read(
            manager,
            step,
            model=store.model_item(state),
            optimizer=_optimizer_item(state),
            carry=_carry_item(carry, in_step),
        )
        items = ocp.args.Composite(place=ocp.args.JsonRestore())
        progress = manager.restore(step, args=items).place
    if progress["data"].keys() != position.data.keys():
        raise InputError(
            f"{workdir}/{folder}/{step} stores its position in the data in a way that "
            "this version of the program does not know. "
            f"{said_of(pathlib.Path(workdir, folder, str(step)))} Resume it with that "
            f"version, or start a new run from its weights: --config.train.init_from="
            f"{workdir} and another --workdir."
        )
    return Position(
        state=_with_items(state, found["model"], found["optimizer"]),
        carry=dataclasses.replace(carry, **found["carry"]),
        data=progress["data"],
        log=progress.get("log", {}),
    )


def restore_newest(
    workdir: str, candidates: Sequence[tuple[str, int]], position: Position
) -> Position:
    """Restores the first of `newest` that can be read.

    Damaged ones before it are moved to `WORKDIR/damaged`, since the run will save their
    steps again.

    Raises:
        InputError: if none can be read, or the newest belongs to another model.
    """
    for number, (folder, step) in enumerate(candidates):
        found = _try_restore(workdir, folder, step, position)
        if found is None:
            continue
        if hosts.is_first():
            _set_aside(pathlib.Path(workdir), candidates[:number])
        hosts.wait()
        return found
    newest_one = pathlib.Path(workdir, *map(str, candidates[0]))
    raise InputError(
        f"none of the {len(candidates)} checkpoints in {workdir} can be read: they "
        "are damaged, or another version of the program wrote them. About the newest: "
        f"{said_of(newest_one)} Use another --workdir."
    )


def _try_restore(
    workdir: str, folder: str, step: int, position: Position
) -> Position | None:
    """Returns the result of `restore`, or None if any process finds it damaged."""
    found, trouble = None, ""
    try:
        found = restore(workdir, folder, step, position)
    except InputError:
        raise
    except Exception as error:  # Orbax and TensorStore raise errors of many types
        trouble = repr(error)[:200]
    troubles = list(filter(None, hosts.gather(trouble)))
    if not troubles:
        return found
    logging.warning(
        "the checkpoint %s/%s/%d is damaged and is skipped: %s",
        *(workdir, folder, step, troubles[0]),
    )
    return None


def _set_aside(workdir: pathlib.Path, damaged: Sequence[tuple[str, int]]) -> None:
    for folder, step in damaged:
        target = workdir / "damaged" / f"{folder}-{step}"
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (workdir / folder / str(step)).rename(target)


def _shared_as_in(layout: small_arrays.Layout, grads: Params, params: Params) -> Params:
    """Returns gradients for as many devices as those of the stored carry; only the
    names, shapes and types matter."""

    def match(path, grad, param):
        stored = layout.get("grads/" + small_arrays.name_of(path), [grad.shape])[0]
        if tuple(stored) not in (param.shape, (*stored[:1], *param.shape)):
            return grad  # of another model, which `store.read` reports
        if tuple(stored) == grad.shape:
            return grad
        return np.broadcast_to(np.zeros((), grad.dtype), stored)

    return jax.tree_util.tree_map_with_path(match, grads, params)


def _optimizer_item(state: TrainState) -> Params:
    item = {"step": state.step, "opt_state": state.opt_state}
    if state.average is None:
        return item
    # The model's item then holds the averages.
    return item | {"params": state.params, "batch_stats": state.batch_stats}


def _with_items(state: TrainState, model: Params, optimizer: Params) -> TrainState:
    """Returns the state with the arrays of `model_item` and `_optimizer_item`."""
    if state.average is not None:
        model = {"average": {**state.average, **model}}
    return dataclasses.replace(state, **model, **optimizer)


def _carry_item(carry: BatchCarry, in_step: bool) -> Params:
    """Returns the arrays to store; gradients, as large as the model, only in a step."""
    names = [field.name for field in dataclasses.fields(carry)]
    return {name: getattr(carry, name) for name in (names if in_step else ["stream"])}
