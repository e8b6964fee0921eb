"""What a check found: each with its kind and its place."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipeline.checking.kinds import KINDS, Severity


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a key of `KINDS`.
        file: that it is in, relative to the data folder.
        what: is there, in a few words.
        place: in the file, such as "line 3"; "" for the whole file.
        video: name of the video that it is about, "" for the whole data set.
        frames: first and last + 1 that it is about, None for the whole video.
    """

    kind: str
    file: str
    what: str
    place: str = ""
    video: str = ""
    frames: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return KINDS[self.kind].severity

    @property
    def where(self) -> str:
        """File and place."""
        return f"{self.file}, {self.place}" if self.place else self.file

    def as_json(self) -> dict[str, Any]:
        """Returns all that is known, for programs."""
        kind = KINDS[self.kind]
        facts = dataclasses.asdict(self) | {"severity": self.severity.word}
        return facts | {"rule": kind.rule, "remedy": kind.remedy}


def frames_of(start: int, end: int) -> str:
    """Returns the place of frames `start` to `end - 1`."""
    return f"frame {start}" if end - start == 1 else f"frames {start} to {end - 1}"


def many(count: int, thing: str) -> str:
    """Returns "1 frame", "2 frames"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns each finding once: the worst first, then by kind, file and place."""
    places = list(KINDS)

    def key(finding: Finding):
        start = finding.frames[0] if finding.frames else math.inf
        kind = places.index(finding.kind)
        return finding.severity, kind, finding.file, start, finding.place, finding.what

    return tuple(sorted(set(findings), key=key))


def grouped(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Returns the findings by kind, in their order."""
    groups = collections.defaultdict(list)
    for finding in findings:
        groups[finding.kind].append(finding)
    return dict(groups)


def counted(findings: Iterable[Finding]) -> str:
    """Returns how many there are of each severity: "2 errors, 1 warning, 0 notes"."""
    counts = collections.Counter(finding.severity for finding in findings)
    return ", ".join(many(counts[severity], severity.word) for severity in Severity)
