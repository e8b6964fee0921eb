"""Writes files atomically: a file is complete or does not exist."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator

from svtas_jax.errors import InputError


def write_atomic(
    path: str | os.PathLike, content: str | bytes, *, option: str = "--workdir"
) -> pathlib.Path:
    """Writes a file through a temporary one, so that no reader sees half of it.

    Creates missing folders. Text is encoded as UTF-8. `option` is the flag that sets
    the folder, for the message.

    Raises:
        InputError: if the path cannot be written to.
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    with writing(path, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    return path


def write_durable(
    path: str | os.PathLike, content: str | bytes, *, option: str = "--workdir"
) -> pathlib.Path:
    """Writes a file as `write_atomic`, and returns only when the disk has it.

    `option` is the flag that sets the folder, for the message.

    Raises:
        InputError: if the path cannot be written to.
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    with writing(path, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data, is_durable=True)
        sync_folder(path.parent)
    return path


def sync_folder(path: pathlib.Path) -> None:
    """Makes the names in a folder outlast a loss of power, where systems can."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: str | os.PathLike, *, option: str = "--workdir") -> pathlib.Path:
    """Creates a folder and, to test it early, a temporary file in it.

    `option` is the flag that sets the folder, for the message.

    Raises:
        InputError: if the folder cannot be written to.
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
    """Converts an OSError into an InputError that says what cannot be written.

    Raises:
        InputError: instead of an OSError.
    """
    try:
        yield
    except InputError:  # `MissingInputError` is also an OSError
        raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}; choose another "
            f"{option}, or free some space and check the permissions of this one."
        ) from error


def draft_of(path: pathlib.Path) -> pathlib.Path:
    """Returns a hidden path beside `path` that no other process on any host uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _replace(path: pathlib.Path, data: bytes, *, is_durable: bool = False) -> None:
    temporary = draft_of(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
