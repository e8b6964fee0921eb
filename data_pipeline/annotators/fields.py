"""Takes fields from JSON whose form nobody has checked."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.annotators import times
from data_pipeline.annotators.file import AnnotationFile


def mapping(
    file: AnnotationFile, value: object, key: str, place: str = ""
) -> Mapping[str, Any]:
    """Returns the object in a field of an object.

    Raises:
        InputError: if there is none.
    """
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, Mapping):
        file.fail(f"{_prefix(place)}{key!r} is no JSON object; export the file again.")
    return found


def listed(file: AnnotationFile, value: object, key: str, place: str = "") -> list[Any]:
    """Returns the array in a field of an object.

    Raises:
        InputError: if there is none.
    """
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, list):
        file.fail(f"{_prefix(place)}{key!r} is no JSON array; export the file again.")
    return found


def number(file: AnnotationFile, value: object, place: str) -> float:
    """Returns a number, or the number that a text holds.

    Raises:
        InputError: if there is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        file.fail(f"{place}: {value!r} is no number; correct it.")
    if isinstance(value, str):
        return times.parse_number(value, file.at(place))
    try:
        return float(value)
    except OverflowError:
        file.fail(f"{place}: the number is too large; correct it.")


def _prefix(place: str) -> str:
    return f"{place}: " if place else ""
