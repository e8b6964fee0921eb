"""Reads BORIS projects (.boris, JSON): the state events of observations of videos.

An event is a moment; of a state, every second one stops it, which is the exclusive end.
Times count from the start of the first file of player 1, plus the observation's offset.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from data_pipeline.annotators.fields import listed, mapping, number
from data_pipeline.annotators.file import AnnotationFile, choose_tier
from data_pipeline.annotators.segments import (
    SECONDS,
    Annotation,
    Segment,
    make_segment,
)
from svtas_jax.errors import InputError

NO_SUBJECT = "No focal subject"  # as in BORIS's own exports


@dataclasses.dataclass(frozen=True)
class Event:
    """The start or the stop of a state."""

    subject: str
    behavior: str
    modifiers: str
    time_s: float
    where: str
    status: str = ""  # START, STOP, or blank: they alternate


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the states of a subject, which is the tier, in seconds.

    Point events and observations without a video are left out. A state that runs from
    one file of an observation into the next is cut between them.

    Raises:
        InputError: if a state is not stopped, or the subject is not clear.
    """
    project = file.json
    types = {
        str(behavior.get("code")): str(behavior.get("type", ""))
        for behavior in mapping(file, project, "behaviors_conf").values()
        if isinstance(behavior, Mapping)
    }
    filmed = {}
    for name, observation in mapping(file, project, "observations").items():
        place = f"observation {name!r}"
        if isinstance(observation, Mapping) and observation.get("type") == "MEDIA":
            filmed[place] = observation
        else:
            file.left_out("observations without a video")
    events = {p: list(_events(file, o, types, p)) for p, o in filmed.items()}
    subject = choose_subject(file, itertools.chain(*events.values()))
    found = []
    for place, observation in filmed.items():
        states = pair(e for e in events[place] if e.subject == subject)
        found += _by_video(file, observation, states, place)
    return found


def choose_subject(file: AnnotationFile, events: Iterable[Event]) -> str:
    """Returns the subject whose states are taken."""
    counts: dict[str, int] = {}
    for event in events:
        counts[event.subject] = counts.get(event.subject, 0) + 1
    subject = choose_tier(file, counts, "subject")
    if others := sum(counts.values()) - counts[subject]:
        file.left_out("events of other subjects", others)
    return subject


def pair(events: Iterable[Event]) -> list[Segment]:
    """Returns a segment for every start of a state and the stop that follows.

    Raises:
        InputError: if a state is started or stopped twice, or never stopped.
    """
    running: dict[tuple[str, str], Event] = {}
    segments = []
    for event in sorted(events, key=lambda event: event.time_s):
        key = event.behavior, event.modifiers
        start = running.pop(key, None)
        if event.status and (event.status == "STOP") != (start is not None):
            verb = "stops" if start is None else "starts again"
            raise InputError(
                f"{event.where}: {event.behavior!r} {verb} without "
                f"a {'START' if start is None else 'STOP'} before; correct it in BORIS."
            )
        if start is None:
            running[key] = event
        else:
            times = start.time_s, event.time_s
            segments.append(make_segment(event.behavior, *times, start.where))
    for event in running.values():
        raise InputError(
            f"{event.where}: {event.behavior!r} starts at "
            f"{event.time_s:g} s and is not stopped; correct it in BORIS."
        )
    return sorted(segments, key=lambda segment: segment.start)


def _events(
    file: AnnotationFile,
    observation: Mapping[str, Any],
    types: Mapping[str, str],
    place: str,
) -> Iterator[Event]:
    if observation.get("media_creation_date_as_offset"):
        file.fail(f"{place}: its times are dates; observe it without that option.")
    offset = number(file, observation.get("time offset", 0), place)
    events = listed(file, observation, "events", place)
    for index, event in enumerate(events, 1):
        at = f"{place}, event {index}"
        if not isinstance(event, list) or len(event) < 4:
            file.fail(
                f"{at} is not [time, subject, behavior, modifiers]; export again."
            )
        subject, behavior, modifiers = map(str, event[1:4])
        if behavior not in types:
            file.fail(
                f"{at}: the behavior {behavior!r} is not in the ethogram; add it."
            )
        if types[behavior].lower().startswith("point"):
            file.left_out("point events, which have no length")
            continue
        time_s = round(number(file, event[0], at) - offset, 6)
        yield Event(subject or NO_SUBJECT, behavior, modifiers, time_s, file.at(at))


def _by_video(
    file: AnnotationFile,
    observation: Mapping[str, Any],
    segments: list[Segment],
    place: str,
) -> list[Annotation]:
    players = mapping(file, observation, "file", place)
    media = [str(name) for name in listed(file, players, "1", place)]
    if any(players.get(key) for key in players if key != "1"):
        file.guessed("the videos of player 1")
    if not media:
        file.left_out("observations without a video")
        return []
    if len(media) == 1:
        return [file.annotation(segments, unit=SECONDS, video=media[0])]
    lengths = mapping(file, mapping(file, observation, "media_info", place), "length")
    starts = [0.0]
    for name in media[:-1]:
        starts.append(starts[-1] + number(file, lengths.get(name), f"{place}, {name}"))
    ends = [*starts[1:], float("inf")]
    return [
        file.annotation(list(_within(segments, *span)), unit=SECONDS, video=name)
        for name, *span in zip(media, starts, ends, strict=True)
    ]


def _within(segments: list[Segment], first: float, last: float) -> Iterator[Segment]:
    """Yields what lies in a file of an observation, in the time of that file."""
    for segment in segments:
        start, end = max(segment.start, first), min(segment.end, last)
        if start < end or first <= segment.start == segment.end < last:
            times = round(start - first, 6), round(end - first, 6)
            yield Segment(segment.label, *times, segment.where)
