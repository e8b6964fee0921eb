"""The classes of a folder: mapping.txt is begun, lengthened and corrected.

Renaming a class changes many files. What is to be done is written down first, and done
to the end at the next start if the server is killed in between.
"""

import dataclasses
import json
import unicodedata

from data_pipeline.annotations import read_mapping
from svtas_jax.errors import InputError
from svtas_jax.runtime.files import sync_folder
from svtas_jax.serving.labelling import documents
from svtas_jax.serving.labelling.folder import Folder, write

_JOURNAL = "renaming"  # no video's file is called so
_MOST_LETTERS = 100


def read_classes(folder: Folder) -> tuple[str, ...]:
    """Returns the classes in the order of their indices; none if there is no mapping.

    Raises:
        InputError: if mapping.txt is invalid.
    """
    if not folder.mapping.exists():
        return ()
    return read_mapping(folder.mapping)


def add_class(folder: Folder, name: str) -> None:
    """Adds a class to the end of mapping.txt; begins the file if there is none.

    Raises:
        InputError: if the name cannot be one, or is there; or the file is not writable.
    """
    classes = read_classes(folder)
    name = check_name(name, classes)
    text = ""
    if classes:
        text = folder.mapping.read_text(encoding="utf-8-sig").rstrip() + "\n"
    write(folder.mapping, f"{text}{len(classes)} {name}\n")


def check_name(name: str, classes: tuple[str, ...]) -> str:
    """Returns the name of a new class as files store it.

    Raises:
        InputError: if it cannot be one, or is too like one that is there.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not name or len(name) > _MOST_LETTERS or not name.isprintable():
        raise InputError(
            f"{name!r} cannot be the name of a class: it needs 1 to {_MOST_LETTERS} "
            "visible letters in one line."
        )
    for other in classes:
        if unicodedata.normalize("NFC", other).casefold() == name.casefold():
            raise InputError(
                f"there is already a class {other!r}; a second one that differs only "
                "in upper and lower case would be another class."
            )
    return name


def rename_class(folder: Folder, old: str, new: str) -> None:
    """Renames a class in mapping.txt and in the labels of all videos.

    Raises:
        InputError: if there is no such class, or as `check_name`.
    """
    finish_renaming(folder)
    classes = read_classes(folder)
    if old not in classes:
        raise InputError(f"there is no class {old!r} in mapping.txt.")
    new = check_name(new, tuple(name for name in classes if name != old))
    if new != old:
        journal = json.dumps({"old": old, "new": new}, ensure_ascii=False)
        write(folder.side / _JOURNAL, journal)
        finish_renaming(folder)


def finish_renaming(folder: Folder) -> None:
    """Does what is written down to the end, if anything is.

    Raises:
        InputError: if a file cannot be read or written; to be called again then.
    """
    journal = folder.side / _JOURNAL
    if not journal.exists():
        return
    names = json.loads(journal.read_text(encoding="utf-8"))
    old, new = names["old"], names["new"]
    for path in sorted(folder.side.glob("*.json")):
        _rename_in_document(folder, path.stem, old, new)
    for path in sorted(folder.truths.glob("*.txt")):
        content = path.read_bytes()
        if (renamed := _in_lines(content, old, new)) != content:
            write(path, renamed)
    _rename_in_mapping(folder, old, new)
    journal.unlink()
    sync_folder(folder.side)


def _rename_in_document(folder: Folder, name: str, old: str, new: str) -> None:
    """Renames in a document, which then belongs to the label file renamed later."""
    path = folder.document_path(name)
    content = path.read_bytes()
    try:
        document = documents.read_document(content, str(path))
    except InputError:
        return  # it is shown as damaged, and labels in it cannot be used anyway
    renamed = document.renamed(old, new)
    truth = folder.truth_path(name)
    labels = truth.read_bytes() if truth.exists() else b""
    if documents.digest(labels) == document.truth:
        after = documents.digest(_in_lines(labels, old, new))
        renamed = dataclasses.replace(renamed, truth=after)
    if renamed != document:
        version = document.version + 1
        renamed = dataclasses.replace(renamed, version=version)
        write(path, renamed.to_json())


def _rename_in_mapping(folder: Folder, old: str, new: str) -> None:
    classes = read_classes(folder)
    if old in classes:
        names = (new if name == old else name for name in classes)
        lines = (f"{number} {name}\n" for number, name in enumerate(names))
        write(folder.mapping, "".join(lines))


def _in_lines(content: bytes, old: str, new: str) -> bytes:
    before, after = old.encode(), new.encode()
    lines = content.split(b"\n")
    return b"\n".join(
        line.replace(before, after) if line.strip() == before else line
        for line in lines
    )
