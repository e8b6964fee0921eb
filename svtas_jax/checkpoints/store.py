"""Checkpoints with orbax: the two newest and the best, whole and self-describing.

Each holds `model` (parameters and batch statistics, what evaluation needs) and `meta`
(config, classes, versions); those of a training also what
`svtas_jax.checkpoints.resume` needs. Arrays are written as
`svtas_jax.checkpoints.small_arrays` lays them out.
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
_Processes = ocp.options.MultiprocessingOptions


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a checkpoint says about itself."""

    config: dict[str, Any]
    class_names: tuple[str, ...]
    fps: float  # of the training videos
    step: int
    epoch: int
    versions: dict[str, str]
    feature_width: int = 0  # numbers of a step's features; 0: it saw pictures
    train_videos: tuple[str, ...] = ()  # names: testing on them would prove nothing
    format: int = FORMAT
    commit: str | None = dataclasses.field(default_factory=provenance.git_commit)

    @property
    def origin(self) -> Origin:
        """Who wrote it."""
        return origin_of(dataclasses.asdict(self))


def open_manager(
    workdir: str, *, folder: str = FOLDER, read_only: bool = False
) -> ocp.CheckpointManager:
    """Opens the checkpoints of a run, or others of its folders; keeps the two
    newest and the best."""
    policy = preservation_policy.AnyPreservationPolicy(
        [
            preservation_policy.LatestN(2),  # one, and one if that gets damaged
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
    """Drops Orbax's warnings that what is opened to be read cannot be written."""
    logger = logging.get_absl_logger()
    logger.addFilter(_is_no_note)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_note)


def _is_no_note(record: LogRecord) -> bool:
    return "read_only" not in str(record.msg) and "read only" not in str(record.msg)


def _alone() -> _Processes:
    """Lets every process read by itself: what one cannot read stops no other."""
    own = jax.process_index()
    return _Processes(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"own{own}"
    )


def _selection(metrics: dict[str, float]) -> float:
    return metrics[SELECTION_METRIC]


def check_new(workdir: str) -> None:
    """Raises InputError if `workdir` holds checkpoints already."""
    if not (pathlib.Path(workdir) / FOLDER).is_dir():
        return
    with open_manager(workdir, read_only=True) as manager:
        if manager.all_steps():
            raise InputError(
                f"--workdir={workdir} holds checkpoints already; choose a new folder."
            )


def save_model(workdir: str, variables: Params, meta: Meta) -> None:
    """Writes a checkpoint of weights alone, to start from or to evaluate.

    Raises:
        InputError: if `workdir` holds checkpoints already.
    """
    check_new(workdir)
    with open_manager(workdir) as manager:
        args = ocp.args.Composite(
            model=packed(jax.tree.map(jnp.asarray, variables)),
            meta=ocp.args.JsonSave(dataclasses.asdict(meta)),
        )
        manager.save(meta.step, args=args)


def model_item(state: TrainState) -> Params:
    """Returns what evaluation needs of a state."""
    # Not every model has statistics, and an empty tree has no place on disk.
    items = {"params": state.params, "batch_stats": state.batch_stats}
    return {name: tree for name, tree in items.items() if jax.tree.leaves(tree)}


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
    """Returns what a checkpoint of a run says about itself.

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
    """Fields that a later version of the same format added say nothing here."""
    known = {field.name for field in dataclasses.fields(Meta)}
    stored = {"format": 1, "commit": None, **stored}
    return Meta(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
            if name in known
        }
    )


def find_step(manager: ocp.CheckpointManager, workdir: str, which: str) -> int:
    """Resolves "best", "latest" or a number to a step that exists."""
    steps = sorted(manager.all_steps())
    if not steps:
        raise MissingInputError(
            f"{workdir}/{FOLDER} holds no finished checkpoint; run the training again."
        )
    if which == "best" and manager.best_step() is not None:
        return manager.best_step()
    if which in ("best", "latest"):  # converted weights were never measured
        return steps[-1]
    if which.isdecimal() and int(which) in steps:
        return int(which)
    raise InputError(
        f"--checkpoint={which} does not exist in {workdir}; there are best, latest and "
        f"the steps {', '.join(map(str, steps))}."
    )


def initialise_from(folder: str, variables: Params) -> Params:
    """Takes over every array of another run's best checkpoint whose name and shape
    match; logs what did not."""
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
    """Says so if weights of as many, but other classes would be taken over from a run:
    they fit in shape, but a class would begin with the weights of another one."""
    theirs, ours = read_meta(folder, "best").class_names, tuple(class_names)
    if len(theirs) == len(ours) and theirs != ours:
        old, new = next(
            pair for pair in zip(theirs, ours, strict=True) if len(set(pair)) > 1
        )
        logging.warning(
            "%s was trained on other classes, or on the same in another order: its "
            "weights of %r begin as those of %r. That is right only to train on.",
            *(folder, old, new),
        )


def merge_matching(variables: Params, loaded: Params, *, source: str) -> Params:
    """Returns `variables` with every array that `loaded` has in the same shape.

    Raises:
        InputError: if not one array fits.
    """
    ours = flax.traverse_util.flatten_dict(variables)
    theirs = flax.traverse_util.flatten_dict(loaded)
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
    """Tells Orbax to write copies of a tree's arrays, and what lies where."""
    arrays, layout = small_arrays.pack(tree)
    return ocp.args.StandardSave(arrays, custom_metadata=layout)


def read(
    manager: ocp.CheckpointManager, step: int, **templates: Params
) -> dict[str, Params]:
    """Returns items of a checkpoint, each like its template.

    Raises:
        InputError: if an item has other arrays than its template.
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
    """Returns which arrays an item of a checkpoint holds.

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
            f"{which} has no {item}: it holds weights alone. Begin anew from them: "
            "--config.train.init_from=WORKDIR and another --workdir."
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
        f"model: {len(wrong)} arrays differ, such as {name}: {there} there and "
        f"{here} here. Use the config that the run was trained with, or another "
        "--workdir."
    )
