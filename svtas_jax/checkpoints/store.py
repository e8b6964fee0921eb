"""Stores checkpoints with Orbax: the two newest and the best of a run.

Each holds `model` (parameters and batch statistics, for evaluation: their averages, if
the run keeps them) and `meta` (config, classes, versions). Those of a training also
hold the items of `svtas_jax.checkpoints.resume`. `svtas_jax.checkpoints.small_arrays`
packs the arrays.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from logging import LogRecord
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy

from svtas_jax.checkpoints import small_arrays
from svtas_jax.checkpoints.formats import FORMAT, check_format, said_of
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import provenance
from svtas_jax.runtime.origin import Origin, origin_of
from svtas_jax.structs import Params, TrainState

SELECTION_METRIC = "acc"
FOLDER = "checkpoints"
_Flat = dict[tuple[str, ...], Any]  # arrays by path
_Processes = ocp.options.MultiprocessingOptions


@dataclasses.dataclass(frozen=True)
class Meta:
    """The facts that a checkpoint stores about itself."""

    config: dict[str, Any]
    class_names: tuple[str, ...]
    fps: float  # of the training videos
    step: int
    epoch: int
    versions: dict[str, str]
    feature_width: int = 0  # width of a step's features; 0 for a model of images
    train_videos: tuple[str, ...] = ()  # names, to warn if they are tested on
    selected_by: str = ""  # which videos choose the best checkpoint; "": not known
    started_from: str = ""  # the weights that the run began with; "" if fresh
    seen_videos: tuple[str, ...] = ()  # that those weights were trained on, likewise
    format: int = FORMAT
    commit: str | None = dataclasses.field(default_factory=provenance.git_commit)

    @property
    def known_videos(self) -> tuple[str, ...]:
        """Videos of the data set that the weights were ever trained on, by name."""
        return tuple(dict.fromkeys((*self.train_videos, *self.seen_videos)))

    @property
    def origin(self) -> Origin:
        """The program that wrote the checkpoint."""
        return origin_of(dataclasses.asdict(self))


def open_manager(
    workdir: str, *, folder: str = FOLDER, read_only: bool = False
) -> ocp.CheckpointManager:
    """Opens a folder of a run's checkpoints; keeps the two newest and the best."""
    policy = preservation_policy.AnyPreservationPolicy(
        [
            preservation_policy.LatestN(2),  # the second in case the first is damaged
            preservation_policy.BestN(
                n=1,
                get_metric_fn=_selection,
                reverse=False,
                keep_checkpoints_without_metrics=False,
            ),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        save_interval_steps=0 if read_only else 1,
        best_fn=_selection,
        best_mode="max",
        preservation_policy=None if read_only else policy,
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        multiprocessing_options=_alone() if read_only else _Processes(),
    )
    handlers = {
        "model": ocp.StandardCheckpointHandler(),
        "optimizer": ocp.StandardCheckpointHandler(),
        "carry": ocp.StandardCheckpointHandler(),
        "place": ocp.JsonCheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),
    }
    path = pathlib.Path(workdir).absolute() / folder
    with _without_notes() if read_only else contextlib.nullcontext():
        return ocp.CheckpointManager(path, options=options, item_handlers=handlers)


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Hides Orbax's warnings that a folder opened to read cannot be written to."""
    logger = logging.get_absl_logger()
    logger.addFilter(_is_no_note)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_note)


def _is_no_note(record: LogRecord) -> bool:
    return "read_only" not in str(record.msg) and "read only" not in str(record.msg)


def _alone() -> _Processes:
    """Lets every process read on its own, so that a failure in one stops no other."""
    own = jax.process_index()
    return _Processes(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"own{own}"
    )


def _selection(metrics: dict[str, float]) -> float:
    return metrics[SELECTION_METRIC]


def check_new(workdir: str) -> None:
    """Raises InputError if `workdir` already holds checkpoints."""
    if not (pathlib.Path(workdir) / FOLDER).is_dir():
        return
    with open_manager(workdir, read_only=True) as manager:
        if manager.all_steps():
            raise InputError(
                f"--workdir={workdir} already holds checkpoints; choose a new folder."
            )


def save_model(workdir: str, variables: Params, meta: Meta) -> None:
    """Writes a checkpoint with weights only, to train from or to evaluate.

    Raises:
        InputError: if `workdir` already holds checkpoints.
    """
    check_new(workdir)
    with open_manager(workdir) as manager:
        args = ocp.args.Composite(
            model=packed(jax.tree.map(jnp.asarray, variables)),
            meta=ocp.args.JsonSave(dataclasses.asdict(meta)),
        )
        manager.save(meta.step, args=args)


def model_item(state: TrainState) -> Params:
    """Returns the part of a state that evaluation needs."""
    # Not every model has batch statistics, and Orbax cannot store an empty tree.
    items = state.variables.items()
    return {name: tree for name, tree in items if jax.tree.leaves(tree)}


def restore_model(workdir: str, which: str, template: Params) -> Params:
    """Returns "params" and "batch_stats" of a checkpoint.

    Args:
        workdir: of the run.
        which: "best", "latest" or a step.
        template: variables of the model, arrays or shapes.
    """
    with open_manager(workdir, read_only=True) as manager:
        step = find_step(manager, workdir, which)
        return read(manager, step, model=template)["model"]


def read_meta(workdir: str, which: str, *, folder: str = FOLDER) -> Meta:
    """Returns the facts that a checkpoint stores about itself.

    Raises:
        MissingInputError: if there is no such run or checkpoint.
    """
    if not (pathlib.Path(workdir) / folder).is_dir():
        raise MissingInputError(
            f"--workdir={workdir} holds no checkpoints; train first: "
            "python -m svtas_jax.train --config=... --workdir=" + str(workdir)
        )
    with open_manager(workdir, folder=folder, read_only=True) as manager:
        step = find_step(manager, workdir, which)
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        check_format(_folder_of(manager, step))
        meta = manager.restore(step, args=args).meta
    return _meta_of(meta)


def _meta_of(stored: dict[str, Any]) -> Meta:
    """Converts stored facts; ignores fields that later versions added to the format."""
    known = {field.name for field in dataclasses.fields(Meta)}
    stored = {"format": 1, "commit": None, **stored}
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stored.items()
        if name in known
    }
    return Meta(**fields)


def find_step(manager: ocp.CheckpointManager, workdir: str, which: str) -> int:
    """Resolves "best", "latest" or a number to a step that exists."""
    steps = sorted(manager.all_steps())
    if not steps:
        raise MissingInputError(
            f"{workdir}/{FOLDER} holds no complete checkpoint; run the training again."
        )
    if which == "best" and (best := manager.best_step()) is not None:
        return best
    if which in ("best", "latest"):  # converted weights have no metrics
        return steps[-1]
    if which.isdecimal() and int(which) in steps:
        return int(which)
    raise InputError(
        f"--checkpoint={which} does not exist in {workdir}; give best, latest or one "
        f"of the steps {', '.join(map(str, steps))}."
    )


def initialise_from(folder: str, variables: Params) -> Params:
    """Replaces every array whose name and shape match one in another run's best
    checkpoint; logs the others."""
    meta = read_meta(folder, "best")
    with open_manager(folder, read_only=True) as manager:
        layout = read_layout(manager, meta.step, "model")
        shapes = small_arrays.shapes_of(layout)
        args = ocp.args.Composite(model=ocp.args.StandardRestore(shapes))
        arrays = small_arrays.unpack(
            manager.restore(meta.step, args=args).model, layout
        )
    loaded = flax.traverse_util.unflatten_dict(arrays, sep="/")
    return merge_matching(variables, loaded, source=folder)


def warn_of_other_classes(folder: str, class_names: Sequence[str]) -> None:
    """Warns if a run to take weights from has other classes, but as many.

    Their arrays fit in shape, so a class would start with another class's weights.
    """
    theirs, ours = read_meta(folder, "best").class_names, tuple(class_names)
    if len(theirs) == len(ours) and theirs != ours:
        old, new = next(
            pair for pair in zip(theirs, ours, strict=True) if len(set(pair)) > 1
        )
        logging.warning(
            "%s was trained on other classes, or on the same in another order: its "
            "weights for class %r become the initial weights for %r. Train further "
            "before you use them.",
            *(folder, old, new),
        )


def merge_matching(variables: Params, loaded: Params, *, source: str) -> Params:
    """Returns `variables`, with the arrays of `loaded` that match in name and shape.

    Raises:
        InputError: if no array fits.
    """
    ours: _Flat = flax.traverse_util.flatten_dict(variables)
    theirs: _Flat = flax.traverse_util.flatten_dict(loaded)
    fitting = {
        name: theirs[name].astype(value.dtype)
        for name, value in ours.items()
        if name in theirs and theirs[name].shape == value.shape
    }
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in fitting:
            shapes = [
                tree[name].shape if name in tree else "-" for tree in (theirs, ours)
            ]
            logging.info("not taken: %s, there %s, here %s", "/".join(name), *shapes)
    if not fitting:
        raise InputError(f"no array of {source} fits this model in name and shape.")
    logging.info("%s: took %d of %d arrays", source, len(fitting), len(ours))
    return flax.traverse_util.unflatten_dict({**ours, **fitting})


def packed(tree: Params) -> ocp.args.StandardSave:
    """Returns the arguments for Orbax to save packed copies of a tree's arrays."""
    arrays, layout = small_arrays.pack(tree)
    return ocp.args.StandardSave(arrays, custom_metadata={**layout})


def read(
    manager: ocp.CheckpointManager, step: int, **templates: Params
) -> dict[str, Params]:
    """Reads items of a checkpoint; each has the structure of its template.

    Raises:
        InputError: if an item's arrays differ from its template's in name, shape or
            type.
    """
    layouts = {}
    for item, template in templates.items():
        layouts[item] = read_layout(manager, step, item)
        _compare(manager, step, layouts[item], small_arrays.layout_of(template))
    shapes = {
        item: ocp.args.StandardRestore(small_arrays.shapes_of(layouts[item], template))
        for item, template in templates.items()
    }
    found = manager.restore(step, args=ocp.args.Composite(**shapes))
    return {
        item: small_arrays.rebuild(
            small_arrays.unpack(found[item], layouts[item]), template
        )
        for item, template in templates.items()
    }


def read_layout(
    manager: ocp.CheckpointManager, step: int, item: str
) -> small_arrays.Layout:
    """Returns the layout of an item of a checkpoint.

    Raises:
        InputError: if there is no such item, or another version wrote it.
        FileNotFoundError: if it is damaged.
    """
    folder = _folder_of(manager, step) / item
    check_format(folder.parent)
    metadata = manager.item_metadata(step).get(item)
    if metadata is None and folder.is_dir():
        raise FileNotFoundError(f"{folder} lacks its metadata")
    which = f"the checkpoint of step {step} in {manager.directory}"
    if metadata is None:
        raise InputError(
            f"{which} has no {item}: it holds weights alone. Start a new run from "
            "them: --config.train.init_from=WORKDIR and another --workdir."
        )
    if not metadata.custom_metadata:
        raise InputError(
            f"{which} was written by another version of the program. "
            f"{said_of(folder.parent)} Use that version, or train again in another "
            "--workdir."
        )
    return metadata.custom_metadata


def _folder_of(manager: ocp.CheckpointManager, step: int) -> pathlib.Path:
    return pathlib.Path(manager.directory) / str(step)


def _compare(
    manager: ocp.CheckpointManager,
    step: int,
    found: small_arrays.Layout,
    expected: small_arrays.Layout,
) -> None:
    if expected == found:
        return
    wrong = sorted(
        n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)
    )
    name = wrong[0]
    there, here = (
        " ".join(map(str, layout.get(name, ["absent"]))) for layout in (found, expected)
    )
    raise InputError(
        f"the checkpoint of step {step} in {manager.directory} belongs to another "
        f"model: {len(wrong)} arrays differ, such as {name}: {there} in the checkpoint "
        f"and {here} here. Use the config that the run was trained with, or another "
        "--workdir."
    )
