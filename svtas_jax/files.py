"""Files that are either whole or not there."""

import os
import pathlib
import tempfile

from svtas_jax.errors import InputError


def write_atomic(path: str | os.PathLike, content: str | bytes) -> pathlib.Path:
    """Writes a file through a temporary neighbour, so that no reader sees half of it.

    Folders on the way are made. Text is encoded as UTF-8.

    Raises:
        InputError: if the place cannot be written to.
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}; choose another "
            "--workdir, or make room and check the rights of this one."
        ) from error
    return path


def _replace(path: pathlib.Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would hide it
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
