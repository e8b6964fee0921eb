"""Checks a config against the one that a run was trained with."""

from typing import Any

import ml_collections

from svtas_jax.checkpoints.formats import FORMAT
from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.runtime.origin import Origin, compared

# Fields that may change when a run is resumed.
_FREE = (
    "num_epochs",
    "log_every_steps",
    "chunks_per_call",
    "eval_every_epochs",
    "remat",
    "split_from",
    "max_damaged_share",
    "frame_cache",
    "max_length_gap",
)


def load_config(
    given: ml_collections.ConfigDict | None,
    stored: dict[str, Any],
    written: Origin | None = None,
) -> ml_collections.ConfigDict:
    """Returns the config to evaluate a run with: the given one, or the run's own.

    In the run's own, fields that it does not store have their defaults.

    Args:
        given: the command line's config, if any.
        stored: the run's config.
        written: the program that wrote the run, for the message.

    Raises:
        InputError: if the given config describes another model, or the stored one has
            fields or values that this version does not know.
    """
    ours = default_config()
    origin = f" {compared(written, FORMAT)}" if written else ""
    if unknown := _unknown_fields(stored, ours):
        raise InputError(
            f"the run was trained by another version of the program, with {unknown[0]},"
            f" which this version does not know.{origin} Use that version, or train "
            "again in another --workdir."
        )
    try:
        ours.update(_as_tuples(stored))
    except (AttributeError, TypeError) as error:
        raise InputError(
            "the run was trained by another version of the program, with a value that "
            f"this version does not know: {error}.{origin} Use that version, or train "
            "again in another --workdir."
        ) from error
    if given is None:
        ours.data.frame_cache = ""  # each video is read only once
        return ours
    theirs = "the run's checkpoint has"
    _check_same(given.model, ours.model, "model", theirs)
    # Data, frame size and stride may differ, but pixels must be normalised alike.
    pixels = {name: given.data[name] for name in ("mean", "std")}
    _check_same(pixels, ours.data, "data", theirs)
    return given


def _unknown_fields(
    stored: dict[str, Any], ours: ml_collections.ConfigDict, where: str = "config"
) -> list[str]:
    found = []
    for name, value in stored.items():
        if name not in ours:
            found.append(f"{where}.{name}")
        elif isinstance(value, dict) and isinstance(
            ours[name], ml_collections.ConfigDict
        ):
            found += _unknown_fields(value, ours[name], f"{where}.{name}")
    return found


def _as_tuples(value: Any) -> Any:
    """Converts the lists of JSON to tuples, which configs have instead."""
    if isinstance(value, dict):
        return {name: _as_tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def check_resumable(
    config: ml_collections.ConfigDict,
    stored: dict[str, Any],
    written: Origin | None = None,
) -> None:
    """Checks that a resumed run's data, model and train settings are those that it
    began with, except for the `_FREE` fields; with a cosine schedule, the number of
    epochs is not free.

    Raises:
        InputError: names the first field that differs.
    """
    before = load_config(None, stored, written)
    began = "the run began with"
    free = _FREE
    if config.train.schedule == "cosine":  # its rates depend on the last epoch
        free = tuple(name for name in _FREE if name != "num_epochs")
    for section in ("data", "model", "train"):
        _check_same(config[section], before[section], section, began, free)


def _check_same(ours, theirs, where, who, free: tuple[str, ...] = ()) -> None:
    for name in ours:
        if ours[name] != theirs[name] and name not in free:
            raise InputError(
                f"config.{where}.{name}={ours[name]!r}, but {who} {theirs[name]!r}; "
                f"use --config.{where}.{name}={theirs[name]}, or another --workdir."
            )
