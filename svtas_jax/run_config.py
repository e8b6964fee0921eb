"""What the config that a run was made with demands of the one it is used with."""

from typing import Any

import ml_collections

from svtas_jax.checkpoints.formats import FORMAT
from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.runtime.origin import Origin, compared

# May change when a run is resumed.
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

    Fields that were added since the run was made have their default.

    Args:
        given: on the command line.
        stored: with the run.
        written: by whom, for the message.

    Raises:
        InputError: if the given config describes another model, or the stored one has
            fields that this version does not know.
    """
    ours = default_config()
    told = f" {compared(written, FORMAT)}" if written else ""
    if unknown := _unknown_fields(stored, ours):
        raise InputError(
            f"the run was made by another version of the program, with {unknown[0]}, "
            f"which this one does not know.{told} Use that version, or train again in "
            "another --workdir."
        )
    try:
        ours.update(_as_tuples(stored))
    except (AttributeError, TypeError) as error:
        raise InputError(
            "the run was made by another version of the program, with a value that "
            f"this one does not know: {error}.{told} Use that version, or train again "
            "in another --workdir."
        ) from error
    if given is None:
        ours.data.frame_cache = ""  # a video that is read once needs none
        return ours
    theirs = "the run's checkpoint has"
    _check_same(given.model, ours.model, "model", theirs)
    # The data may be others, at another size and rate, but pixels mean the same.
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
    """JSON knows no tuples; a config has no lists."""
    if isinstance(value, dict):
        return {name: _as_tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def check_resumable(
    config: ml_collections.ConfigDict,
    stored: dict[str, Any],
    written: Origin | None = None,
) -> None:
    """Checks that a run goes on as it began; only its length, what is logged and how it
    is evaluated may change.

    Raises:
        InputError: naming a field that differs.
    """
    before = load_config(None, stored, written)
    began = "the run began with"
    for section in ("data", "model", "train"):
        _check_same(config[section], before[section], section, began, _FREE)


def _check_same(ours, theirs, where, who, free: tuple[str, ...] = ()) -> None:
    for name in ours:
        if ours[name] != theirs[name] and name not in free:
            raise InputError(
                f"config.{where}.{name}={ours[name]!r}, but {who} {theirs[name]!r}; "
                f"use --config.{where}.{name}={theirs[name]}, or another --workdir."
            )
