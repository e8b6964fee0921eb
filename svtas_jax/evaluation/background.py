"""The names of `config.eval.background` against the classes that there are."""

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
    """Checks that every background class exists; before anything is measured.

    Of the default's names one is enough: data sets call their background differently.
    If none exists, a warning says once what the metrics count then.

    Raises:
        InputError: if the config names a class of its own that does not exist.
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
        f"classes are {', '.join(classes)}. Name one of them by "
        "--config.eval.background=NAME, several by \"('NAME', 'OTHER')\", none by "
        '"()".'
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
