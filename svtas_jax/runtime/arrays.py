"""Reads NumPy's files, one header at a time.

NumPy parses a header with `ast.literal_eval`. Before Python 3.11.8 two threads that
parse at once share a counter, and now and then one of them fails with "SystemError: AST
constructor recursion depth mismatch" (https://github.com/python/cpython/issues/106905).
So everything that may run in threads reads its files here.
"""

import os
import threading
import zipfile
import zlib

import numpy as np

_ONE_AT_A_TIME = threading.Lock()


def read_npy(path: str | os.PathLike, *, mapped: bool = False) -> np.ndarray:
    """Returns the array of an .npy file.

    Args:
        path: of the file.
        mapped: leave the values on the disk until they are used.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is damaged, holds Python objects or is no .npy file.
    """
    with _ONE_AT_A_TIME:
        if mapped:
            return np.lib.format.open_memmap(path, mode="r")
        with open(path, "rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns all the arrays of an .npz file by name.

    Raises:
        OSError, ValueError: as `read_npy`.
    """
    with _ONE_AT_A_TIME, open(path, "rb") as stream:
        try:
            with np.lib.npyio.NpzFile(stream, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"damaged, or no .npz file: {error}") from error
