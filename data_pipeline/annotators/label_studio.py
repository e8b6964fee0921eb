"""Reads Label Studio's exports, JSON and JSON-MIN.

Timeline labels are ranges of frames, counted from 1, with the last frame: Label
Studio's own models take start - 1 up to end. Labels of audio and video are seconds with
an exclusive end.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from data_pipeline.annotators.fields import listed, mapping, number
from data_pipeline.annotators.file import AnnotationFile, choose_tier, video_name
from data_pipeline.annotators.segments import (
    FRAMES,
    SECONDS,
    Annotation,
    Segment,
    make_frames,
    make_segment,
)

_MEDIA = ("video", "video_url", "audio", "url", "file_upload")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # before the name of an uploaded file
_Region = tuple[str, Mapping[str, Any], str]  # control tag, value, place


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the regions of a control tag of every task; it is the tier.

    Tasks that nobody has annotated, cancelled annotations and regions of other kinds
    are left out.

    Raises:
        InputError: if a task has several annotations, or the tag is not clear.
    """
    tasks = file.json if isinstance(file.json, list) else [file.json]
    regions = {place: _regions(file, task, place) for place, task in _placed(tasks)}
    taken = {p: found for p, found in regions.items() if found is not None}
    counts: dict[str, int] = {}
    for found in taken.values():
        for tag, _, _ in found:
            counts[tag] = counts.get(tag, 0) + 1
    if not counts:
        file.fail("no task has time segments; annotate the videos or leave it out.")
    tag = choose_tier(file, counts, "control tag")
    return [
        _annotation(file, task, [r for r in taken[place] if r[0] == tag], place)
        for place, task in _placed(tasks)
        if place in taken
    ]


def _placed(tasks: list[Any]) -> Iterator[tuple[str, Any]]:
    for index, task in enumerate(tasks, 1):
        number_ = task.get("id") if isinstance(task, Mapping) else None
        yield f"entry {index}" + (f" (task {number_})" if number_ else ""), task


def _annotation(
    file: AnnotationFile, task: Mapping[str, Any], regions: list[_Region], place: str
) -> Annotation:
    frames = any("ranges" in value for _, value, _ in regions)
    if frames and file.fps is None:
        file.guessed(
            "frames as Label Studio counts them, at the frameRate of its <Video> (24 "
            "if it has none); unless that is the video's rate, give it: --fps=24"
        )
    segments = [s for _, value, at in regions for s in _segments(file, value, at)]
    unit = FRAMES if frames else SECONDS
    return file.annotation(segments, unit=unit, video=_video(file, task, place))


def _regions(file: AnnotationFile, task: object, place: str) -> list[_Region] | None:
    """Returns the time regions of a task, or None if nobody has annotated it."""
    if not isinstance(task, Mapping):
        file.fail(f"{place} is no task; export the project as JSON.")
    if "annotations" not in task and "completions" not in task:
        return list(_minimal_regions(task, place))
    key = "annotations" if "annotations" in task else "completions"
    done = [
        annotation
        for annotation in listed(file, task, key, place)
        if isinstance(annotation, Mapping) and not annotation.get("was_cancelled")
    ]
    if not done:
        file.left_out("tasks that are not annotated")
        return None
    if len(done) > 1:
        file.fail(
            f"{place} has {len(done)} annotations, whose labels may differ; delete all "
            "but one."
        )
    return list(_full_regions(file, done[0], place))


def _full_regions(
    file: AnnotationFile, annotation: Mapping[str, Any], place: str
) -> Iterator[_Region]:
    for index, result in enumerate(listed(file, annotation, "result", place), 1):
        at = f"{place}, region {index}"
        value = mapping(file, result, "value", at)
        if _is_timed(value):
            yield str(result.get("from_name", "")), value, at
        else:
            file.left_out(f"regions of the kind {result.get('type')!r}")


def _minimal_regions(task: Mapping[str, Any], place: str) -> Iterator[_Region]:
    for tag, values in task.items():
        for index, value in enumerate(values if isinstance(values, list) else [], 1):
            if isinstance(value, Mapping) and _is_timed(value):
                yield tag, value, f"{place}, {tag} {index}"


def _is_timed(value: Mapping[str, Any]) -> bool:
    ranges = isinstance(value.get("ranges"), list) and "timelinelabels" in value
    return ranges or ("labels" in value and {"start", "end"} <= set(value))


def _segments(
    file: AnnotationFile, value: Mapping[str, Any], place: str
) -> Iterator[Segment]:
    timeline = "ranges" in value
    for label in listed(file, value, "timelinelabels" if timeline else "labels", place):
        for times in value["ranges"] if timeline else [value]:
            if not isinstance(times, Mapping):
                file.fail(f"{place}: {times!r} is no range; export the file again.")
            start, end = (number(file, times.get(k), place) for k in ("start", "end"))
            if timeline:
                yield make_frames(str(label), start, end, file.at(place), base=1)
            else:
                yield make_segment(str(label), start, end, file.at(place))


def _video(file: AnnotationFile, task: Mapping[str, Any], place: str) -> str:
    data = mapping(file, task, "data", place) if "data" in task else task
    texts = {k: v for k, v in data.items() if isinstance(v, str)}
    known = [texts[key] for key in _MEDIA if key in texts]
    media = known or [v for v in texts.values() if re.search(r"\.\w{2,4}$", v)]
    if not media:
        file.fail(f"{place}: no field of its data names a video; name it 'video'.")
    name = video_name(media[0])
    if "/upload/" in media[0] and _UPLOADED.match(name):
        file.guessed(
            "uploaded files without the 8 letters that Label Studio put before"
        )
        return _UPLOADED.sub("", name, count=1)
    return name
