"""Reads ELAN's .eaf files (EAF 2.7 to 3.0).

Times are milliseconds; annotations that touch share a time slot, so ends are exclusive.
pympi-ling fails on files that other programs write without a schema location and gives
annotations without a time as None, so the XML is read here.
"""

import dataclasses
from xml.etree.ElementTree import Element

from data_pipeline.annotators.file import AnnotationFile, choose_tier
from data_pipeline.annotators.segments import (
    SECONDS,
    Annotation,
    Segment,
    make_segment,
)
from svtas_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class _Document:
    file: AnnotationFile
    lines: dict[Element, int]
    slots: dict[str, str | None]  # milliseconds by the id of a time slot
    entries: dict[str, Element]  # annotations by their id
    origin_ms: float  # of the video's own time


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the annotations of a tier; those that refer to others have their times.

    The linked video names the annotation. Annotations without text are left out.

    Raises:
        InputError: if the tier is unknown or not clear, or an annotation has no time.
    """
    root, lines = file.xml
    header = root.find("HEADER")
    units = header.get("TIME_UNITS", "milliseconds") if header is not None else ""
    if units not in ("", "milliseconds"):
        file.fail(
            f"TIME_UNITS={units} is not read; save the file with ELAN 5 or newer."
        )
    tiers = {tier.get("TIER_ID", ""): _annotations(tier) for tier in root.iter("TIER")}
    counts = {name: len([*filter(_text, found)]) for name, found in tiers.items()}
    name = choose_tier(file, counts, "tier")
    _check_times(file, tiers[name], lines)
    if blank := len(tiers[name]) - counts[name]:
        file.left_out("annotations without text", blank)
    video, origin_ms = _video(file, root)
    entries = {e.get("ANNOTATION_ID", ""): e for t in tiers.values() for e in t}
    document = _Document(file, lines, _slots(root), entries, origin_ms)
    segments = [_segment(document, e, name) for e in tiers[name] if _text(e)]
    return [file.annotation(segments, unit=SECONDS, video=video)]


def _slots(root: Element) -> dict[str, str | None]:
    slots = root.iter("TIME_SLOT")
    return {slot.get("TIME_SLOT_ID", ""): slot.get("TIME_VALUE") for slot in slots}


def _annotations(tier: Element) -> list[Element]:
    return [entry for annotation in tier.iter("ANNOTATION") for entry in annotation]


def _check_times(
    file: AnnotationFile, annotations: list[Element], lines: dict[Element, int]
) -> None:
    """Annotations that divide another without times of their own have none."""
    seen: dict[str | None, str | None] = {None: None}
    for element in annotations:
        parent, own = element.get("ANNOTATION_REF"), element.get("ANNOTATION_ID")
        if seen.setdefault(parent, own) not in (None, own):
            file.fail(
                f"{seen[parent]} and {own} divide {parent} without times of their own; "
                "choose another tier.",
                line=lines[element],
            )


def _segment(document: _Document, element: Element, tier: str) -> Segment:
    where = document.file.at(
        f"line {document.lines[element]} "
        f"(tier {tier!r}, {element.get('ANNOTATION_ID')})"
    )
    aligned = _aligned(document, element, where)
    start, end = (
        (_milliseconds(document, aligned.get(name, ""), where) + document.origin_ms)
        / 1000
        for name in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")
    )
    return make_segment(_text(element), start, end, where)


def _text(element: Element) -> str:
    return (element.findtext("ANNOTATION_VALUE") or "").strip()


def _aligned(document: _Document, element: Element, where: str) -> Element:
    """Returns the annotation whose times another has, in one or several steps."""
    seen = set()
    while element.tag == "REF_ANNOTATION":
        parent = element.get("ANNOTATION_REF", "")
        if parent in seen or parent not in document.entries:
            raise InputError(
                f"{where}: it refers to {parent!r}, which has no time; correct it in "
                "ELAN."
            )
        seen.add(parent)
        element = document.entries[parent]
    return element


def _milliseconds(document: _Document, slot: str, where: str) -> float:
    value = document.slots.get(slot)
    if value is None or not value.strip().lstrip("-").isdecimal():
        raise InputError(
            f"{where}: its time slot {slot!r} has no time; align "
            "the annotation in ELAN."
        )
    return int(value)


def _video(file: AnnotationFile, root: Element) -> tuple[str, float]:
    """Returns the first linked video, else the first medium, and where its time starts.

    EAF: TIME_ORIGIN is the place in the medium where the time of the annotations is 0.
    """
    media = list(root.iter("MEDIA_DESCRIPTOR"))
    videos = [m for m in media if m.get("MIME_TYPE", "").startswith("video")] or media
    if not videos:
        return "", 0.0
    if len(videos) > 1:
        file.guessed("the first of several linked videos")
    place = videos[0].get("MEDIA_URL") or videos[0].get("RELATIVE_MEDIA_URL", "")
    origin = videos[0].get("TIME_ORIGIN", "0").strip()
    if origin.lstrip("-").isdecimal() and int(origin):
        file.guessed(f"times shifted by the video's TIME_ORIGIN, {origin} ms")
        return place, int(origin)
    return place, 0.0
