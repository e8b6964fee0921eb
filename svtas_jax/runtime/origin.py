"""Compares the program that wrote a file with the program that reads it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import svtas_jax
from svtas_jax.runtime import provenance


@dataclasses.dataclass(frozen=True)
class Origin:
    """The program that wrote a file, as stored in the file.

    Attributes:
        format: number of the file's format.
        version: of this package, "" if unknown.
        commit: of its repository, None if it was installed without one.
    """

    format: int
    version: str
    commit: str | None

    def __str__(self) -> str:
        commit = f"commit {_short(self.commit)}" if self.commit else "commit unknown"
        return f"svtas_jax {self.version or 'of an unknown version'} ({commit})"


def origin_of(facts: Mapping[str, Any]) -> Origin:
    """Converts stored facts: "format", "versions" and "commit".

    Versions before 0.2.0 stored only "versions"; their format is 1.
    """
    return Origin(
        format=int(facts.get("format", 1)),
        version=str(facts.get("versions", {}).get("svtas_jax", "")),
        commit=facts.get("commit"),
    )


def this_program(format_number: int) -> Origin:
    """Returns this program's origin, for a format with this number."""
    return Origin(format_number, svtas_jax.__version__, provenance.git_commit())


def compared(written: Origin, format_number: int) -> str:
    """Returns a sentence that compares a file's origin with this program."""
    return (
        f"It was written in format {written.format} by {written}; this is "
        f"{this_program(format_number)}, which reads format {format_number}."
    )


def _short(commit: str) -> str:
    digits, dash, rest = commit.partition("-")
    return digits[:12] + dash + rest
