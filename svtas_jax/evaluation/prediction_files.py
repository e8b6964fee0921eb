"""Finds and reads predictions that any program wrote, one file a video.

FOLDER/NAME.txt       one class name a line, one line a frame, as `evaluate` writes them
FOLDER/NAME           the same, or as MS-TCN's code writes results: a first line that
                      begins with ### and a second one with all class names
FOLDER/NAME-pred.txt  as SVTAS's code writes them
FOLDER/NAME.npy       (num_frames,) class indices, or (num_frames, K) or (K, num_frames)
                      scores, the higher the likelier
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from data_pipeline import annotations
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime.arrays import read_npy

_ENDINGS = (".txt", "", "-pred.txt", ".npy")
_SHOWN = 5  # names in a message
_MANNER = "### Frame level recognition: ###"


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a file predicts.

    Attributes:
        labels: (num_frames,) int32 class indices.
        scores: (num_frames, K) float32, None if the file has labels only.
    """

    labels: np.ndarray
    scores: np.ndarray | None = None


def find(
    folder: pathlib.Path, names: Sequence[str], *, advice: Callable[[], str]
) -> dict[str, pathlib.Path]:
    """Returns the file of each video, in the order of `names`.

    `advice` is asked for the end of the message if files are missing.

    Raises:
        MissingInputError: if the folder or a video's file is missing.
        InputError: if a video has several files.
    """
    if not folder.is_dir():
        raise MissingInputError(
            f"--predictions={folder} is not a folder; give the one that holds one file "
            "a video, such as runs/x/evaluation/predictions."
        )
    there = {path.name for path in folder.iterdir() if path.is_file()}
    files, missing = {}, []
    for name in names:
        found = [f"{name}{end}" for end in _ENDINGS if f"{name}{end}" in there]
        if len(found) > 1:
            raise InputError(
                f"{folder} has {' and '.join(found)} for the same video; keep one."
            )
        if found:
            files[name] = folder / found[0]
        else:
            missing.append(name)
    if missing:
        message = _missing(folder, missing, len(names))
        raise MissingInputError(f"{message} {advice()}".rstrip())
    return files


def videos_in(folder: pathlib.Path) -> set[str]:
    """Returns the names of the videos of which a folder has files.

    Pictures and other files, and the true labels that SVTAS's code writes, NAME-gt.txt,
    are no predictions.
    """
    files = (path for path in folder.iterdir() if path.is_file())
    return {
        path.name.removesuffix(path.suffix).removesuffix("-pred")
        for path in files
        if path.suffix in ("", ".txt", ".npy")
        and not path.name.startswith(".")
        and not path.name.endswith("-gt.txt")
    }


def listing(names: Sequence[str]) -> str:
    """Returns the first names of a list, and how many there are more."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def read(path: pathlib.Path, classes: tuple[str, ...]) -> Prediction:
    """Reads a file of predictions.

    Raises:
        InputError: if it is empty, damaged or names an unknown class.
    """
    if path.suffix == ".npy":
        return _read_array(path, classes)
    first = _first_line(path)
    if first.startswith("###"):
        return Prediction(_read_results(path, classes))
    if first not in classes:
        _check_manner(path, first, classes)
    return Prediction(annotations.read_labels(path, classes))


def _missing(folder: pathlib.Path, missing: Sequence[str], total: int) -> str:
    example = " or ".join(f"{missing[0]}{end}" for end in _ENDINGS)
    begin = (
        f"{folder} has no predictions for {len(missing)} of the {total} test videos: "
        f"{listing(missing)}. "
    )
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(missing) == total and folders:
        inner = ["predictions"] if "predictions" in folders else folders
        return f"{begin}Did you mean one of its folders: {listing(inner)}?"
    return f"{begin}Each needs one file: {example}."


def _first_line(path: pathlib.Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip()


def _check_manner(path: pathlib.Path, first: str, classes: tuple[str, ...]) -> None:
    """Raises InputError if the first line shows another kind of file."""
    if first.isdecimal():
        raise InputError(
            f"{path}, line 1: {first!r} is a number; write the names of classes, or "
            "save their indices as an array, NAME.npy."
        )
    words = first.split()
    if len(words) > 1 and set(words) <= set(classes):
        raise InputError(
            f"{path}, line 1 names {len(words)} classes. Write one a line, or, as "
            f"MS-TCN's code does, {_MANNER!r} in a line before them."
        )


def _read_results(path: pathlib.Path, classes: tuple[str, ...]) -> np.ndarray:
    """Reads labels as MS-TCN's code writes them."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from error
    words = lines[1].split() if len(lines) == 2 else []
    if not words:
        raise InputError(
            f"{path} has {len(lines)} lines; after {lines[0]!r} there must be one with "
            "the class names of all frames, with blanks between them."
        )
    index_of = {name: index for index, name in enumerate(classes)}
    for number, word in enumerate(words, 1):
        if word not in index_of:
            blanks = [name for name in classes if " " in name]
            hint = (
                f"This kind of file cannot hold names with blanks, such as "
                f"{blanks[0]!r}: write one name a line."
                if blanks
                else f"The classes are {', '.join(classes)}."
            )
            raise InputError(
                f"{path}, line 2: word {number}, {word!r}, is not in mapping.txt. "
                f"{hint}"
            )
    return np.array([index_of[word] for word in words], np.int32)


def _read_array(path: pathlib.Path, classes: tuple[str, ...]) -> Prediction:
    try:
        array = read_npy(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or not a NumPy array: {error}") from error
    count = len(classes)
    if array.ndim == 1 and array.size and np.issubdtype(array.dtype, np.integer):
        if array.min() < 0 or array.max() >= count:
            raise InputError(
                f"{path} has class indices {array.min()} to {array.max()}; mapping.txt "
                f"has the classes 0 to {count - 1}."
            )
        return Prediction(array.astype(np.int32))
    if array.ndim == 2 and array.size and np.issubdtype(array.dtype, np.floating):
        if array.shape[1] != count and array.shape[0] == count:
            array = array.T
        if array.shape[1] == count:
            return _from_scores(path, array)
    raise InputError(
        f"{path} has shape {array.shape} and numbers of kind {array.dtype}; it must "
        f"hold (frames,) integers or (frames, {count}) floating-point scores."
    )


def _from_scores(path: pathlib.Path, scores: np.ndarray) -> Prediction:
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise InputError(
            f"{path}, frame {bad[0]}: a score is NaN or infinite, as in {len(bad)} of "
            f"{len(scores)} frames; save finite scores."
        )
    labels = scores.argmax(axis=1).astype(np.int32)
    return Prediction(labels, np.asarray(scores, np.float32))
