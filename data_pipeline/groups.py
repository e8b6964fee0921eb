"""Groups of videos, such as those of one person, found in the videos' names; and which
videos are held out of a training."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.structs import VideoRecord

OPTION = "config.train.validation_group"
_SHOWN = 3  # names in a message


def compile_pattern(pattern: str, option: str) -> re.Pattern[str]:
    """Returns a regular expression that finds the group in a name.

    Raises:
        InputError: if it is none; the message names the `option`.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{option}={pattern!r} is no regular expression ({error}); write for "
            rf"example {option}='(S\d+)' for names such as S1_Tea."
        ) from error


def groups_of(names: Sequence[str], pattern: str, option: str) -> tuple[str, ...]:
    """Returns the group of every video, such as the person.

    Args:
        names: of the videos.
        pattern: a regular expression that finds the group in a name: its brackets, or
            all that it matches if it has none.
        option: that the pattern is the value of, for messages.

    Raises:
        InputError: if the pattern is none, or a name does not match.
    """
    expression = compile_pattern(pattern, option)
    found = [_group_of(expression, name) for name in names]
    unknown = [name for name, group in zip(names, found, strict=True) if group is None]
    if unknown:
        raise InputError(
            f"{option}={pattern!r} does not match {_which(unknown, len(names))}, so "
            "the group is not known; write a pattern that matches every name, or "
            "rename videos."
        )
    return tuple(group for group in found if group is not None)


def known_groups(names: Iterable[str], pattern: str, option: str) -> set[str]:
    """Returns the groups of those names that match."""
    expression = compile_pattern(pattern, option)
    found = {_group_of(expression, name) for name in names}
    return {group for group in found if group is not None}


def hold_out(
    records: tuple[VideoRecord, ...], share: float, seed: int, pattern: str = ""
) -> tuple[tuple[VideoRecord, ...], tuple[VideoRecord, ...]]:
    """Splits off validation videos, the same for the same seed.

    Args:
        records: the videos of a training split.
        share: of them to hold out.
        seed: chooses them.
        pattern: `config.train.validation_group`; unless it is empty, whole groups are
            held out, as many as come closest to the share.

    Returns:
        The videos to train on and those held out, at least one each, in their order.

    Raises:
        InputError: if there is one video, or one group; if names do not match.
    """
    if len(records) < 2:
        raise InputError(
            f"The training split has {len(records)} video, too few to hold one out for "
            f"validation; add videos, or use --config.train.selection=test."
        )
    names = tuple(record.name for record in records)
    own = tuple(map(str, range(len(names))))  # a group for each video
    groups = groups_of(names, pattern, OPTION) if pattern else own
    order = list(dict.fromkeys(groups))
    if len(order) < 2:
        raise InputError(
            f"{OPTION}={pattern!r}: all {len(records)} videos of the training "
            f"split are of the group {order[0]!r}, so none can be held out whole. Add "
            "videos of another group, or write a pattern that tells more groups apart; "
            f"{OPTION}= holds out videos of the group that is trained on."
        )
    chosen = np.random.default_rng(seed).permutation(len(order))
    sizes = np.cumsum([groups.count(order[index]) for index in chosen[:-1]])
    num_held = 1 + int(np.argmin(np.abs(sizes - round(share * len(records)))))
    held = {order[index] for index in chosen[:num_held]}
    pairs = list(zip(records, groups, strict=True))
    kept = tuple(record for record, group in pairs if group not in held)
    return kept, tuple(record for record, group in pairs if group in held)


def listed(groups: Iterable[str]) -> str:
    """Returns the groups as words: "S1, S2 and S3"; of many, the first and how many."""
    names = sorted(set(groups))
    if len(names) > 2 * _SHOWN:
        names = [*names[:_SHOWN], f"{len(names) - _SHOWN} others"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _group_of(expression: re.Pattern[str], name: str) -> str | None:
    match = expression.search(name)
    if match is None:
        return None
    if not expression.groups:
        return match[0]
    return "_".join(part for part in match.groups() if part is not None)


def _which(unknown: Sequence[str], num_names: int) -> str:
    names = ", ".join(map(repr, unknown[:_SHOWN]))
    if len(unknown) == 1:
        return f"the video {names}"
    if len(unknown) == num_names:
        return f"any of the {num_names} videos, such as {names}"
    return f"{len(unknown)} of the {num_names} videos, such as {names}"
