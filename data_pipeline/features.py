"""Feature files: one array a video, as `svtas_jax.extract` or other programs write it.

ROOT/features/NAME.npy     (T, D) or (D, T), float16 or float32
ROOT/features/NAME.json    what `extract` says about it, if it comes from there
"""

import json
import pathlib

import numpy as np

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.structs import FeatureFile

MOST_FRAMES_APART = 128  # by which labels and the video of an extraction may differ
LAST_WINDOW = 16  # frames of labels that may lack a row
MOST_FRAMES_A_ROW = 64  # rows further apart than that are an error, not a rate


def probe(path: pathlib.Path, num_labels: int) -> FeatureFile:
    """Finds out how a feature file lies: which axis is time, how far apart its rows.

    A file of `extract` says so itself. Of any other, the axis is time whose length
    makes the labels a whole number of frames a row, give or take one row.

    Raises:
        MissingInputError: if there is no such file.
        InputError: if it is none, or neither axis fits the labels, or both do.
    """
    shape = _open(path).shape
    if len(shape) != 2 or not all(shape):
        raise InputError(
            f"{path} has shape {shape}; features are (T, D) or (D, T): one vector for "
            "every frame, or for every few."
        )
    told = _read_sidecar(path)
    if told is not None:
        stride = int(told["stride"])
        if abs(shape[0] * stride - num_labels) > max(2 * stride, MOST_FRAMES_APART):
            raise InputError(
                f"{path} has {shape[0]} rows, one for {stride} frames, but the video "
                f"{num_labels} labels; extract the features anew, or correct them."
            )
        fps = float(told.get("fps", 0.0))
        return FeatureFile(*shape, time_axis=0, stride=stride, fps=fps)
    strides = [_frames_a_row(length, num_labels) for length in shape]
    fitting = [axis for axis, stride in enumerate(strides) if stride]
    if len(fitting) == 2:
        raise InputError(
            f"{path} has shape {shape} and the video {num_labels} labels: either axis "
            "could be time. Store it with another number of rows, or write "
            f'{path.with_suffix(".json").name} beside it with {{"stride": FRAMES}}, '
            "and the array as (T, D)."
        )
    if not fitting:
        raise InputError(
            f"{path} has shape {shape}, but the video has {num_labels} labels: neither "
            "axis is one row a frame, or one for every whole number of frames up to "
            f"{MOST_FRAMES_A_ROW}. Extract the features anew, or correct the labels."
        )
    axis = fitting[0]
    return FeatureFile(shape[axis], shape[1 - axis], axis, strides[axis])


def _frames_a_row(num_rows: int, num_labels: int) -> int:
    """Returns the whole number of frames between two rows, 0 if there is none."""
    stride = max(1, round(num_labels / num_rows))
    # The last window of frames is often dropped, and so is what does not fill a row.
    slack = max(2 * stride, LAST_WINDOW) if num_rows > 16 else 1
    fits = abs(num_rows * stride - num_labels) <= slack
    return stride if fits and stride <= MOST_FRAMES_A_ROW else 0


def _open(path: pathlib.Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{path} is missing. Write it with python -m svtas_jax.extract, or set "
            "config.data.features to the folder that holds NAME.npy of every video."
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not an .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise InputError(f"{path} does not hold one array of floating-point numbers.")
    return array


def _read_sidecar(path: pathlib.Path) -> dict | None:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        return None
    try:
        told = json.loads(sidecar.read_text(encoding="utf-8"))
        if int(told["stride"]) >= 1:
            return told
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(
        f'{sidecar} does not say {{"stride": FRAMES}}, a whole number of frames '
        "between two rows; correct it, or remove it."
    )


class FeatureReader:
    """Gives the features of frames; the file stays on disk."""

    def __init__(self, path: str, file: FeatureFile) -> None:
        self.path = path
        self._file = file
        array = _open(pathlib.Path(path))
        self._rows = array if file.time_axis == 0 else array.T

    def frame(self, index: int) -> np.ndarray:
        """Returns (D,) float32 of a raw frame; past the last row, the last row.

        Raises:
            InputError: if it is not finite.
        """
        place = min(index // self._file.stride, self._file.num_rows - 1)
        row = np.asarray(self._rows[place], np.float32)
        if not np.isfinite(row).all():
            raise InputError(
                f"{self.path}, row {place}: the features are not finite; extract them "
                "anew, or take the video out of the split."
            )
        return row

    def close(self) -> None:
        """Lets go of the file."""
        del self._rows


def check_finite(path: str) -> None:
    """Reads a whole file.

    Raises:
        InputError: naming the first row that is not finite.
    """
    bad = np.argwhere(~np.isfinite(_open(pathlib.Path(path))))
    if len(bad):
        raise InputError(
            f"{path} holds {len(bad)} values that are not finite, the first at "
            f"{tuple(bad[0].tolist())}; extract the features anew, or take the video "
            "out of the split."
        )
