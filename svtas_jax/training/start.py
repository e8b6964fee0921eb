"""The state before the first step: fresh weights, or those of `train.init_from`."""

import hashlib
import pathlib
from collections.abc import Callable, Iterable, Sequence

import jax
import ml_collections
import optax
from absl import logging

from data_pipeline.chunks import blank_chunk
from svtas_jax.checkpoints import store
from svtas_jax.config import IMAGENET, stream_spec
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import hosts
from svtas_jax.structs import Chunk, Model, Params, TrainState
from svtas_jax.training.step import begin_with, init_variables
from svtas_jax.weights import pretrained
from svtas_jax.weights.imagenet import find_mobilenet


def find(init_from: str) -> pathlib.Path:
    """Returns the run or the file of weights that `config.train.init_from` names.

    Raises:
        MissingInputError: if there is none.
    """
    if init_from == IMAGENET:
        return find_mobilenet()
    path = pathlib.Path(init_from)
    if not path.exists():
        raise MissingInputError(
            f"config.train.init_from={init_from} does not exist; give the workdir of a "
            f"run, a file of weights, or {IMAGENET} for those that torchvision or timm "
            "downloaded."
        )
    return path


def origin(init_from: str) -> str:
    """Returns a description of the weights that a run starts from, "" if fresh.

    Raises:
        MissingInputError: if they do not exist.
        InputError: if the processes of a run found different files.
    """
    if not init_from:
        return ""
    path = find(init_from)
    if path.is_dir():
        step = store.read_meta(str(path), "best").step
        said = f"run {path}, step {step}"
    else:
        said = f"file {path}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    if len(set(hosts.gather(said))) > 1:
        raise InputError(
            f"config.train.init_from={init_from} is not the same for all processes of "
            f"this run: here it is {said}. Name a file that all of them can read."
        )
    logging.info("starting from %s", said)
    return said


def warn_of_other_classes(init_from: str, class_names: Sequence[str]) -> None:
    """Warns if a run to start from has other classes, but as many."""
    if init_from and init_from != IMAGENET and pathlib.Path(init_from).is_dir():
        store.warn_of_other_classes(init_from, class_names)


def fresh_variables(
    config: ml_collections.ConfigDict, model: Model, feature_width: int = 0
) -> Params:
    """Returns new "params" and "batch_stats" of a model."""
    chunk = blank_chunk(
        1, stream_spec(config), config.data.crop, feature_width=feature_width
    )
    return init_variables(model, chunk, jax.random.key(config.seed))


def _no_chunks() -> Iterable[Chunk]:
    return ()


def first_state(
    config: ml_collections.ConfigDict,
    model: Model,
    tx: optax.GradientTransformation,
    feature_width: int = 0,
    *,
    chunks: Callable[[], Iterable[Chunk]] = _no_chunks,
) -> TrainState:
    """Returns the state before the first step: fresh parameters, replaced by those of
    `config.train.init_from` where they fit.

    Args:
        config: of the run.
        model, tx: the model and the optimizer.
        feature_width: of a step's features; 0 if the model reads images.
        chunks: returns training chunks, on which weights without batch norms are
            measured.
    """
    variables = fresh_variables(config, model, feature_width)
    if not config.train.init_from:
        return begin_with(variables, tx)
    path = find(config.train.init_from)
    if path.is_dir():
        return begin_with(store.initialise_from(str(path), variables), tx)
    weights = pretrained.read(str(path), config.model)
    variables = pretrained.start(
        model, variables, weights, config=config, chunks=chunks
    )
    return begin_with(variables, tx)
