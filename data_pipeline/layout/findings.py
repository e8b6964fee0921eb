"""What a data set's preparation found and did not repair by itself."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

SEVERITIES = ("error", "warning", "note")
_SHOWN = 5  # findings of one kind that a text lists; the report lists all


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a person should know of their data.

    Attributes:
        severity: "error" prevents the preparation, "warning" may be a mistake, "note"
            says what was done.
        kind: such as "gap": findings of one kind have one remedy.
        where: file and place.
        text: what was found.
        remedy: how to go on, the same for all of a kind; "" if there is nothing to do.
    """

    severity: str
    kind: str
    where: str
    text: str
    remedy: str = ""


def sort(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings, the most severe first, else in their order."""
    return sorted(findings, key=lambda f: SEVERITIES.index(f.severity))


def by_kind(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Returns the findings by severity and kind, the most severe first."""
    found = collections.defaultdict(list)
    for finding in sort(findings):
        found[finding.severity, finding.kind].append(finding)
    return dict(found)


def describe(findings: Sequence[Finding], *, shown: int = _SHOWN) -> str:
    """Returns the findings as text, `shown` of every kind."""
    lines = []
    for (severity, kind), group in by_kind(findings).items():
        lines.append(f"{severity}: {kind} ({len(group)})")
        lines += [f"  {f.where}: {f.text}" for f in group[:shown]]
        if len(group) > shown:
            lines.append(f"  ... and {len(group) - shown} more")
        lines += [f"  -> {remedy}" for remedy in _remedies(group)]
    return "\n".join(lines)


def _remedies(findings: Iterable[Finding]) -> list[str]:
    return list(dict.fromkeys(f.remedy for f in findings if f.remedy))
