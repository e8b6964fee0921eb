"""The two files of a video's labels, changed so that a kill between them is mended.

labels/NAME.json holds the labels at any time, groundTruth/NAME.txt is there exactly as
long as every frame has a label. A change of the second file is laid ready beside it,
the first one is saved, then the second is put in place. So a killed server leaves one
of three traces, and each is mended without a guess: nothing; a file laid ready that
belongs to labels never saved; one that belongs to labels that were.
"""

import dataclasses
import os
import pathlib
import re

from svtas_jax.errors import InputError
from svtas_jax.runtime.files import sync_folder, writing
from svtas_jax.serving.labelling import documents
from svtas_jax.serving.labelling.documents import Document, digest
from svtas_jax.serving.labelling.folder import Folder, write

_DRAFT = re.compile(r"\..+\.(json|ready)\.[0-9a-f]{16}")  # see `files.draft_of`
_REPLACED = "replaced"  # label files of other programs, before they are written over


class Files:
    """The two files of a video, as they are at this moment."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._path = folder.document_path(name)
        self.truth = folder.truth_path(name)
        self._ready = self.truth.with_name(f".{self.truth.name}.ready")
        self._replaced = folder.side / _REPLACED
        self.document_content = _content(self._path)
        self.truth_content = _content(self.truth)

    @property
    def token(self) -> str:
        """Names the content of both."""
        return digest(self.document_content + b"\0" + self.truth_content)

    def document(self) -> Document:
        """Returns what labels/NAME.json holds.

        Raises:
            InputError: if it is damaged.
        """
        if not self.document_content:
            return Document()
        return documents.read_document(self.document_content, str(self._path))

    def mend(self) -> None:
        """Ends what a killed server has begun with groundTruth/NAME.txt."""
        if not self._ready.exists():
            return
        stored = self.document()
        is_saved = digest(_content(self._ready)) == stored.truth
        if is_saved and digest(self.truth_content) == stored.before:
            self._put_in_place()
        else:
            self._ready.unlink()

    def write(self, document: Document) -> Document:
        """Saves labels; returns them as they are stored, when the disk has them."""
        found = digest(self.truth_content)
        labels = document.to_labels().encode() if document.num_frames else None
        wanted = found if labels is None else digest(labels)
        document = dataclasses.replace(document, truth=wanted, before=found)
        if wanted != found:
            self._keep_foreign(found)
            write(self._ready, labels or b"")
        content = document.to_json().encode()
        write(self._path, content)
        self.document_content = content
        if wanted != found:
            self._put_in_place()
        return document

    def _put_in_place(self) -> None:
        with writing(self.truth, option="--label"):
            content = _content(self._ready)
            if content:
                os.replace(self._ready, self.truth)
            else:
                self.truth.unlink(missing_ok=True)
                self._ready.unlink()
            sync_folder(self.truth.parent)
        self.truth_content = content

    def _keep_foreign(self, found: str) -> None:
        """Copies a label file that this page has not written."""
        stored = self.document()
        if found and not (stored.num_frames and found == stored.truth):
            name = f"{self.truth.stem}.{found[:8]}.txt"
            write(self._replaced / name, self.truth_content)


def remove_drafts(folder: Folder) -> None:
    """Removes what a server wrote that was killed; never what is laid ready."""
    for place in (folder.side, folder.truths):
        for path in place.glob(".*"):
            if _DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _content(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions."
        ) from error
