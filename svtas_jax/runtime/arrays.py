"""Reads NumPy's files, one header at a time.

NumPy parses a header with `ast.literal_eval`. Before Python 3.11.8 two threads that
parse at once share a counter, and now and then one of them fails with "SystemError: AST
constructor recursion depth mismatch" (https://github.com/python/cpython/issues/106905).
So everything that may run in threads reads its files here.
"""

import os
import threading
from typing import Any

import numpy as np

_ONE_AT_A_TIME = threading.Lock()


def read_npy(path: str | os.PathLike, *, mapped: bool = False) -> Any:
    """Returns what `numpy.load` does, without pickles.

    Args:
        path: of the file.
        mapped: leave the values on the disk until they are used.

    Raises:
        OSError, ValueError, EOFError: as `numpy.load`.
    """
    with _ONE_AT_A_TIME:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns all the arrays of an .npz file by name.

    Raises:
        OSError, ValueError, EOFError: as `numpy.load`.
    """
    with _ONE_AT_A_TIME, np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
