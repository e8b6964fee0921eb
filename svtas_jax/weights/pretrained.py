"""Reads a file of another program's weights, and starts a model's image branch there.

weights = read("mobilenet_v2-7ebf99e0.pth", config.model)
variables = start(variables, weights, config, chunks)
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import flax.traverse_util
import ml_collections
import numpy as np
from absl import logging

from svtas_jax.checkpoints import store
from svtas_jax.errors import InputError
from svtas_jax.structs import Chunk, Model, Params
from svtas_jax.weights import convert, folded_mobilenet, pixels
from svtas_jax.weights import names as weight_names
from svtas_jax.weights import rules as weight_rules
from svtas_jax.weights.files import read_arrays

_FOLDED = "a folded MobileNetV2"
_PIXELS = {
    _FOLDED: pixels.SYMMETRIC,
    "torchvision's MobileNetV2": pixels.IMAGENET,
    "timm's MobileNetV2": pixels.IMAGENET,
    "mmaction2": pixels.IMAGENET,
    "OpenAI's CLIP": pixels.CLIP,
}
_BACKBONE = re.compile(r"(?:params|batch_stats)/image/backbone/(.+)")
_STAGE = re.compile(r"(?:layer|resblocks_)(\d+)")
# The convolution after a MobileNet's last stage, which fits no other stage.
_AFTER_STAGES = "conv2/"
_Flat = dict[str, Any]  # arrays by path


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """What a file holds.

    Attributes:
        path: of the file.
        program: who named the arrays.
        variables: "params" and, if there are any, "batch_stats", by our names.
        unplaced: names of arrays that have no place in the system, such as those of the
            classifier.
    """

    path: str
    program: str
    variables: Params
    unplaced: tuple[str, ...]

    @property
    def is_folded(self) -> bool:
        """Whether batch norms are folded into convolutions, and need statistics."""
        return self.program == _FOLDED

    @property
    def pixels(self) -> pixels.Pixels | None:
        """How the pixels were normalised that the weights were trained on; None if it
        is unknown."""
        return _PIXELS.get(self.program)


def read(path: str, model: ml_collections.ConfigDict) -> Weights:
    """Reads a file, by the names of the system that `config.model` describes.

    Raises:
        MissingInputError: if there is no such file.
        InputError: if it is damaged, or clearly of another architecture.
    """
    arrays = read_arrays(path)
    if "stem.kernel" in arrays:
        program, (variables, unplaced) = _FOLDED, folded_mobilenet.convert(arrays)
    else:
        program, named = weight_names.translate(arrays, model.system)
        variables, unplaced = convert.from_torch(named, rules_of(model))
    logging.info("%s: weight names of %s", path, program)
    return Weights(path, program, variables, unplaced)


def rules_of(model: ml_collections.ConfigDict) -> weight_rules.Rules:
    """Returns the names of the weights of the system that `config.model` describes."""
    return weight_rules.system_rules(
        model.system, model.prompt, backbone=model.backbone, head=model.head
    )


def start(
    model: Model,
    variables: Params,
    weights: Weights,
    *,
    config: ml_collections.ConfigDict,
    chunks: Callable[[], Iterable[Chunk]],
) -> Params:
    """Returns `variables` with those of a file: all of the image branch, and whatever
    else fits.

    A model with fewer stages takes those that it has. Weights of a MobileNet are
    adapted to `config.data.mean` and `std`, and folded ones get statistics.

    Args:
        model: the model of the variables.
        variables: fresh "params" and "batch_stats".
        weights: see `read`.
        config: of the model.
        chunks: returns training chunks to measure statistics on, if they are needed.

    Raises:
        InputError: if the file's image branch differs from the model's, or nothing
            fits.
    """
    theirs: _Flat = flax.traverse_util.flatten_dict(weights.variables, sep="/")
    theirs = _image_of(variables, theirs, weights)
    loaded = _adapted(
        flax.traverse_util.unflatten_dict(theirs, sep="/"), weights, config
    )
    parts = loaded.get("params", {}).keys()
    mine = {
        collection: {part: tree[part] for part in tree.keys() & parts}
        for collection, tree in variables.items()
    }
    merged = store.merge_matching(mine, loaded, source=weights.path)
    started = {
        name: {**tree, **merged.get(name, {})} for name, tree in variables.items()
    }
    if weights.is_folded:
        measured = folded_mobilenet.calibrate(model, started, chunks())
        started = _only(theirs.keys(), measured, started)
    _report(variables, theirs, weights)
    return started


def _image_of(variables: Params, theirs: _Flat, weights: Weights) -> _Flat:
    """Returns a file's arrays without those of stages that the model does not have.

    Raises:
        InputError: if the file's image branch is another one than the model's.
    """
    ours: _Flat = flax.traverse_util.flatten_dict(variables, sep="/")
    mine = {name for name in ours if _inner(name)}
    found = {name for name in theirs if _inner(name)}
    last = max(map(_stage, mine), default=-1)
    if any(_stage(name) > last >= 0 for name in found):
        logging.info("%s: the stages after stage %d are left out", weights.path, last)
        found = {name for name in found if _is_within(name, last)}
        mine = {name for name in mine if _is_within(name, last)}
    if mine and not found:
        logging.warning(
            "%s holds no weights for the image branch, which starts fresh.",
            weights.path,
        )
    else:
        _check_shapes(ours, theirs, mine & found, weights)
        _check_names(mine, found, weights)
    return {name: x for name, x in theirs.items() if name in found or not _inner(name)}


def _is_within(name: str, last: int) -> bool:
    """Whether an array is in no later stage than `last`, nor after the last one."""
    return _stage(name) <= last and not _inner(name).startswith(_AFTER_STAGES)


def _inner(name: str) -> str:
    """Returns the path within the backbone, "" for an array outside of it."""
    match = _BACKBONE.match(name)
    return match[1] if match else ""


def _stage(name: str) -> int:
    match = _STAGE.match(_inner(name))
    return int(match[1]) if match else -1


def _check_shapes(
    ours: _Flat, theirs: _Flat, names: Iterable[str], weights: Weights
) -> None:
    for name in sorted(names):
        there, here = np.shape(theirs[name]), np.shape(ours[name])
        if there != here:
            raise InputError(
                f"{weights.path} ({weights.program}) does not fit the model's image "
                f"branch: {_inner(name)} has shape {there} there and {here} here. Set "
                "config.model.image_width to that of the file, usually 1.0 (and for a "
                "ViT config.data.crop), or take another file."
            )


def _check_names(mine: set[str], found: set[str], weights: Weights) -> None:
    wrong = sorted(mine ^ found)
    if wrong:
        lacking = "this model" if wrong[0] in found else "the file"
        raise InputError(
            f"{weights.path} ({weights.program}) is of another architecture than the "
            f"model's image branch: {len(wrong)} arrays are on one side only, such as "
            f"{_inner(wrong[0])}, which {lacking} lacks. Take another file, or another "
            "config.model.backbone."
        )


def _adapted(loaded: Params, weights: Weights, config) -> Params:
    """Returns a file's weights, adapted to `config.data.mean` and `std` if possible."""
    ours = pixels.Pixels(tuple(config.data.mean), tuple(config.data.std))
    if "image" not in loaded.get("params", {}) or weights.pixels is None:
        return loaded
    if config.model.backbone == "mobilenet_tsm":
        return pixels.adapt_mobilenet(loaded, weights.pixels, ours)
    warn_of_pixels(weights, config)
    return loaded


def warn_of_pixels(weights: Weights, config: ml_collections.ConfigDict) -> None:
    """Warns if weights expect other pixels than the config's, and are used as they
    are."""
    ours = pixels.Pixels(tuple(config.data.mean), tuple(config.data.std))
    theirs = weights.pixels
    if theirs is not None and not theirs.nearly(ours):
        logging.warning(
            "%s was trained on pixels normalised in another way; set "
            '--config.data.mean="%s" --config.data.std="%s"',
            *(weights.path, theirs.mean, theirs.std),
        )


def _only(names: Iterable[str], new: Params, old: Params) -> Params:
    """Returns `old` with some arrays of `new`."""
    ours: _Flat = flax.traverse_util.flatten_dict(old, sep="/")
    changed: _Flat = flax.traverse_util.flatten_dict(new, sep="/")
    ours |= {name: changed[name] for name in names}
    return flax.traverse_util.unflatten_dict(ours, sep="/")


def _report(variables: Params, theirs: _Flat, weights: Weights) -> None:
    """Logs how much of the model starts from a file."""
    ours: _Flat = flax.traverse_util.flatten_dict(variables, sep="/")
    sizes = {n: np.size(x) for n, x in ours.items() if n.startswith("params/")}
    taken = {
        name
        for name in sizes.keys() & theirs.keys()
        if np.shape(theirs[name]) == np.shape(ours[name])
    }
    fresh = {name.split("/")[1] for name in sizes.keys() - taken}
    logging.info(
        "%d of %d parameters start from %s; all or some are fresh in: %s",
        *(sum(sizes[name] for name in taken), sum(sizes.values()), weights.path),
        ", ".join(sorted(fresh)) or "nothing",
    )
    if weights.unplaced:
        logging.info(
            "skipped %d arrays that have no place in this model: %s",
            *(len(weights.unplaced), ", ".join(weights.unplaced[:4])),
        )
