"""Which column of a table is the label, the start, the end: named or guessed."""

import dataclasses
import difflib
import re

from data_pipeline.annotators.file import AnnotationFile
from data_pipeline.annotators.table import Table, is_time_column
from data_pipeline.video_files import is_video_name

ROLES = ("label", "start", "end", "last", "duration", "video")
UNITS = ("seconds", "milliseconds", "minutes", "frames")
_WORDS = {  # the earlier in a list, the better
    "label": (
        *("label", "action", "behavior", "behaviour", "class", "activity", "event"),
        *("gesture", "step", "phase", "state", "annotation", "labels", "actions"),
        *("trial_type", "task", "category", "tag", "code", "type", "name", "text"),
        *("value", "description", "narration"),
    ),
    "start": (
        *("start", "begin", "onset", "from", "starting", "beginning", "tmin", "xmin"),
        *("started", "in", "first"),
    ),
    "end": (
        *("end", "stop", "offset", "to", "ending", "finish", "until", "tmax", "xmax"),
        *("stopped", "ended", "out"),
    ),
    "last": ("last",),
    "duration": ("duration", "length", "dur"),
    "video": (
        *("video", "file", "filename", "clip", "media", "recording", "session"),
        *("movie", "videos", "source"),
    ),
}
_ALONE = set(_WORDS["label"][_WORDS["label"].index("trial_type") :])  # "video name"
_OF_VIDEOS = {"duration", "length", "fps", "rate", "width", "height", "start", "end"}
_UNIT_WORDS = {
    "seconds": {"s", "sec", "secs", "second", "seconds"},
    "milliseconds": {"ms", "msec", "millis", "millisecond", "milliseconds"},
    "minutes": {"min", "mins", "minute", "minutes"},
    "frames": {"frame", "frames", "fr"},
}


@dataclasses.dataclass(frozen=True)
class Columns:
    """The index of the column of every role; None if there is none."""

    label: int
    start: int
    end: int | None = None
    last: int | None = None  # the last frame of the segment, itself a part of it
    duration: int | None = None
    video: int | None = None


def find_columns(file: AnnotationFile, table: Table) -> Columns:
    """Returns the columns that the user named, and guesses the others.

    Raises:
        InputError: if a named column is missing, or one that is needed is not found.
    """
    found = named_columns(file, table)
    guess = _guess_by_name if table.header else _guess_by_content
    taken = set(found.values())
    for role, index in guess(file, table, found).items():
        if role not in found and index not in taken:
            found[role] = index
    if not {"end", "last"} & set(named_columns(file, table)):
        _keep_one_end(found)
    _check_complete(file, table, found)
    shown = ", ".join(
        f"{role}={table.name(found[role])}" for role in ROLES if role in found
    )
    others = [table.name(k) for k in range(table.width) if k not in found.values()]
    file.guessed(
        f"columns {shown}" + (f"; not used: {', '.join(others)}" * bool(others))
    )
    return Columns(**found)


def named_columns(file: AnnotationFile, table: Table) -> dict[str, int]:
    """Returns the column of every role that the user set, by header or number.

    Raises:
        InputError: if there is no such role or column.
    """
    return {
        role: _index_of(file, table, role, name)
        for role, name in file.columns.items()
        if role != "unit"
    }


def unit_by_name(table: Table, index: int) -> str | None:
    """Returns the unit that the header of a column names."""
    words = set(_words(table.header[index])) if table.header else set()
    if words & {"hh", "ss"}:  # "hh:mm:ss.ms" and "ss.msec" name a form
        return "seconds"
    found = [unit for unit, names in _UNIT_WORDS.items() if words & names]
    return found[0] if len(found) == 1 else None


def _index_of(file: AnnotationFile, table: Table, role: str, name: str) -> int:
    if role not in ROLES:
        file.fail(f"--columns={role}=...: choose of {', '.join((*ROLES, 'unit'))}.")
    header = table.header or ()
    folded = tuple(there.casefold() for there in header)
    for key, names in ((name, header), (name.casefold(), folded)):
        if names.count(key) > 1:
            file.fail(
                f"--columns={role}={name}: {names.count(key)} columns have this name; "
                f"give the number of one, such as {role}={names.index(key) + 1}."
            )
        if key in names:
            return names.index(key)
    if name.isdecimal() and 1 <= int(name) <= table.width:
        return int(name) - 1
    close = difflib.get_close_matches(name, header, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    there = ", ".join(map(repr, header)) or f"numbers 1 to {table.width}"
    file.fail(f"--columns={role}={name}: no such column; {hint}There are {there}.")


def _guess_by_name(
    file: AnnotationFile, table: Table, named: dict[str, int]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for role in ("start", "end", "last", "duration", "label", "video"):
        ranks = {
            index: rank
            for index, name in enumerate(table.header or ())
            if index not in {*found.values(), *named.values()}
            and (rank := _rank(role, name, table.column(index))) is not None
        }
        if ranks:
            found[role] = min(ranks, key=lambda index: (*ranks[index], index))
    return found


def _rank(role: str, name: str, cells: list[str]) -> tuple[int, int, int] | None:
    """Orders the columns that may have a role: the least is the best; None: not it."""
    words, known = _words(name), _WORDS[role]
    hits = [known.index(word) for word in words if word in known]
    timed, filled = role not in ("label", "video"), any(map(str.strip, cells))
    if not hits or (timed and filled and not is_time_column(cells)):
        return None
    if role == "last" and "frame" not in words:
        return None
    if role == "duration" and set(_WORDS["video"]) & set(words):
        return None
    if role == "video" and _OF_VIDEOS & set(words):
        return None
    if role == "label" and not _may_be_label(words):
        return None
    # Times tell more than frame numbers, names more than numbers of classes.
    second_choice = "frame" in words if timed else is_time_column(cells)
    return int(second_choice or not filled), len(words) - 1, min(hits)


def _may_be_label(words: list[str]) -> bool:
    others = {"start", "end", "time", "timestamp", *_WORDS["video"]}
    alone = len(words) == 1 or not _ALONE & set(words)
    strong = set(_WORDS["label"]) - _ALONE
    return not others & set(words) and (alone or bool(strong & set(words)))


def _words(name: str) -> list[str]:
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    whole = name.strip().casefold()
    if whole in _WORDS["label"]:
        return [whole]
    parts = re.findall(r"[a-z]+", whole)
    glued = [
        m for p in parts for m in re.findall(r"^(start|end|stop|begin)(?=time)", p)
    ]
    return [p for p in parts if p not in ("t", "the", "of")] + glued


def _guess_by_content(
    file: AnnotationFile, table: Table, named: dict[str, int]
) -> dict[str, int]:
    free = [k for k in range(table.width) if k not in named.values()]
    timed = [k for k in free if is_time_column(table.column(k))]
    texts = [k for k in free if k not in timed and any(map(str.strip, table.column(k)))]
    videos = [k for k in texts if all(map(is_video_name, table.column(k)))]
    labels = [k for k in texts if k not in videos]
    found = dict(zip(("start", "end"), timed, strict=False)) if len(timed) == 2 else {}
    if len(labels) == 1:
        found["label"] = labels[0]
    if len(videos) == 1:
        found["video"] = videos[0]
    return found


def _keep_one_end(found: dict[str, int]) -> None:
    """An end is exact where a duration may be rounded."""
    for role in ("end", "last"):
        if role in found:
            for other in {"end", "last", "duration"} - {role}:
                found.pop(other, None)
            return


def _check_complete(file: AnnotationFile, table: Table, found: dict[str, int]) -> None:
    missing = [role for role in ("label", "start") if role not in found]
    if not {"end", "last", "duration"} & set(found):
        missing.append("end")
    if missing:
        there = ", ".join(map(table.name, range(table.width)))
        example = ",".join(f"{role}=COLUMN" for role in missing)
        file.fail(
            f"no column is recognised as {' or '.join(missing)} among {there}; name it "
            f"with --columns={example}."
        )
