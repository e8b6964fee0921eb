"""Which program wrote what lies on the disk, against the one that reads it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import svtas_jax
from svtas_jax.runtime import provenance


@dataclasses.dataclass(frozen=True)
class Origin:
    """Who wrote something, as it says itself.

    Attributes:
        format: number of its layout; it was raised whenever the layout changed.
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
    """Reads it from the facts that are stored beside something: "format", "versions"
    and "commit". Before 0.2.0 only the versions were stored, and all was format 1."""
    return Origin(
        format=int(facts.get("format", 1)),
        version=str(facts.get("versions", {}).get("svtas_jax", "")),
        commit=facts.get("commit"),
    )


def this_program(format_number: int) -> Origin:
    """Returns what this program writes as, in a format of this number."""
    return Origin(format_number, svtas_jax.__version__, provenance.git_commit())


def compared(written: Origin, format_number: int) -> str:
    """Returns a sentence on who wrote something and who cannot read it."""
    return (
        f"It was written in format {written.format} by {written}; this is "
        f"{this_program(format_number)}, which reads format {format_number}."
    )


def _short(commit: str) -> str:
    digits, dash, rest = commit.partition("-")
    return digits[:12] + dash + rest
