"""An annotation file: its text, XML or JSON, and what was guessed about it."""

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.parsers import expat

from absl import logging

from data_pipeline.annotators.segments import Annotation, Segment
from svtas_jax.errors import InputError

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclasses.dataclass(frozen=True)
class Notes:
    """What readers guessed or left out, each told once for all files."""

    told: dict[tuple[int, str], dict[str, int]] = dataclasses.field(
        default_factory=dict
    )

    def add(self, path: pathlib.Path, message: str, *, level: int, count: int) -> None:
        """Adds a message about a file, and how many entries it is about."""
        files = self.told.setdefault((level, message), {})
        files[str(path)] = files.get(str(path), 0) + count

    def log(self) -> None:
        """Logs every message with the first file and the number of further ones."""
        for (level, message), files in self.told.items():
            total, first = sum(files.values()), next(iter(files))
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            times = f" ({total})" if total else ""
            logging.log(level, "%s%s: %s%s", first, more, message, times)


@dataclasses.dataclass(frozen=True)
class AnnotationFile:
    """An opened file and how to read it.

    Args:
        path: of the file.
        data: its bytes.
        tier: the tier, subject or attribute to take; None if there is only one.
        columns: column or code by role, such as {"label": "Behaviour"}.
        fps: frames a second of time codes that count frames.
        notes: takes what the reader guesses or leaves out.
    """

    path: pathlib.Path
    data: bytes
    tier: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fps: float | None = None
    notes: Notes = dataclasses.field(default_factory=Notes)

    @functools.cached_property
    def text(self) -> str:
        """The text, in UTF-8, or in UTF-16 or 32 with a byte order mark.

        Raises:
            InputError: if it is in another encoding.
        """
        encoding = next((e for m, e in _MARKS if self.data.startswith(m)), None)
        try:
            return self.data.decode(encoding or self._unmarked_encoding())
        except UnicodeDecodeError as error:
            line = self.data[: error.start].count(b"\n") + 1
            self.fail(
                f"byte {self.data[error.start]:#04x} is not {error.encoding} text; "
                "save the file as UTF-8.",
                line=line,
            )

    def _unmarked_encoding(self) -> str:
        """UTF-16 without a mark has a zero byte in every other place."""
        head = self.data[:200]
        if len(head) > 1 and b"\0" in head:
            return (
                "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
            )
        return "utf-8"

    @functools.cached_property
    def lines(self) -> list[str]:
        """The lines, without what ends them."""
        return re.split(r"\r\n|\r|\n", self.text)

    def numbered_lines(self) -> Iterable[tuple[int, str]]:
        """Yields number and text of every line that is not blank, from 1."""
        for number, line in enumerate(self.lines, 1):
            if line.strip():
                yield number, line

    @functools.cached_property
    def xml(self) -> tuple[ElementTree.Element, dict[ElementTree.Element, int]]:
        """Returns the root element, and the line of every element.

        Raises:
            InputError: if the XML is broken, or has a document type, which may define
                entities that grow without bounds.
        """
        parser, builder = expat.ParserCreate(), ElementTree.TreeBuilder()
        lines: dict[ElementTree.Element, int] = {}

        def start(tag: str, attributes: dict[str, str]) -> None:
            lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

        def refuse(*_) -> NoReturn:
            self.fail(
                "a document type is not read, as it may define entities; delete "
                "<!DOCTYPE ...>.",
                line=parser.CurrentLineNumber,
            )

        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = start, builder.end
        parser.CharacterDataHandler = builder.data
        parser.StartDoctypeDeclHandler = refuse
        try:
            parser.Parse(self.data, True)
        except (expat.ExpatError, LookupError) as error:
            line = getattr(error, "lineno", 1)
            self.fail(f"broken XML ({error}); export the file again.", line=line)
        return builder.close(), lines

    @functools.cached_property
    def json(self) -> Any:
        """The JSON value.

        Raises:
            InputError: if it is broken.
        """
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            self.fail(
                f"broken JSON ({error.msg}); export the file again.", line=error.lineno
            )
        except (RecursionError, ValueError):  # the latter of very long numbers
            self.fail("the JSON is nested too deeply, or has absurd numbers.")

    def fail(self, message: str, *, line: int | None = None) -> NoReturn:
        """Raises an InputError that names the file, and the line if it is known."""
        raise InputError(f"{self.at(line)}: {message}")

    def at(self, place: int | str | None = None) -> str:
        """Returns "file, line 7" for messages, or "file, PLACE"."""
        if place is None:
            return str(self.path)
        return f"{self.path}, {place if isinstance(place, str) else f'line {place}'}"

    def guessed(self, message: str) -> None:
        """Tells the user how the file was read, where it could be read otherwise."""
        self.notes.add(self.path, message, level=logging.INFO, count=0)

    def left_out(self, message: str, count: int = 1) -> None:
        """Tells the user what of the file is not in the segments."""
        told = f"left out: {message}"
        self.notes.add(self.path, told, level=logging.WARNING, count=count)

    def annotation(
        self, segments: Iterable[Segment], *, unit: str, video: str = ""
    ) -> Annotation:
        """Returns the segments as an annotation of `video`, or of the file's stem."""
        video = video_name(video) or self.path.stem
        return Annotation(video, unit, tuple(segments), str(self.path))


def video_name(place: str) -> str:
    """Returns the file name of a path of any system, or of an URL."""
    place = place.strip()
    if re.match(r"\w{2,}:/|/data/", place):
        query = re.search(r"[?&]d=([^&]+)", place)  # Label Studio's local files
        place = unquote(query[1] if query else place.partition("?")[0])
    return re.split(r"[/\\]", place.rstrip("/\\"))[-1]


def choose_tier(file: AnnotationFile, counts: Mapping[str, int], kind: str) -> str:
    """Returns the tier that the user named, or the only one with segments.

    Args:
        file: that holds the tiers.
        counts: segments by name of the tier.
        kind: what the format calls a tier.

    Raises:
        InputError: if there is no such tier, or several.
    """
    listed = ", ".join(f"{name!r} ({count})" for name, count in counts.items())
    if file.tier is not None:
        if file.tier in counts:
            return file.tier
        file.fail(f"there is no {kind} {file.tier!r}; --tier: {listed or 'none'}.")
    filled = [name for name, count in counts.items() if count]
    if not filled:
        file.fail(f"no {kind} has a segment; leave the file out or annotate it.")
    if len(filled) > 1:
        file.fail(
            f"several {kind}s with segments: {listed}. A frame has one label; choose "
            f"with --tier={_quoted(filled[0])}."
        )
    file.guessed(f"{kind} {filled[0]!r}")
    return filled[0]


def _quoted(name: str) -> str:
    return f"'{name}'" if re.search(r"[^\w.-]", name) else name
