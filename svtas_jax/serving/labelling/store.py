"""Reads and saves the labels of videos: what is acknowledged is on the disk.

Who saves names the state of the files that the change is based on. If they are in
another one, another person, window or program came first, and nothing is written.
"""

import dataclasses
import pathlib
import threading

import numpy as np

from data_pipeline.annotations import read_labels
from svtas_jax.errors import InputError
from svtas_jax.serving.labelling import classes, disk, documents
from svtas_jax.serving.labelling.documents import Document, Segment, digest
from svtas_jax.serving.labelling.folder import Folder


@dataclasses.dataclass(frozen=True)
class Opened:
    """The labels of a video as they are on the disk.

    Attributes:
        document: the labels.
        token: names this state of the files.
        notice: what a person must know of them, "" if nothing.
        kept: the page's own last labels, where another program's came later.
    """

    document: Document
    token: str
    notice: str = ""
    kept: tuple[Segment, ...] = ()


class ConflictError(Exception):
    """Somebody else has saved other labels.

    Attributes:
        opened: what is on the disk now.
    """

    def __init__(self, opened: Opened) -> None:
        super().__init__("the labels were changed elsewhere")
        self.opened = opened


@dataclasses.dataclass(frozen=True)
class Change:
    """What a client saves.

    Attributes:
        base: `Opened.token` that it began with.
        edit: its name for the change, to know it again after a lost answer.
        segments: all of the video.
        run: see `Document.run`.
    """

    base: str
    edit: str
    segments: tuple[Segment, ...]
    run: str = ""


class Store:
    """The labels of all videos of a folder; safe to use from several threads."""

    def __init__(self, folder: Folder) -> None:
        """Ends what a killed server has begun.

        Raises:
            InputError: if mapping.txt is invalid, or a file cannot be written.
        """
        self.folder, self._lock = folder, threading.RLock()
        disk.remove_drafts(folder)
        classes.finish_renaming(folder)
        classes.read_classes(folder)

    def classes(self) -> tuple[str, ...]:
        """Returns the classes in the order of their indices.

        Raises:
            InputError: if mapping.txt is invalid.
        """
        with self._lock:
            classes.finish_renaming(self.folder)
            return classes.read_classes(self.folder)

    def add_class(self, name: str) -> None:
        """Adds a class, see `classes.add_class`."""
        with self._lock:
            classes.add_class(self.folder, name)

    def rename_class(self, old: str, new: str) -> None:
        """Renames a class everywhere, see `classes.rename_class`."""
        with self._lock:
            classes.rename_class(self.folder, old, new)

    def read(self, name: str, num_frames: int = 0) -> Opened:
        """Reads the labels of a video.

        Args:
            name: of the video.
            num_frames: that it has, 0 if that is not known yet.

        Raises:
            InputError: if a file cannot be used; the message says which and why.
        """
        with self._lock:
            classes.finish_renaming(self.folder)
            files = disk.Files(self.folder, name)
            files.mend()
            opened = self._opened(files)
            return _fitted(opened, num_frames, files.truth) if num_frames else opened

    def save(self, name: str, change: Change, *, num_frames: int = 0) -> Opened:
        """Saves the labels of a video; returns when the disk has them.

        Raises:
            ConflictError: if they are not based on what is on the disk.
            InputError: if a class is unknown, or a file cannot be used.
        """
        with self._lock:
            unknown = {s.label for s in change.segments} - set(self.classes())
            if unknown:
                raise InputError(f"the class {min(unknown)!r} is not in mapping.txt.")
            files = disk.Files(self.folder, name)
            files.mend()
            opened = self._opened(files)
            stored = opened.document
            is_known = (stored.edit, stored.segments) == (change.edit, change.segments)
            if is_known and change.edit and not opened.kept:
                return opened  # the answer to it was lost
            if change.base != opened.token:
                fits = (
                    _fitted(opened, num_frames, files.truth) if num_frames else opened
                )
                raise ConflictError(fits)
            document = Document(
                version=stored.version + 1,
                edit=change.edit,
                run=change.run,
                num_frames=num_frames,
                segments=change.segments,
            )
            return _written(files, document)

    def settle(self, name: str, num_frames: int) -> None:
        """Ends what had to wait until the frames of a video were counted."""
        with self._lock:
            files = disk.Files(self.folder, name)
            if not files.document_content:
                return
            files.mend()
            opened = self._opened(files)
            document = opened.document
            if document.num_frames or opened.kept or opened.notice:
                return
            segments = documents.cut_to(document.segments, num_frames)
            files.write(
                dataclasses.replace(
                    document,
                    version=document.version + 1,
                    num_frames=num_frames,
                    segments=segments,
                )
            )

    def _opened(self, files: disk.Files) -> Opened:
        stored = files.document()
        found = digest(files.truth_content)
        if found == stored.truth:
            return Opened(stored, files.token)
        if not found:
            return Opened(
                stored,
                files.token,
                f"{files.truth} was removed by another program; the labels are still "
                "here, and the next change writes the file again.",
            )
        found_segments = self._segments_of(files.truth)
        if stored.is_complete and documents.joined(stored.segments) == found_segments:
            return Opened(dataclasses.replace(stored, truth=found), files.token)
        document = dataclasses.replace(
            stored, segments=found_segments, run="", edit="", truth=found, num_frames=0
        )
        if not stored.version:
            return Opened(document, files.token)
        return Opened(
            document,
            files.token,
            f"{files.truth} was changed by another program after the last change on "
            "this page; its labels are shown.",
            stored.segments,
        )

    def _segments_of(self, path: pathlib.Path) -> tuple[Segment, ...]:
        names = self.classes()
        if not names:
            raise InputError(
                f"{path} has labels, but there is no {self.folder.mapping} with their "
                "classes; add the classes here, or bring the file back."
            )
        indices = read_labels(path, names)
        borders = np.flatnonzero(np.diff(indices)) + 1
        edges = [0, *borders.tolist(), len(indices)]
        return tuple(
            Segment(start, end, names[indices[start]])
            for start, end in zip(edges, edges[1:], strict=False)
        )


def _fitted(opened: Opened, num_frames: int, truth: pathlib.Path) -> Opened:
    """Returns labels that are of another number of frames than the video, so far as
    they fit, and says it."""
    document, notice = opened.document, opened.notice
    end = document.segments[-1].end if document.segments else 0
    if end > num_frames or (document.num_frames or num_frames) != num_frames:
        count = max(end, document.num_frames)
        notice += (
            f" The labels are of {count} frames, but the video has {num_frames}: what "
            "is beyond its end is left out. Are they of this video?"
        )
    elif document.truth and not document.num_frames and end < num_frames:
        notice += (
            f" {truth} has {end} lines, but the video {num_frames} frames: the last "
            f"{num_frames - end} have no label yet. Are the labels of this video?"
        )
    segments = documents.cut_to(document.segments, num_frames)
    document = dataclasses.replace(document, segments=segments, num_frames=num_frames)
    return dataclasses.replace(opened, document=document, notice=notice.strip())


def _written(files: disk.Files, document: Document) -> Opened:
    return Opened(files.write(document), files.token)
