"""All that a training needs to go on to the bit, wherever it was stopped.

Checkpoints lie between optimizer steps. A run that is told to stop also writes one in
the middle of a step, into a folder of its own, with the gradients so far.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import orbax.checkpoint as ocp
from absl import logging

from svtas_jax.checkpoints import store
from svtas_jax.checkpoints.formats import said_of
from svtas_jax.errors import InputError
from svtas_jax.runtime import hosts
from svtas_jax.structs import BatchCarry, Params, TrainState

INTERRUPTED = "interrupted"  # folder of the checkpoint of a run that was told to stop


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands between two batches.

    Attributes:
        state: parameters, statistics, optimizer.
        carry: streams, and what a step has gathered so far.
        data: state of the data's iterator.
        log: state of the log, see `TrainLog.get_state`.
    """

    state: TrainState
    carry: BatchCarry
    data: dict[str, int]
    log: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def in_step(self) -> bool:
        """Whether gradients of a step have been gathered and not applied."""
        return self.data["calls"] > 0


def save(
    manager: ocp.CheckpointManager,
    position: Position,
    meta: store.Meta,
    metrics: dict[str, float] | None = None,
) -> None:
    """Starts to write a checkpoint in the background.

    It is of copies: the next step gives the arrays' memory away while the writer, which
    on CPU only looks at it, may still be at work.
    """
    place = {"data": position.data, "log": position.log}
    args = ocp.args.Composite(
        model=store.packed(store.model_item(position.state)),
        optimizer=store.packed(_optimizer_item(position.state)),
        carry=store.packed(_carry_item(position.carry, position.in_step)),
        place=ocp.args.JsonSave(place),
        meta=ocp.args.JsonSave(dataclasses.asdict(meta)),
    )
    manager.save(meta.step, args=args, metrics=metrics)


def save_interrupted(workdir: str, position: Position, meta: store.Meta) -> None:
    """Writes where a run stands, and returns when that is on the disk."""
    forget_interrupted(workdir)
    with store.open_manager(workdir, folder=INTERRUPTED) as manager:
        save(manager, position, meta)


def was_interrupted(workdir: str) -> bool:
    """Whether `save_interrupted` wrote here; the first process alone takes care."""
    return hosts.is_first() and (pathlib.Path(workdir) / INTERRUPTED).is_dir()


def forget_interrupted(workdir: str) -> None:
    """Removes what `save_interrupted` wrote."""
    if hosts.is_first():
        shutil.rmtree(pathlib.Path(workdir) / INTERRUPTED, ignore_errors=True)


def newest(workdir: str) -> list[tuple[str, int]]:
    """Returns folder and step of a run's checkpoints, the newest first."""
    found = []
    for folder in (store.FOLDER, INTERRUPTED):
        if (pathlib.Path(workdir) / folder).is_dir():
            with store.open_manager(workdir, folder=folder, read_only=True) as manager:
                found += [(step, folder) for step in manager.all_steps()]
    # Of one step, the interrupted one was written later: it is removed after the next.
    order = sorted(found, key=lambda one: (one[0], one[1] == INTERRUPTED))
    return [(folder, step) for step, folder in reversed(order)]


def restore(workdir: str, folder: str, step: int, position: Position) -> Position:
    """Reads one of `newest`; `position` tells names and shapes.

    Raises:
        InputError: if it belongs to another model or another version.
    """
    state, carry = position.state, position.carry
    with store.open_manager(workdir, folder=folder, read_only=True) as manager:
        in_step = "chunk_index" in store.read_layout(manager, step, "carry")
        found = store.read(
            manager,
            step,
            model=store.model_item(state),
            optimizer=_optimizer_item(state),
            carry=_carry_item(carry, in_step),
        )
        items = ocp.args.Composite(place=ocp.args.JsonRestore())
        place = manager.restore(step, args=items).place
    if place["data"].keys() != position.data.keys():
        raise InputError(
            f"{workdir}/{folder}/{step} stands at a place in the data that means "
            "nothing to this version of the program. "
            f"{said_of(pathlib.Path(workdir, folder, str(step)))} Go on with that "
            f"version, or begin anew from its weights: --config.train.init_from="
            f"{workdir} and another --workdir."
        )
    return Position(
        state=state.replace(**found["model"], **found["optimizer"]),
        carry=carry.replace(**found["carry"]),
        data=place["data"],
        log=place.get("log", {}),
    )


def restore_newest(
    workdir: str, candidates: Sequence[tuple[str, int]], position: Position
) -> Position:
    """Returns where a run stands, of the first of `newest` that can be read.

    Those that cannot are moved to `WORKDIR/damaged`: their steps will be saved again.

    Raises:
        InputError: if none can be read, or the newest is another model's.
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
        "are damaged, or of another version of the program. Of the newest: "
        f"{said_of(newest_one)} Use another --workdir."
    )


def _try_restore(
    workdir: str, folder: str, step: int, position: Position
) -> Position | None:
    """Returns what `restore` reads, None if any process finds it damaged."""
    found, trouble = None, ""
    try:
        found = restore(workdir, folder, step, position)
    except InputError:
        raise
    except Exception as error:  # Orbax and TensorStore raise what they like
        trouble = repr(error)[:200]
    troubles = list(filter(None, hosts.gather(trouble)))
    if not troubles:
        return found
    logging.warning(
        "the checkpoint %s/%s/%d is damaged and left out: %s",
        *(workdir, folder, step, troubles[0]),
    )
    return None


def _set_aside(workdir: pathlib.Path, damaged: Sequence[tuple[str, int]]) -> None:
    for folder, step in damaged:
        target = workdir / "damaged" / f"{folder}-{step}"
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (workdir / folder / str(step)).rename(target)


def _optimizer_item(state: TrainState) -> Params:
    return {"step": state.step, "opt_state": state.opt_state}


def _carry_item(carry: BatchCarry, in_step: bool) -> Params:
    """Gradients are only stored where there are any: they are as large as the model."""
    names = [field.name for field in dataclasses.fields(carry)]
    return {name: getattr(carry, name) for name in (names if in_step else ["stream"])}
