"""Reads JSON in the manner of ActivityNet, THUMOS and HACS: {"database": ...}."""

from collections.abc import Mapping

from data_pipeline.annotators.fields import listed, mapping, number
from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.segments import (
    SECONDS,
    Annotation,
    Segment,
    make_segment,
)


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads "segment": [start, end] in seconds and "label" of every video.

    Ends are exclusive: the segments are stretches of time. Videos without annotations,
    such as those of the testing subset, are left out.

    Raises:
        InputError: naming the video and entry that are wrong.
    """
    found = []
    for video, entry in mapping(file, file.json, "database").items():
        place = f"video {video!r}"
        annotations = listed(file, entry, "annotations", place)
        if annotations:
            segments = [
                _segment(file, annotation, f"{place}, annotation {index}")
                for index, annotation in enumerate(annotations, 1)
            ]
            found.append(file.annotation(segments, unit=SECONDS, video=video))
        else:
            file.left_out("videos without annotations")
    return found


def _segment(file: AnnotationFile, entry: object, place: str) -> Segment:
    times = listed(file, entry, "segment", place)
    if len(times) != 2 or not isinstance(entry, Mapping):
        file.fail(f"{place}: 'segment' is not [start, end]; correct it.")
    start, end = (number(file, value, place) for value in times)
    return make_segment(str(entry.get("label", "")), start, end, file.at(place))
