"""The classes of a data set: from its annotations, in a stable order."""

import collections
import dataclasses
import difflib
import pathlib
from collections.abc import Mapping, Sequence

from data_pipeline.annotations import read_mapping
from data_pipeline.annotators.segments import Annotation
from data_pipeline.layout.findings import Finding
from svtas_jax.errors import InputError

BACKGROUND = ("background", "none", "sil", "idle", "other", "nothing", "no action")
_ALIKE = 0.85  # of difflib: "take cup" and "take cub"
_RARE = 0.1  # a name this much rarer than one like it may be a typing error


def parse_renames(entries: Sequence[str]) -> dict[str, str]:
    """Reads OLD=NEW entries.

    Raises:
        InputError: if one is something else, or two disagree.
    """
    renames: dict[str, str] = {}
    for entry in entries:
        old, equals, new = (part.strip() for part in entry.partition("="))
        if not (old and equals and new):
            raise InputError(
                f"--rename={entry!r} is not OLD=NEW, two names of classes."
            )
        if renames.setdefault(old, new) != new:
            raise InputError(f"--rename gives {old!r} two names; keep one.")
    return renames


def rename(
    annotations: Sequence[Annotation], renames: Mapping[str, str]
) -> tuple[Annotation, ...]:
    """Returns the annotations with one blank between words, and classes renamed.

    Raises:
        InputError: if a class to rename does not occur.
    """
    used = set()

    def clean(segment):
        label = " ".join(segment.label.split())
        used.add(label)
        return dataclasses.replace(segment, label=renames.get(label, label))

    renamed = tuple(
        dataclasses.replace(a, segments=tuple(map(clean, a.segments)))
        for a in annotations
    )
    if unknown := sorted(set(renames) - used):
        close = difflib.get_close_matches(unknown[0], used, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(
            f"--rename={unknown[0]}=...: no segment has the class {unknown[0]!r}{hint}"
        )
    return renamed


def read_classes(value: str) -> tuple[str, ...]:
    """Returns the classes that a person named: a mapping.txt, or names by commas.

    Raises:
        InputError: if the file is no mapping or a name is given twice.
    """
    if value.endswith(".txt"):
        return read_mapping(pathlib.Path(value))
    names = tuple(name.strip() for name in value.split(","))
    twice = [name for name, n in collections.Counter(names).items() if n > 1]
    if twice or not all(names):
        raise InputError(
            f"--classes={value!r}: {twice[0]!r} is there twice."
            if twice
            else f"--classes={value!r} holds an empty name; write --classes=take,put."
        )
    return names


def order_classes(
    annotations: Sequence[Annotation], given: Sequence[str], fill: str
) -> tuple[tuple[str, ...], list[Finding]]:
    """Returns the classes in the order of their indices, and what was found.

    The background comes first, then names by the alphabet, unless `given` says so.

    Args:
        annotations: of all videos.
        given: all classes in their order, () to take those of the annotations.
        fill: the class of frames without a segment, "" for none.
    """
    counts = collections.Counter(s.label for a in annotations for s in a.segments)
    if given:
        return tuple(given), _check_given(annotations, given, fill, counts)
    names = set(counts) | ({fill} if fill else set())
    ordered = sorted(names, key=lambda n: (not is_background(n, fill), n.casefold(), n))
    return tuple(ordered), _twins(counts)


def is_background(name: str, fill: str = "") -> bool:
    """Whether a class is no action, by its name."""
    return name == fill or name.casefold() in BACKGROUND


def _check_given(annotations, given, fill, counts) -> list[Finding]:
    found = []
    known = set(given)
    for annotation in annotations:
        for segment in annotation.segments:
            if segment.label not in known:
                close = difflib.get_close_matches(segment.label, given, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                text = f"{segment.label!r} is none of the classes{hint}"
                found.append(
                    Finding("error", "unknown class", segment.where, text, _UNKNOWN)
                )
    if fill and fill not in known:
        raise InputError(f"--fill={fill}: it is none of the classes; add it to them.")
    for name in given:
        if name not in counts and name != fill:
            text = f"{name!r} has no segment"
            found.append(Finding("warning", "unused class", "classes", text))
    return found


_UNKNOWN = "correct the annotation, rename it with --rename=OLD=NEW, or add it"
_TWINS = "if they are one class, --rename=OLD=NEW makes them one"


def _twins(counts: Mapping[str, int]) -> list[Finding]:
    """Finds names that may be one class, typed differently."""
    found, names = [], sorted(counts)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            if _are_alike(name, other, counts):
                text = (
                    f"{name!r} ({counts[name]} segments) and {other!r} "
                    f"({counts[other]}) are alike"
                )
                found.append(
                    Finding("warning", "similar classes", "classes", text, _TWINS)
                )
    return found


def _are_alike(name: str, other: str, counts: Mapping[str, int]) -> bool:
    if _letters(name) == _letters(other):
        return True
    if _digits(name) != _digits(other):  # "step 1" and "step 2" are two
        return False
    fewer, more = sorted((counts[name], counts[other]))
    is_rare = fewer <= max(1, _RARE * more)
    matcher = difflib.SequenceMatcher(None, name.casefold(), other.casefold())
    return is_rare and matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE


def _letters(name: str) -> str:
    """Returns a name without case, blanks and punctuation."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _digits(name: str) -> str:
    return "".join(letter for letter in name if letter.isdigit())
