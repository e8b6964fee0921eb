"""The labels of one video while a person works on them: segments, with gaps.

The common layout needs a class for every frame. So what is not complete yet is kept in
labels/NAME.json, and no class stands for "not labelled".
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from svtas_jax.errors import InputError

FORMAT = 1
_MOST_SEGMENTS = 100_000
_MOST_FRAMES = 100_000_000


class Segment(NamedTuple):
    """Consecutive frames of one class.

    Attributes:
        start, end: first frame, and one past the last.
        label: name of the class.
        proposed: a run said so, and no person has accepted it.
    """

    start: int
    end: int
    label: str
    proposed: bool = False


@dataclasses.dataclass(frozen=True)
class Document:
    """The labels of one video, as labels/NAME.json holds them.

    Attributes:
        version: how often they were saved.
        edit: the client's name of the last change, by which it knows it again.
        run: whose pre-labels are among the segments, "" if nobody's.
        num_frames: of the video, 0 if it was not known yet.
        segments: ascending, without overlaps; gaps are frames without a label.
        truth: digest of the label file that belongs to these, "" for none.
        before: digest of the label file before that, "" for none.
    """

    version: int = 0
    edit: str = ""
    run: str = ""
    num_frames: int = 0
    segments: tuple[Segment, ...] = ()
    truth: str = ""
    before: str = ""

    @property
    def labelled_frames(self) -> int:
        """How many frames have a class that a person stands for."""
        return sum(s.end - s.start for s in self.segments if not s.proposed)

    @property
    def is_complete(self) -> bool:
        """Whether every frame has such a class."""
        return 0 < self.num_frames == self.labelled_frames

    def to_labels(self) -> str:
        """Returns the label file, a class a line, or "" if a frame has none."""
        if not self.is_complete:
            return ""
        return "".join(f"{s.label}\n" * (s.end - s.start) for s in self.segments)

    def renamed(self, old: str, new: str) -> "Document":
        """Returns the document with another name for a class."""
        segments = (
            s._replace(label=new) if s.label == old else s for s in self.segments
        )
        return dataclasses.replace(self, segments=tuple(segments))

    def to_json(self) -> str:
        """Returns the content of labels/NAME.json."""
        fields = {"format": FORMAT, **dataclasses.asdict(self)}
        fields["segments"] = [list(segment) for segment in self.segments]
        return json.dumps(fields, ensure_ascii=False) + "\n"


def digest(content: bytes) -> str:
    """Returns a text that stands for a file's content, "" for none."""
    return hashlib.sha256(content).hexdigest()[:32] if content else ""


def read_document(content: bytes, name: str) -> Document:
    """Reads the content of labels/NAME.json.

    Raises:
        InputError: if it is damaged, or of a newer program.
    """
    try:
        given: dict[str, Any] = json.loads(content)
        if given.pop("format") != FORMAT:
            raise InputError("it is of another version of this program")
        segments = check_segments(given.pop("segments"))
        for field in dataclasses.fields(Document):
            if field.name != "segments" and type(given[field.name]) is not field.type:
                raise InputError(f"{field.name} is wrong")
        return dataclasses.replace(Document(), segments=segments, **given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f" ({error})" if isinstance(error, InputError) else ""
        raise InputError(
            f"{name} is damaged{why}: the labels in it cannot be read. Bring it back "
            "from a copy, or move it away to begin this video anew."
        ) from error


def check_segments(given: Any, *, num_frames: int = 0) -> tuple[Segment, ...]:
    """Reads a list of [start, end, label, proposed].

    Args:
        given: the list.
        num_frames: of the video, 0 if unknown.

    Raises:
        InputError: if it is something else, or segments overlap, are empty or lie
            outside the video.
    """
    if not isinstance(given, list) or len(given) > _MOST_SEGMENTS:
        raise InputError("segments must be a list of [start, end, label, proposed].")
    end, found = 0, []
    for item in given:
        segment = _segment(item)
        if not end <= segment.start < segment.end <= (num_frames or _MOST_FRAMES):
            where = f" of a video of {num_frames} frames" if num_frames else ""
            raise InputError(
                f"the segment {segment.start}..{segment.end}{where} is empty, outside, "
                "out of order, or overlaps the one before."
            )
        end = segment.end
        found.append(segment)
    return tuple(found)


def _segment(item: Any) -> Segment:
    kinds = (int, int, str, bool)
    if (
        not isinstance(item, list)
        or len(item) != len(kinds)
        or any(type(v) is not kind for v, kind in zip(item, kinds, strict=True))
    ):
        raise InputError(f"{item!r} is not [start, end, label, proposed].")
    return Segment(*item)


def joined(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Returns segments without borders inside a class."""
    found: list[Segment] = []
    for segment in segments:
        last = found[-1] if found else None
        if last and last._replace(start=0, end=0) == segment._replace(start=0, end=0):
            if last.end == segment.start:
                found[-1] = last._replace(end=segment.end)
                continue
        found.append(segment)
    return tuple(found)


def cut_to(segments: Iterable[Segment], num_frames: int) -> tuple[Segment, ...]:
    """Returns what lies within a video."""
    return tuple(
        s._replace(end=min(s.end, num_frames)) for s in segments if s.start < num_frames
    )
