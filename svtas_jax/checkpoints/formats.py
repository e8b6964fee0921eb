"""Which program wrote a checkpoint, and whether this one knows its layout."""

import contextlib
import json
import pathlib

from svtas_jax.errors import InputError
from svtas_jax.runtime.origin import Origin, compared, origin_of

FORMAT = 1  # of a checkpoint: raise it when an older program could not read it


def written_by(folder: pathlib.Path) -> Origin:
    """Returns who wrote the checkpoint in a folder; if that cannot be read, an unknown
    version."""
    facts = {}
    with contextlib.suppress(OSError, ValueError):
        # Not by Orbax: what it can read may depend on the format.
        facts = json.loads((folder / "meta" / "metadata").read_text(encoding="utf-8"))
    return origin_of(facts if isinstance(facts, dict) else {})


def check_format(folder: pathlib.Path) -> None:
    """Checks that this program knows how the checkpoint in a folder is laid out.

    Raises:
        InputError: if a later version wrote it in another layout.
    """
    if written_by(folder).format > FORMAT:
        raise InputError(
            f"the checkpoint {folder} was written by a later version of the program. "
            f"{said_of(folder)} Use that version, or train again in another --workdir."
        )


def said_of(folder: pathlib.Path) -> str:
    """Returns a sentence on who wrote the checkpoint in a folder and who reads it."""
    return compared(written_by(folder), FORMAT)
