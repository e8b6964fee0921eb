"""Times as people and programs write them."""

import math
import re

from svtas_jax.errors import InputError

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
_NO_NUMBER = re.compile(r"[+-]?(?:nan|inf(?:inity)?)", re.I)
_SUFFIX = re.compile(rf"({_NUMBER.pattern})\s*(s|secs?|seconds?|ms|msecs?)", re.I)
_CLOCK = re.compile(r"-?(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)")
_CODE = re.compile(r"(\d+):(\d+):(\d+)([:;])(\d+)")


def shown(text: str) -> str:
    """Returns a text in quotes for a message, cut off if it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def is_time(text: str) -> bool:
    """Returns whether a text is meant as a time or a number, even a wrong one."""
    text = text.strip()
    patterns = (_NUMBER, _NO_NUMBER, _SUFFIX, _CLOCK, _CODE)
    return any(pattern.fullmatch(text) for pattern in patterns)


def is_whole(text: str) -> bool:
    """Returns whether a text is a whole number: seconds or frames, who knows."""
    return re.fullmatch(r"[+-]?\d+", text.strip()) is not None


def parse_number(text: str, where: str) -> float:
    """Returns a finite number, with a decimal point or comma.

    Raises:
        InputError: if the text is no number, or NaN.
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise InputError(
            f"{where}: {shown(text)} is no number such as 12.5; correct or delete it."
        )
    value = float(text.replace(",", "."))
    if not math.isfinite(value):
        raise InputError(f"{where}: {shown(text)} is too large; correct the entry.")
    return value


def parse_seconds(text: str, where: str, *, fps: float | None = None) -> float:
    """Returns the seconds of 12.5, 12,5, 12.5 s, 350 ms, 1:02.5, 0:01:02.5, or codes.

    Time codes are hh:mm:ss:ff, or hh:mm:ss;ff, which drops numbers of frames, and
    hh:mm:ss:mmm with three digits of milliseconds, as Datavyu writes.

    Raises:
        InputError: if the text is none of these, or `fps` is missing for a time code.
    """
    text = text.strip()
    if match := _SUFFIX.fullmatch(text):
        thousandths = match[2].lower().startswith("m")
        return parse_number(match[1], where) / (1000 if thousandths else 1)
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match[1] or "0", int(match[2]), match[3]
        value = _clock(int(hours), minutes, parse_number(seconds, where), text, where)
        if match[1] and minutes >= 60:
            raise InputError(
                f"{where}: {shown(text)} has {minutes} minutes; correct it."
            )
        return -value if text.startswith("-") else value
    if match := _CODE.fullmatch(text):
        return _time_code(match, where, fps)
    if _NUMBER.fullmatch(text):
        return parse_number(text, where)
    raise InputError(
        f"{where}: {shown(text)} is no time; write seconds (12.5), minutes (1:02.5) or "
        "hours (0:01:02.5)."
    )


def _clock(hours: int, minutes: int, seconds: float, text: str, where: str) -> float:
    if seconds >= 60:
        raise InputError(f"{where}: {shown(text)} has {seconds:g} seconds; correct it.")
    return 3600 * hours + 60 * minutes + seconds


def _time_code(match: re.Match[str], where: str, fps: float | None) -> float:
    """SMPTE ST 12-1: a code counts frames at the next whole rate; at 29.97 and 59.94
    frames a second, codes with ";" leave out numbers in nine of ten minutes."""
    hours, minutes, seconds, last = (int(match[k]) for k in (1, 2, 3, 5))
    whole = _clock(hours, minutes, seconds, match[0], where)
    if len(match[5]) == 3 and match[4] == ":":
        return whole + last / 1000
    if fps is None:
        raise InputError(
            f"{where}: the time code {match[0]} counts frames; say how many there are "
            "in a second, such as --fps=25."
        )
    rate = math.ceil(fps - 0.01)
    if last >= rate:
        raise InputError(
            f"{where}: frame {last} of the time code {shown(match[0])} is not below "
            f"--fps={fps:g}; correct one of them."
        )
    frames = whole * rate + last
    if match[4] == ";":
        if rate not in (30, 60) or fps == rate:
            raise InputError(
                f"{where}: the time code {match[0]} leaves out numbers, which "
                f"is for 29.97 and 59.94 frames a second, not for --fps={fps:g}."
            )
        past = 60 * hours + minutes
        frames -= rate // 15 * (past - past // 10)
    return frames / fps
