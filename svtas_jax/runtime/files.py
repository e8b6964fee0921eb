"""Files that are either whole or not there."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator

from svtas_jax.errors import InputError


def write_atomic(path: str | os.PathLike, content: str | bytes) -> pathlib.Path:
    """Writes a file through a temporary neighbour, so that no reader sees half of it.

    Folders on the way are made. Text is encoded as UTF-8.

    Raises:
        InputError: if the place cannot be written to.
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    return path


def make_folder(path: str | os.PathLike, *, option: str = "--workdir") -> pathlib.Path:
    """Makes a folder, and a file in it for a moment: better now than after an hour.

    `option` is what the user names another one by.

    Raises:
        InputError: if it cannot be written to.
    """
    path = pathlib.Path(path)
    probe = draft_of(path / "writable")
    with writing(path, option=option):
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    return path


@contextlib.contextmanager
def writing(path: pathlib.Path, *, option: str = "--workdir") -> Iterator[None]:
    """Turns what the system says about a place that cannot be written into ours.

    Raises:
        InputError: instead of an OSError.
    """
    try:
        yield
    except InputError:  # a missing input is an OSError, too
        raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}; choose another "
            f"{option}, or make room and check the rights of this one."
        ) from error


def draft_of(path: pathlib.Path) -> pathlib.Path:
    """Returns a hidden name beside `path` that no other process uses, on any host."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _replace(path: pathlib.Path, data: bytes) -> None:
    temporary = draft_of(path)
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
