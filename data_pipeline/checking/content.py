"""Finds videos that are there twice: as the same file, the same bytes, or the same
pictures in another file."""

import collections
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping

from data_pipeline.checking import fingerprints
from data_pipeline.checking.dataset import DataSet, file_size
from data_pipeline.checking.facts import Scan
from data_pipeline.checking.findings import Finding


def check(data: DataSet, scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Yields the pairs that show the same; it is worse if one trains and one tests."""
    equal = {} if data.is_prepared else _equal_files(data.videos)
    for (name, other), what in equal.items():
        yield _found(data, name, other, what)
    prints = {name: scan.prints for name, scan in scans.items() if scan.info}
    for match in fingerprints.matches(prints):
        name, other = sorted(match.names)
        if (name, other) not in equal:
            what = f"shows the same (likeness {match.likeness:.2f}"
            first, second = match.names
            if match.delay_s:
                later, earlier = (second, first)[:: 1 if match.delay_s > 0 else -1]
                what += f"; {data.video_file(later)} begins at second "
                what += f"{abs(match.delay_s):.1f} of {data.video_file(earlier)}"
            yield _found(data, name, other, f"{what})")


def _found(data: DataSet, name: str, other: str, what: str) -> Finding:
    sides = [
        number
        for number, split in data.splits.items()
        if any(
            one in split.get("train", ()) and two in split.get("test", ())
            for one, two in ((name, other), (other, name))
        )
    ]
    text = f"{data.video_file(other)} {what}"
    if not sides:
        return Finding("duplicate", data.video_file(name), text, video=name)
    splits = ", ".join(map(str, sides))
    which = "split" if len(sides) == 1 else "splits"
    text += f"; one trains and one tests in {which} {splits}"
    return Finding("duplicate_across", data.video_file(name), text, video=name)


def _equal_files(videos: Mapping[str, pathlib.Path]) -> dict[tuple[str, str], str]:
    """Returns the pairs that are one file, or two of the same bytes."""
    by_size = collections.defaultdict(list)
    for name in sorted(videos):
        by_size[file_size(videos[name])].append(name)
    by_size.pop(0, None)
    pairs = {}
    for names in by_size.values():
        marks = {n: _mark(videos[n]) for n in names} if len(names) > 1 else {}
        for name, other in itertools.combinations(names, 2):
            if marks[name] and marks[name] == marks[other]:
                is_one = os.path.samefile(videos[name], videos[other])
                what = "is the same file" if is_one else "has the same bytes"
                pairs[name, other] = what
    return pairs


def _mark(path: pathlib.Path) -> bytes:
    """Returns what only equal files share; nothing of one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""
