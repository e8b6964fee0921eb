"""Reports which program wrote a checkpoint, and checks that this one can read it."""

import contextlib
import json
import pathlib

from svtas_jax.errors import InputError
from svtas_jax.runtime.origin import Origin, compared, origin_of

FORMAT = 1  # of a checkpoint; increase it when older programs cannot read a new one


def written_by(folder: pathlib.Path) -> Origin:
    """Returns the origin of the checkpoint in a folder; an unknown version if that
    cannot be read."""
    facts = {}
    with contextlib.suppress(OSError, ValueError):
        # Without Orbax: what it can read may depend on the format.
        facts = json.loads((folder / "meta" / "metadata").read_text(encoding="utf-8"))
    return origin_of(facts if isinstance(facts, dict) else {})


def check_format(folder: pathlib.Path) -> None:
    """Checks that this program knows the format of the checkpoint in a folder.

    Raises:
        InputError: if a later version wrote it in a newer format.
    """
    if written_by(folder).format > FORMAT:
        raise InputError(
            f"the checkpoint {folder} was written by a later version of the program. "
            f"{said_of(folder)} Use that version, or train again in another --workdir."
        )


def said_of(folder: pathlib.Path) -> str:
    """Returns a sentence that compares the version that wrote a checkpoint with this
    one."""
    return compared(written_by(folder), FORMAT)
