"""Writes a data set in the common layout: all of it, or nothing."""

import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from absl import logging

from data_pipeline.annotations import read_split_names
from svtas_jax.errors import InputError
from svtas_jax.runtime.files import draft_of, write_atomic, writing

REPORT = "preparation.md"
CONFIG, PROPOSAL = "config.py", "config_proposed.py"
_OPTION = "--output"


def is_in_place(output: pathlib.Path, videos: pathlib.Path) -> bool:
    """Whether the videos are those of the output folder already."""
    own = output / "Videos"
    return own.is_dir() and videos.is_dir() and own.samefile(videos)


def check_output(
    output: pathlib.Path,
    inputs: Sequence[pathlib.Path],
    *,
    in_place: bool,
    overwrite: bool,
) -> None:
    """Checks before any work that the output may be written.

    Raises:
        InputError: if it exists and may not be replaced.
    """
    if in_place or not os.path.lexists(output):
        return
    if not output.is_dir():
        raise InputError(f"--output={output} is a file; choose a new folder.")
    if not any(output.iterdir()):
        return
    if not overwrite:
        raise InputError(
            f"--output={output} exists and is not empty; choose a new folder, or "
            "replace it with --overwrite."
        )
    if not (output / REPORT).is_file():
        raise InputError(
            f"--output={output} was not made by this command (it holds no {REPORT}), "
            "so --overwrite does not delete it; choose a new folder."
        )
    for path in inputs:
        if path.resolve().is_relative_to(output.resolve()):
            raise InputError(
                f"{path} lies in --output={output}, which --overwrite would delete; "
                "choose another folder."
            )


def tested_before(output: pathlib.Path) -> list[tuple[str, ...]]:
    """Returns the test videos of every split in a folder, by the split's number."""
    tested = []
    while (path := output / f"splits/test.split{len(tested) + 1}.bundle").is_file():
        tested.append(read_split_names(path))
    return tested


def keep_own_config(output: pathlib.Path, files: dict[str, str]) -> None:
    """Keeps a config that a person has changed, in place; the proposal goes beside it.

    The report says in a comment which config was written with it.
    """
    config, proposed = _read(output / CONFIG), files[CONFIG]
    files[REPORT] += f"\n<!-- {CONFIG} sha256 {_digest(proposed)} -->\n"
    if config is None or _digest(config) in (_read(output / REPORT) or ""):
        return
    if config != proposed:
        files[CONFIG], files[PROPOSAL] = config, proposed
        logging.warning(
            "%s was changed by hand and is kept; what is proposed now is in %s.",
            *(output / CONFIG, output / PROPOSAL),
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_new(
    output: pathlib.Path,
    files: Mapping[str, str],
    videos: Mapping[str, pathlib.Path],
    *,
    link: bool,
) -> None:
    """Writes a folder beside the output and puts it in its place at the end.

    Args:
        output: folder, which is replaced if it exists.
        files: text by path in the folder.
        videos: files to copy, by path in the folder.
        link: makes symbolic links instead of copies.

    Raises:
        InputError: if it cannot be written; then the output is as it was.
    """
    draft = draft_of(output)
    try:
        with writing(output, option=_OPTION):
            for name, text in files.items():
                write_atomic(draft / name, text, option=_OPTION)
            _put_videos(draft, videos, link=link)
            put_in_place(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_beside(
    output: pathlib.Path, files: Mapping[str, str], *, overwrite: bool
) -> None:
    """Writes files into a folder that holds the videos already.

    Raises:
        InputError: if a file with another text is there and may not be replaced; then
            nothing is written.
    """
    changed = {n: t for n, t in files.items() if _read(output / n) != t}
    own = (REPORT, PROPOSAL)  # written by nobody else
    existing = [n for n in changed if (output / n).exists() and n not in own]
    if existing and not overwrite:
        raise InputError(
            f"{output / existing[0]} exists with another content"
            + (f", and so do {len(existing) - 1} more" if existing[1:] else "")
            + "; replace them with --overwrite, or choose another --output."
        )
    with writing(output, option=_OPTION):
        for name, text in changed.items():
            write_atomic(output / name, text, option=_OPTION)


def _put_videos(
    draft: pathlib.Path, videos: Mapping[str, pathlib.Path], *, link: bool
) -> None:
    for count, (name, source) in enumerate(videos.items(), 1):
        target = draft / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            target.symlink_to(source.resolve())
        else:
            shutil.copy2(source, target)
            logging.info("copied %d of %d: %s", count, len(videos), source.name)


def put_in_place(draft: pathlib.Path, output: pathlib.Path) -> None:
    """Moves a finished folder to its place, and deletes the one that is there.

    One of them is there at every moment but one.
    """
    if not output.exists():
        os.rename(draft, output)
        return
    old = draft_of(output)
    os.rename(output, old)
    try:
        os.rename(draft, output)
    except OSError:
        os.rename(old, output)
        raise
    shutil.rmtree(old)


def _read(path: pathlib.Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return None
