"""Reads mapping, labels and splits line by line, and goes on after every fault.

The readers that training uses (`data_pipeline.annotations`) stop at the first one.
Each function here appends what it finds to `found`.
"""

import collections
import difflib
import pathlib
import re
from collections.abc import Sequence

from data_pipeline.checking.findings import Finding, many

Lines = list[tuple[int, str]]  # number from 1, and the stripped line
_MOST_NAMES = 5  # of unknown classes that are reported of one file
_ALIKE = 0.85  # of two class names, from which one may be a slip
_RARE = 0.1  # share of its twin's frames up to which a class may be a slip


def read_lines(path: pathlib.Path, root: pathlib.Path, found: list[Finding]) -> Lines:
    """Reads the lines of a file, without blank ones at its end.

    Blank lines are reported, and returned as "": a line of labels is a frame.
    """
    name = relative(path, root)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "it does not exist" if not path.exists() else error.strerror
        found.append(Finding("missing_file", name, f"cannot be read: {reason}"))
        return []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte {error.start} is not UTF-8"
        found.append(Finding("not_utf8", name, what, f"line {line}"))
        text = data.decode("utf-8-sig", errors="replace")
    lines = [(n, line.strip()) for n, line in enumerate(text.rstrip().splitlines(), 1)]
    if not lines:
        found.append(Finding("empty_file", name, "holds no line"))
    blank = [number for number, line in lines if not line]
    if blank:
        what = many(len(blank), "blank line")
        found.append(Finding("blank_line", name, what, f"line {blank[0]}"))
    return lines


def read_mapping(
    path: pathlib.Path, root: pathlib.Path, found: list[Finding]
) -> tuple[str, ...]:
    """Reads "id name" lines; returns the names in the order of their ids, whatever is
    wrong with these."""
    name, classes = relative(path, root), []
    first_of: dict[str, int] = {}
    for number, line in read_lines(path, root, found):
        match = re.fullmatch(r"(\d+)\s+(\S.*)", line)
        if not match:
            if line:
                what = f"{line!r} is not 'id name', such as '0 take'"
                found.append(Finding("mapping_line", name, what, f"line {number}"))
            continue
        if match[2] in first_of:
            what = f"{match[2]!r} is there already, in line {first_of[match[2]]}"
            found.append(Finding("class_twice", name, what, f"line {number}"))
        else:
            classes.append((int(match[1]), match[2]))
            first_of[match[2]] = number
    ids = [index for index, _ in classes]
    for index, count in collections.Counter(ids).items():
        if count > 1:
            names = " and ".join(repr(c) for i, c in classes if i == index)
            found.append(Finding("class_ids", name, f"id {index} is that of {names}"))
    gaps = sorted(set(range(max(ids, default=-1) + 1)) - set(ids))
    if gaps:
        missing = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        what = f"no class has id {missing}, but one has {max(ids)}"
        found.append(Finding("class_ids", name, what))
    return tuple(c for _, c in sorted(classes))


def read_labels(
    path: pathlib.Path,
    root: pathlib.Path,
    classes: Sequence[str],
    found: list[Finding],
) -> list[str]:
    """Reads one class name a line; unknown ones are reported once a file each."""
    lines = read_lines(path, root, found)
    known, first_of = set(classes), {}
    counts = collections.Counter(label for _, label in lines if label)
    for number, label in lines:
        first_of.setdefault(label, number)
    odd = [c for c in counts if known and c not in known and "\ufffd" not in c]
    for label in odd[:_MOST_NAMES]:
        count = counts[label]
        times = f"{count} times" if count > 1 else "once"
        what = f"{label!r} ({times}) is not in mapping.txt{_hint(label, classes)}"
        place = f"line {first_of[label]}"
        name = relative(path, root)
        found.append(Finding("unknown_class", name, what, place, video=path.stem))
    if (more := len(odd) - _MOST_NAMES) > 0:
        what = f"{more} other names are not in mapping.txt, either"
        file = relative(path, root)
        found.append(Finding("unknown_class", file, what, video=path.stem))
    return [label or "(blank)" for _, label in lines]


def twin_classes(
    counts: dict[str, int], mapping: str, num_classes: int
) -> list[Finding]:
    """Finds classes that may be one, typed in two ways.

    Args:
        counts: frames of every class, in the order of the mapping.
        mapping: name of its file.
        num_classes: those at the beginning of `counts` that are in it.
    """
    found, names = [], list(counts)[:num_classes]
    for position, name in enumerate(names):
        for other in names[:position]:
            if reason := _twins(other, name, counts):
                what = f"{other!r} and {name!r} {reason}"
                found.append(Finding("twin_classes", mapping, what))
    return found


def relative(path: pathlib.Path, root: pathlib.Path) -> str:
    """Returns how a file is called in the report: below the root, if it lies there."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _hint(label: str, classes: Sequence[str]) -> str:
    if label.isdecimal() and int(label) < len(classes):
        return f": it is an id, write {classes[int(label)]!r}"
    if re.match(r"\d+\s*[-,\s]\s*\d+\s", label):
        return ": it looks like an interval, and a line is one frame"
    folded = {_folded(name): name for name in classes}
    near = folded.get(_folded(label))
    close = [near] if near else difflib.get_close_matches(label, classes, n=1)
    return f": is it {close[0]!r}?" if close else ""


def _twins(one: str, other: str, counts: dict[str, int]) -> str:
    if _folded(one) == _folded(other):
        return "differ only in case or spaces"
    digits = re.compile(r"\d+")
    if digits.sub("", one) == digits.sub("", other):
        return ""
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    if matcher.quick_ratio() < _ALIKE or matcher.ratio() < _ALIKE:
        return ""
    few, many = sorted((counts[one], counts[other]))
    if few > _RARE * many:
        return ""
    return f"are spelt alike, and have {counts[one]} and {counts[other]} frames"


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())
