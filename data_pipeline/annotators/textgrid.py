"""Reads Praat's TextGrids, long and short.

Praat's manual ("TextGrid file formats") reads numbers, texts in quotes and flags that
stand alone and skips the rest, which makes both forms one. pympi-ling drops the sign
and the exponent of numbers, so it is not used.
"""

import bisect
import dataclasses
import re
from collections.abc import Iterator

from data_pipeline.annotators import times
from data_pipeline.annotators.file import AnnotationFile, choose_tier
from data_pipeline.annotators.segments import (
    SECONDS,
    Annotation,
    Segment,
    make_segment,
)

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)!.*|<[^>\n]*>|[^\s"]+')


@dataclasses.dataclass(frozen=True)
class _Token:
    text: str
    line: int
    is_text: bool


@dataclasses.dataclass(frozen=True)
class _Reader:
    file: AnnotationFile
    tokens: Iterator[_Token]

    def text(self) -> str:
        return self._next(is_text=True).text

    def number(self) -> float:
        token = self._next(is_text=False)
        return times.parse_number(token.text, self.file.at(token.line))

    def count(self) -> int:
        return int(self.number())

    def interval(self, tier: str) -> tuple[float, float, _Token]:
        start, end = self.number(), self.number()
        return start, end, self._next(is_text=True)

    def _next(self, *, is_text: bool) -> _Token:
        kind = "a text in quotes" if is_text else "a number"
        token = next(self.tokens, None)
        if token is None:
            self.file.fail(
                f"the file ends where {kind} is due; save it in Praat again."
            )
        if token.is_text != is_text:
            self.file.fail(
                f"{token.text!r} stands where {kind} is due; save it in Praat again.",
                line=token.line,
            )
        return token


def read(file: AnnotationFile) -> list[Annotation]:
    """Reads the intervals of a tier, in seconds; empty ones are no segments.

    Intervals that touch share a time, so ends are exclusive. Point tiers are left out.

    Raises:
        InputError: if the tier is unknown or not clear, or the file is cut off.
    """
    reader = _Reader(file, _tokens(file))
    reader.text()  # ooTextFile
    if (kind := reader.text()) != "TextGrid":
        file.fail(f"it holds a {kind!r}, not a TextGrid; save the TextGrid as text.")
    reader.number()
    reader.number()
    tiers = _tiers(file, reader)
    counts = {name: len(found) for name, found in tiers.items()}
    return [file.annotation(tiers[choose_tier(file, counts, "tier")], unit=SECONDS)]


def _tiers(file: AnnotationFile, reader: _Reader) -> dict[str, list[Segment]]:
    tiers: dict[str, list[Segment]] = {}
    for _ in range(reader.count()):
        kind, name = reader.text(), reader.text()
        reader.number()
        reader.number()
        if kind == "IntervalTier":
            if name in tiers:
                file.fail(f"two tiers are called {name!r}; rename one in Praat.")
            tiers[name] = _intervals(file, reader, name)
            continue
        for _ in range(reader.count()):
            reader.number()
            reader.text()
            file.left_out(f"points of the tier {name!r}")
    return tiers


def _intervals(file: AnnotationFile, reader: _Reader, tier: str) -> list[Segment]:
    found = []
    for _ in range(reader.count()):
        start, end, token = reader.interval(tier)
        if token.text.strip():
            where = file.at(f"line {token.line} (tier {tier!r})")
            found.append(make_segment(token.text.replace('""', '"'), start, end, where))
    return found


def _tokens(file: AnnotationFile) -> Iterator[_Token]:
    text = file.text
    ends = [match.start() for match in re.finditer(r"\r\n|\r|\n", text)]
    for match in _TOKEN.finditer(text):
        is_text = match[1] is not None
        token = match[1] if is_text else match[0]
        if is_text or times.is_time(token):
            yield _Token(token, bisect.bisect_left(ends, match.start()) + 1, is_text)
