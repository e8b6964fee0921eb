"""Reads projects of the VGG Image Annotator 3 (VIA): temporal segments of videos."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.annotators.fields import listed, mapping, number
from data_pipeline.annotators.file import AnnotationFile, choose_tier
from data_pipeline.annotators.segments import (
    SECONDS,
    Annotation,
    Segment,
    make_segment,
)

_CHECKBOX = 2
_CHOICES = (_CHECKBOX, 3, 4)  # check boxes, radio buttons, a list


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the segments of an attribute, in seconds; the tier is the attribute's name.

    VIA's "z" is [start, end], and segments may touch, so ends are exclusive. What has
    one time or a region is left out.

    Raises:
        InputError: if the attribute is unknown or not clear, or an entry is wrong.
    """
    project = file.json
    attributes = mapping(file, project, "attribute")
    entries = _entries(file, project)
    name, keys = _choose(file, attributes, entries)
    videos: dict[str, list[Segment]] = {}
    for key, entry in entries.items():
        place = f"entry {key!r}"
        segments = videos.setdefault(_video(file, project, entry, place), [])
        chosen = [k for k in keys if entry["av"].get(k)]
        if not chosen:
            file.left_out(f"segments without {name!r}")
        for attribute in chosen:
            for label in _labels(attributes[attribute], str(entry["av"][attribute])):
                segments.append(_segment(file, entry, label, place))
    return [file.annotation(s, unit=SECONDS, video=v) for v, s in videos.items()]


def _choose(
    file: AnnotationFile,
    attributes: Mapping[str, Any],
    entries: Mapping[str, Mapping[str, Any]],
) -> tuple[str, list[str]]:
    """Returns the name of the attribute of segments that is taken, and its keys."""
    keys: dict[str, list[str]] = {}
    for key, attribute in attributes.items():
        if not isinstance(attribute, Mapping):
            file.fail(f"attribute {key!r} is no JSON object; export the file again.")
        # The anchor says what has it: Z0 the file, Z1 a moment, Z2 a segment.
        anchor = str(attribute.get("anchor_id", ""))
        if not anchor.startswith(("FILE1_Z0", "FILE1_Z1")):
            keys.setdefault(str(attribute.get("aname", key)), []).append(key)
    counts = {
        name: sum(bool(e["av"].get(k)) for e in entries.values() for k in group)
        for name, group in keys.items()
    }
    name = choose_tier(file, counts, "attribute")
    return name, keys[name]


def _entries(file: AnnotationFile, project: object) -> dict[str, Mapping[str, Any]]:
    """Returns the temporal segments by their id."""
    found = {}
    for key, entry in mapping(file, project, "metadata").items():
        place = f"entry {key!r}"
        mapping(file, entry, "av", place)
        if len(listed(file, entry, "z", place)) == 2 and not entry.get("xy"):
            found[key] = entry
        else:
            file.left_out("regions and single times")
    return found


def _segment(
    file: AnnotationFile, entry: Mapping[str, Any], label: str, place: str
) -> Segment:
    start, end = (number(file, value, place) for value in entry["z"])
    return make_segment(label, start, end, file.at(place))


def _labels(attribute: Mapping[str, Any], value: str) -> list[str]:
    """Returns the names of the options that are chosen; check boxes may be several."""
    options = attribute.get("options")
    if attribute.get("type") not in _CHOICES or not isinstance(options, Mapping):
        return [value]
    several = attribute.get("type") == _CHECKBOX
    chosen = [key for key in value.split(",") if key] if several else [value]
    return [str(options.get(key, key)) for key in chosen]


def _video(
    file: AnnotationFile, project: object, entry: Mapping[str, Any], place: str
) -> str:
    view = mapping(file, mapping(file, project, "view"), str(entry.get("vid")), place)
    files = [str(fid) for fid in listed(file, view, "fid_list", place)]
    if len(files) != 1:
        file.fail(f"{place}: its view shows {len(files)} files; annotate one a view.")
    medium = mapping(file, mapping(file, project, "file"), files[0], place)
    return str(medium.get("fname") or medium.get("src") or "")
