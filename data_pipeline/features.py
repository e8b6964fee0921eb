"""Reads feature files: one array per video, of `svtas_jax.extract` or other programs.

ROOT/features/NAME.npy     (T, D) or (D, T), float16 or float32
ROOT/features/NAME.json    stride and frame rate, if `extract` wrote it
"""

import json
import pathlib

import numpy as np

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime.arrays import read_npy
from svtas_jax.structs import FeatureFile

MOST_FRAMES_APART = 128  # by which labels may differ from an extracted video
LAST_WINDOW = 16  # labelled frames that may lack a row
MOST_FRAMES_A_ROW = 64  # a larger stride is an error


def probe(path: pathlib.Path, num_labels: int) -> FeatureFile:
    """Determines the time axis and the stride of a feature file.

    Files of `extract` state the stride. In any other, time is the axis whose length
    divides the labels into a whole number of frames per row, give or take one row.

    Raises:
        MissingInputError: if there is no such file.
        InputError: if it is not a feature file, or not just one axis fits the labels.
    """
    shape = _open(path).shape
    if len(shape) != 2 or not all(shape):
        raise InputError(
            f"{path} has shape {shape}; features are (T, D) or (D, T): one vector per "
            "frame, or per few frames."
        )
    facts = _read_sidecar(path)
    if facts is not None:
        stride = int(facts["stride"])
        if abs(shape[0] * stride - num_labels) > max(2 * stride, MOST_FRAMES_APART):
            raise InputError(
                f"{path} has {shape[0]} rows, one per {stride} frames, but the video "
                f"has {num_labels} labels; extract the features again, or correct the "
                "labels."
            )
        fps = float(facts.get("fps", 0.0))
        return FeatureFile(*shape, time_axis=0, stride=stride, fps=fps)
    strides = [_frames_a_row(length, num_labels) for length in shape]
    fitting = [axis for axis, stride in enumerate(strides) if stride]
    if len(fitting) == 2:
        raise InputError(
            f"{path} has shape {shape} and the video {num_labels} labels: either axis "
            "could be time. Store it with another number of rows, or store it as "
            f"(T, D) and write {path.with_suffix('.json').name} beside it with "
            '{"stride": FRAMES}.'
        )
    if not fitting:
        raise InputError(
            f"{path} has shape {shape}, but the video has {num_labels} labels: neither "
            "axis has one row per frame, or per whole number of frames up to "
            f"{MOST_FRAMES_A_ROW}. Extract the features again, or correct the labels."
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
        array = read_npy(path, mapped=True)
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{path} is missing. Write it with python -m svtas_jax.extract, or set "
            "config.data.features to the folder that holds NAME.npy of every video."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not an .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise InputError(f"{path} does not hold one array of floating-point numbers.")
    return array


def _read_sidecar(path: pathlib.Path) -> dict | None:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        return None
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        if int(facts["stride"]) >= 1:
            return facts
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(
        f'{sidecar} does not state {{"stride": FRAMES}}, a whole number of frames '
        "between two rows; correct it, or remove it."
    )


class FeatureReader:
    """Returns the features of frames; the file stays on disk."""

    def __init__(self, path: str, file: FeatureFile) -> None:
        self.path = path
        self._file = file
        array = _open(pathlib.Path(path))
        self._rows = array if file.time_axis == 0 else array.T

    def frame(self, index: int) -> np.ndarray:
        """Returns the (D,) float32 features of a raw frame; past the end, the last row.

        Raises:
            InputError: if it is not finite.
        """
        number = min(index // self._file.stride, self._file.num_rows - 1)
        row = np.asarray(self._rows[number], np.float32)
        if not np.isfinite(row).all():
            raise InputError(
                f"{self.path}, row {number}: the features are not finite; extract them "
                "again, or take the video out of the split."
            )
        return row

    def close(self) -> None:
        """Closes the file."""
        del self._rows


def check_finite(path: str) -> None:
    """Checks a whole file.

    Raises:
        InputError: naming the first value that is not finite.
    """
    bad = np.argwhere(~np.isfinite(_open(pathlib.Path(path))))
    if len(bad):
        raise InputError(
            f"{path} holds {len(bad)} values that are not finite, the first at "
            f"{tuple(bad[0].tolist())}; extract the features again, or take the video "
            "out of the split."
        )
