"""Checks the names in `config.eval.background` against the data's classes."""

import difflib
import functools
from collections.abc import Sequence

import ml_collections
from absl import logging

from svtas_jax.config import default_config
from svtas_jax.errors import InputError


def check_background(
    config: ml_collections.ConfigDict, class_names: Sequence[str]
) -> None:
    """Checks that the background classes exist.

    Of the default names one is enough, because data sets name their background
    differently. If none exists, a warning (once) says what the metrics then count.

    Raises:
        InputError: if a name that is not the default's does not exist.
    """
    names = tuple(config.eval.background)
    unknown = [name for name in names if name not in class_names]
    if names != default_config().eval.background:
        if unknown:
            raise InputError(_message(unknown[0], names, tuple(class_names)))
    elif len(unknown) == len(names):
        _warn(names, tuple(class_names))


def _message(name: str, names: tuple[str, ...], classes: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(name), classes, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"config.eval.background={names}: no class is called {name!r}; {hint}The "
        f"classes are {', '.join(classes)}. Set --config.eval.background=NAME for one "
        "of them, \"('NAME', 'OTHER')\" for several, \"()\" for none."
    )


@functools.cache
def _warn(names: tuple[str, ...], classes: tuple[str, ...]) -> None:
    logging.warning(
        "config.eval.background=%s: none of these is a class (%s), so Edit, F1, AR and "
        "mAP count the segments of every class as actions. Name the background if "
        'there is one; if there is none, set --config.eval.background="()".',
        names,
        ", ".join(classes),
    )
