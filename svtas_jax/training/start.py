"""The state before the first step: fresh weights, or those of `train.init_from`."""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Sequence

import jax
import ml_collections
import optax
from absl import logging

from data_pipeline import annotations
from data_pipeline.chunks import blank_chunk
from svtas_jax.checkpoints import store
from svtas_jax.config import IMAGENET, stream_spec
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import hosts
from svtas_jax.structs import Chunk, Model, Params, TrainState, VideoRecord
from svtas_jax.training.step import begin_with, init_variables
from svtas_jax.weights import pretrained
from svtas_jax.weights.imagenet import find_mobilenet


@dataclasses.dataclass(frozen=True)
class Start:
    """Where the weights of a run begin.

    Attributes:
        said: in words, "" if fresh.
        seen_videos: names of the videos of the run's data set that the weights were
            trained on before.
    """

    said: str = ""
    seen_videos: tuple[str, ...] = ()


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
    if path.is_dir() and not (path / store.FOLDER).is_dir():
        runs = sorted(path.glob(f"split*/{store.FOLDER}"))
        runs += sorted(path.glob(f"seed*/split*/{store.FOLDER}"))
        hint = f"; name one of its runs, such as {runs[0].parent}" if runs else ""
        raise MissingInputError(
            f"config.train.init_from={init_from} holds no checkpoints of its own{hint}."
        )
    return path


def read(config: ml_collections.ConfigDict) -> Start:
    """Returns where `config.train.init_from` lets a run begin.

    Raises:
        MissingInputError: if there are no such weights.
        InputError: if the processes of a run found different files.
    """
    init_from = config.train.init_from
    if not init_from:
        return Start()
    path = find(init_from)
    seen: tuple[str, ...] = ()
    if path.is_dir():
        meta = store.read_meta(str(path), "best")
        said = f"run {path}, step {meta.step}"
        # Videos of another data set may have the same names.
        if meta.config["data"]["dataset"] == config.data.dataset:
            seen = meta.known_videos
    else:
        said = f"file {path}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    if len(set(hosts.gather(said))) > 1:
        raise InputError(
            f"config.train.init_from={init_from} is not the same for all processes of "
            f"this run: here it is {said}. Name a file that all of them can read."
        )
    return Start(said, seen)


def seen_in_test(config: ml_collections.ConfigDict, start: Start) -> list[str]:
    """Returns the test videos of the split that `start` has seen, if there are any."""
    with contextlib.suppress(MissingInputError):
        test = annotations.split_names(config.data, "test")
        return sorted(set(test) & set(start.seen_videos))
    return []


def warn_of_seen(
    config: ml_collections.ConfigDict, start: Start, selection: Sequence[VideoRecord]
) -> None:
    """Warns if videos that shall be new to the model were trained on before.

    Args:
        config: of the run.
        start: where its weights begin.
        selection: the videos that choose the best checkpoint.
    """
    if seen := seen_in_test(config, start):
        logging.warning(
            "the weights to start from (%s) were trained on %d of the test videos of "
            "split %d, such as %s: an evaluation on them does not measure how the "
            "model does on new videos. Start from a run of the same split.",
            *(start.said, len(seen), config.data.split, seen[0]),
        )
    held_out = sorted({record.name for record in selection} & set(start.seen_videos))
    if held_out and config.train.selection != "test":
        logging.warning(
            "the weights to start from (%s) were trained on %d of the %d videos that "
            "choose the best checkpoint, such as %s: their scores promise too much. "
            "Start from a run of the same split, seed and config.train.validation_*.",
            *(start.said, len(held_out), len(selection), held_out[0]),
        )


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
