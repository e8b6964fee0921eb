"""Reads CVAT's XML 1.1: tracks of "CVAT for video", tags of "CVAT for images".

Frames count from 0 in the video, also where a task takes every Nth frame. A track ends
at the frame of its "outside" shape, which is exclusive.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from data_pipeline.annotators.file import AnnotationFile, choose_tier
from data_pipeline.annotators.segments import (
    FRAMES,
    Annotation,
    Segment,
    make_segment,
)

_Labelled = dict[str, list[tuple[int, int, str]]]  # label: (frame, end, place)


@dataclasses.dataclass(frozen=True)
class _Task:
    """A task of a project: its video, and how many frames lie between two of it."""

    video: str
    step: int


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the frames of every label, or of every value of the attribute `tier`.

    Frames that follow each other with the same label are one segment.

    Raises:
        InputError: if there are neither tracks nor tags, or a frame is no number.
    """
    root, lines = file.xml
    tasks = _tasks(root)
    found: dict[str, list[Segment]] = {key: [] for key in tasks}
    if file.tier is not None:
        _check_attribute(file, root)
    for track in root.iter("track"):
        task = _key(file, tasks, track)
        for label, spans in _track(file, track, lines, tasks[task].step).items():
            found[task] += _merged(file, label, spans)
    for task, labels in _tags(file, root, lines, tasks).items():
        for label, spans in labels.items():
            found[task] += _merged(file, label, spans)
    if not any(found.values()):
        file.fail(
            "there are no tracks and no tags of frames; export tracks as 'CVAT for "
            "video 1.1' and tags as 'CVAT for images 1.1'."
        )
    return [
        file.annotation(
            sorted(found[key], key=lambda s: s.start), unit=FRAMES, video=task.video
        )
        for key, task in tasks.items()
    ]


def _tasks(root: Element) -> dict[str, _Task]:
    """Returns the tasks by id; a file of one task has the id ""."""
    tasks = [*root.iter("task")] or [*root.iter("job")] or [root]
    read_ = {
        task.findtext("id", "").strip(): _Task(
            (task.findtext("source") or root.findtext("meta/source") or "").strip(),
            _step(task.findtext("frame_filter") or ""),
        )
        for task in tasks
    }
    return read_ if len(read_) > 1 else {"": next(iter(read_.values()))}


def _step(frame_filter: str) -> int:
    match = re.search(r"step\s*=\s*(\d+)", frame_filter)
    return max(1, int(match[1])) if match else 1


def _key(file: AnnotationFile, tasks: dict[str, _Task], element: Element) -> str:
    if "" in tasks:
        return ""
    key = element.get("task_id", "")
    if key not in tasks:
        file.fail(f"a {element.tag} belongs to no task; export the tasks one by one.")
    return key


def _check_attribute(file: AnnotationFile, root: Element) -> None:
    names: dict[str, int] = {}
    for attribute in root.iter("attribute"):
        if name := attribute.get("name"):
            names[name] = names.get(name, 0) + 1
    choose_tier(file, names, "attribute")


def _track(
    file: AnnotationFile, track: Element, lines: dict[Element, int], step: int
) -> _Labelled:
    """Returns the frames where an object is seen, each up to its next shape."""
    seen = [
        (_frame(file, shape, lines), shape)
        for shape in track
        if shape.get("frame") is not None
    ]
    for (before, _), (after, shape) in itertools.pairwise(seen):
        if after <= before:
            file.fail(
                f"frame {after} of a track comes after {before}; export it again.",
                line=lines[shape],
            )
    ends = [frame for frame, _ in seen[1:]] + [seen[-1][0] + step] if seen else []
    spans: _Labelled = {}
    for (frame, shape), end in zip(seen, ends, strict=True):
        if shape.get("outside") != "1":
            label = _label(file, shape, track.get("label", ""))
            if label is not None:
                place = f"line {lines[shape]}, track {track.get('id')}"
                spans.setdefault(label, []).append((frame, end, place))
    return spans


def _tags(
    file: AnnotationFile,
    root: Element,
    lines: dict[Element, int],
    tasks: dict[str, _Task],
) -> dict[str, _Labelled]:
    found: dict[str, _Labelled] = {}
    for image in root.iter("image"):
        task = _key(file, tasks, image)
        shapes = [child for child in image if child.tag != "tag"]
        if shapes:
            file.left_out("shapes in images, which are no tracks", len(shapes))
        for tag in image.iter("tag"):
            label = _label(file, tag, tag.get("label", ""))
            if label is not None:
                frame = _image_frame(file, image, lines)
                span = frame, frame + tasks[task].step, f"line {lines[tag]}"
                found.setdefault(task, {}).setdefault(label, []).append(span)
    return found


def _label(file: AnnotationFile, shape: Element, label: str) -> str | None:
    """Returns the label of a shape, or the value of the attribute that is asked for."""
    if file.tier is None:
        return label
    for attribute in shape.iter("attribute"):
        if attribute.get("name") == file.tier:
            return (attribute.text or "").strip() or None
    return None


def _merged(
    file: AnnotationFile, label: str, spans: list[tuple[int, int, str]]
) -> Iterator[Segment]:
    spans = sorted(spans)
    while spans:
        start, end, place = spans.pop(0)
        while spans and spans[0][0] <= end:
            end = max(end, spans.pop(0)[1])
        yield make_segment(label, start, end, file.at(place))


def _frame(file: AnnotationFile, shape: Element, lines: dict[Element, int]) -> int:
    text = shape.get("frame", "")
    if not text.isdecimal():
        file.fail(f"frame={text!r} is no frame; correct it.", line=lines[shape])
    return int(text)


def _image_frame(
    file: AnnotationFile, image: Element, lines: dict[Element, int]
) -> int:
    """The name of a picture of a video holds its number, "frame_000012"."""
    match = re.fullmatch(r"frame_(\d+)(?:\.\w+)?", image.get("name", ""))
    text = match[1] if match else image.get("id", "")
    if not text.isdecimal():
        file.fail(f"the image has no frame number: {text!r}.", line=lines[image])
    return int(text)
