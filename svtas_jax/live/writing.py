"""Writes the predictions of live sources in the common layout, as they come."""

import pathlib
import re
import urllib.parse
from collections.abc import Iterator, Sequence

from data_pipeline.sources import kind_of
from svtas_jax.errors import InputError
from svtas_jax.live.results import StepResult
from svtas_jax.runtime.files import draft_of, writing

OPTION = "--output"


class PredictionWriter:
    """Writes a line for every raw frame of one source: the name of its class.

    A step's label stands for its frames up to the next step, and the first label also
    for frames before it. Lines go to a hidden file beside the path; `close` gives it
    its name. Missing folders are created. After an error the hidden file is gone.

    Args:
        path: of the file; an older one is replaced by `close`.

    Raises:
        InputError: if it cannot be written, here and from `add` and `close`.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._draft = draft_of(path)
        self._num_frames, self._label = 0, ""
        with writing(path, option=OPTION):
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._draft.open("w", encoding="utf-8", newline="\n")

    def add(self, step: StepResult) -> None:
        """Writes the frames before the source's next step.

        Raises:
            ValueError: if the step is not after the one before.
        """
        if self._label:
            self._write_to(step.frame)
        self._label = step.label

    def close(self, num_frames: int) -> pathlib.Path:
        """Writes the last step's frames and completes the file; returns its path.

        Args:
            num_frames: that the source had; without any step the file is empty.
        """
        if self._label:
            self._write_to(num_frames)
        try:
            with writing(self.path, option=OPTION):
                self._file.close()
                self._draft.replace(self.path)
        finally:
            self.discard()
        return self.path

    def discard(self) -> None:
        """Removes what is not complete; does nothing after `close`."""
        try:
            self._file.close()
        except OSError:  # reported by the call that wrote
            pass
        self._draft.unlink(missing_ok=True)

    def __enter__(self) -> "PredictionWriter":
        """Returns the writer."""
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the file unless `close` completed it."""
        self.discard()

    def _write_to(self, end: int) -> None:
        count = end - self._num_frames
        if count < 0:
            self.discard()
            raise ValueError(
                f"{self.path}: frame {end} comes after {self._num_frames} frames; add "
                "the steps of one source in their order."
            )
        try:
            with writing(self.path, option=OPTION):
                self._file.write(f"{self._label}\n" * count)
        except InputError:
            self.discard()
            raise
        self._num_frames = end


def paths_for(
    output: str,
    sources: Sequence[str],
    *,
    endings: Sequence[str] = (".txt",),
    option: str = OPTION,
) -> tuple[pathlib.Path, ...]:
    """Returns the file that is written about each source.

    Args:
        output: a file for one source if it has one of the endings, else a folder, in
            which the files are NAME.txt (the first ending), named after the sources;
            names that occur twice, also in other case, get a number.
        sources: as the user names them.
        endings: of such files.
        option: that the user gave, for messages.

    Raises:
        InputError: if `output` is a file and there are several sources, or if a file is
            a source itself.
    """
    path = pathlib.Path(output)
    if path.suffix.lower() not in endings or path.is_dir():
        names = _unique(map(_name_of, sources))
        paths = tuple(path / f"{name}{endings[0]}" for name in names)
    elif len(sources) > 1:
        raise InputError(
            f"{option}={output} is one file, and there are {len(sources)} sources; "
            f"name a folder, such as {option}={path.with_suffix('')}, for a file each."
        )
    else:
        paths = (path,)
    for path in paths:
        _check_is_no_source(path, sources, option)
    return paths


def _check_is_no_source(
    path: pathlib.Path, sources: Sequence[str], option: str
) -> None:
    for source in sources:
        is_file = path.exists() and kind_of(source) == "file"
        if is_file and pathlib.Path(source).exists() and path.samefile(source):
            raise InputError(
                f"{option} would write over the source {source}; name another place."
            )


def _unique(names: Iterator[str]) -> Iterator[str]:
    taken: set[str] = set()
    for name in names:
        number, chosen = 1, name
        while chosen.casefold() in taken:
            number += 1
            chosen = f"{name}_{number}"
        taken.add(chosen.casefold())
        yield chosen


def _name_of(source: str) -> str:
    """Returns a file name without suffix; it holds no password of an address."""
    kind = kind_of(source)
    if kind == "stdin":
        return "stdin"
    if source.isdecimal():
        return f"camera{source}"
    if kind != "address":
        return pathlib.Path(source).stem or kind
    address = urllib.parse.urlsplit(source)
    name = pathlib.PurePosixPath(urllib.parse.unquote(address.path)).stem
    host = address.netloc.rpartition("@")[2]
    return re.sub(r"[^\w.-]+", "_", name or host, flags=re.ASCII).strip("._") or kind
