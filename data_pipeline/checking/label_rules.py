"""What the labels alone tell: slips, classes that are rare, or too short to be seen."""

import collections
import re
from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.checking import texts
from data_pipeline.checking.dataset import SUBSETS, DataSet
from data_pipeline.checking.findings import Finding, many
from svtas_jax.structs import Segment

_MOST_SHARE = 0.8  # of all frames that one class may fill
_LEAST_EXAMPLES = 3
_MOST_SLIPS = 10  # that are reported one by one, of a video
_SEEN = 2  # frames of a segment that the model should see
# S1_Cheese_C1, P03_cam01_...; followed by something else than a letter or digit.
_PERSON = re.compile(r"([SP]\d+)(?![A-Za-z0-9])")


def check(data: DataSet) -> Iterator[Finding]:
    """Yields what is wrong with labels, classes and splits."""
    for name in data.labels:
        yield from _slips(data, name)
    if data.used:
        yield from _classes(data)
    for number, split in data.splits.items():
        yield from _split(data, number, split)
    yield from _unlabelled(data)
    yield from _unlisted(data)


def sampled(segment: Segment, stride: int) -> int:
    """Returns how many frames of a segment the model sees: every `stride`-th."""
    return -(-segment.end // stride) - -(-segment.start // stride)


def _slips(data: DataSet, name: str) -> Iterator[Finding]:
    segments, file = data.segments[name], data.label_file(name)
    if len(segments) == 1 and len(data.labels[name]) > 1:
        what = f"every line is {data.classes[segments[0].label]!r}"
        yield Finding("single_class", file, what, video=name)
        return
    short = [n for n, s in enumerate(segments) if s.end - s.start == 1]
    short = short if len(segments) > 1 else []
    for position in short[:_MOST_SLIPS]:
        segment = segments[position]
        kind = "edge" if position in (0, len(segments) - 1) else "flicker"
        what = f"{data.classes[segment.label]!r} has one frame"
        span = (segment.start, segment.end)
        place = f"line {segment.start + 1}"
        yield Finding(kind, file, what, place, video=name, frames=span)
    if (more := len(short) - _MOST_SLIPS) > 0:
        what = f"{more} other segments, of {len(segments)}, have one frame, too"
        yield Finding("flicker", file, what, video=name)


def _classes(data: DataSet) -> Iterator[Finding]:
    mapping = "videos.json" if data.is_prepared else "mapping.txt"
    yield from texts.twin_classes(data.frames_by_class, mapping, data.num_classes)
    total = sum(len(data.labels[name]) for name in data.used)
    by_class = collections.defaultdict(list)
    for name in data.used:
        for segment in data.segments[name]:
            by_class[segment.label].append(segment)
    for index, name in enumerate(data.classes):
        segments = by_class[index]
        if not segments:
            if index < data.num_classes:
                yield Finding("unused_class", mapping, f"{name!r} has no frame")
            continue
        frames = sum(segment.end - segment.start for segment in segments)
        if frames > _MOST_SHARE * total and len(data.classes) > 1:
            what = f"{name!r} fills {frames / total:.0%} of all frames"
            yield Finding("imbalance", "groundTruth", what)
        yield from _lengths(data, name, segments)


def _lengths(data: DataSet, name: str, segments: list[Segment]) -> Iterator[Finding]:
    """Compares a class's segments with the stride and the chunk."""
    stride, chunk = data.config.frame_stride, data.config.clip_frames
    seen = np.array([sampled(segment, stride) for segment in segments])
    lengths = np.array([segment.end - segment.start for segment in segments])
    middle = f"{np.median(lengths):g} frames in the middle"
    short, never = int((seen < _SEEN).sum()), int((seen == 0).sum())
    if 2 * short > len(segments):
        what = (
            f"of {len(segments)} segments of {name!r} ({middle}), {short} show the "
            f"model fewer than {_SEEN} frames, {never} none at all "
            f"(config.data.frame_stride={stride})"
        )
        yield Finding("too_short", "groundTruth", what)
    long = int((lengths > chunk).sum())
    if chunk and 2 * long > len(segments):
        what = (
            f"of {len(segments)} segments of {name!r} ({middle}), {long} are longer "
            f"than config.data.clip_frames={chunk}"
        )
        yield Finding("longer_than_chunk", "groundTruth", what)


def _split(
    data: DataSet, number: int, split: Mapping[str, tuple[str, ...]]
) -> Iterator[Finding]:
    train, test = (split.get(subset, ()) for subset in SUBSETS)
    file = f"splits, split {number}"
    for name in sorted(set(train) & set(test)):
        what = f"{name!r} is in train and in test"
        yield Finding("in_train_and_test", file, what, video=name)
    people = [{_person(name) for name in part} - {""} for part in (train, test)]
    for person in sorted(people[0] & people[1]):
        what = f"videos of {person} are in train and in test"
        yield Finding("shared_group", file, what)
    yield from _coverage(data, file, train, test)


def _coverage(data: DataSet, file: str, train, test) -> Iterator[Finding]:
    """Compares the classes of training and test videos."""
    trained, tested = (_examples(data, part) for part in (train, test))
    if not trained or not tested:
        return
    for kind, ours, theirs in (
        ("absent_from_train", trained, tested),
        ("absent_from_test", tested, trained),
    ):
        indices = sorted(theirs.keys() - ours.keys())
        absent = [data.classes[k] for k in indices if k < data.num_classes]
        if absent:
            where = kind.removeprefix("absent_from_")
            what = f"no video of {where} shows {', '.join(map(repr, absent))}"
            yield Finding(kind, file, what)
    for index, count in sorted(trained.items()):
        if count < _LEAST_EXAMPLES and index < data.num_classes:
            what = f"{data.classes[index]!r} has {many(count, 'segment')} in train"
            yield Finding("rare_class", file, what)


def _unlabelled(data: DataSet) -> Iterator[Finding]:
    for name in sorted(set(data.listed) - data.labels.keys()):
        listing = [
            str(number)
            for number, split in data.splits.items()
            if any(name in names for names in split.values())
        ]
        which = "split" if len(listing) == 1 else "splits"
        what = f"does not exist, but is listed in {which} {', '.join(listing)}"
        yield Finding("no_labels", data.label_file(name), what, video=name)


def _unlisted(data: DataSet) -> Iterator[Finding]:
    if not data.listed:
        return
    for name in sorted(data.labels.keys() - set(data.listed)):
        if name in data.videos:
            yield Finding("in_no_split", data.label_file(name), "no split lists it")


def _examples(data: DataSet, names: tuple[str, ...]) -> collections.Counter[int]:
    """Counts the segments of every class."""
    segments = (s for name in names for s in data.segments.get(name, ()))
    return collections.Counter(segment.label for segment in segments)


def _person(name: str) -> str:
    match = _PERSON.match(name)
    return match[1] if match else ""
