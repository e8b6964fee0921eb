"""Prints a Markdown table of runs: how good their labels are, and when they come.

    python scripts/compare_runs.py NAME=RUN[,RUN...] [NAME=...]

Every RUN is the folder of a run that `python -m svtas_jax.evaluate --online` has
evaluated; of several, such as seeds or splits, a row has mean and standard deviation.
"""

import json
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence

from svtas_jax.errors import InputError, MissingInputError

COLUMNS = (
    *(("acc", "Acc", 1), ("edit", "Edit", 1)),
    *(("f1_10", "F1@10", 1), ("f1_25", "F1@25", 1), ("f1_50", "F1@50", 1)),
    *(("frame_map", "mAP", 1), ("emission_delay_s", "wait, s", 2)),
    ("start_delay_median_s", "start delay, s", 2),
    ("start_delay_p95_s", "its p95, s", 2),
    *(("instant_1s", "right in 1 s, %", 1), ("flicker_per_min", "flicker /min", 1)),
)


def table(rows: Mapping[str, Sequence[str]]) -> str:
    """Returns the table of named lists of runs.

    Raises:
        InputError: if a run has no report with online metrics.
    """
    head = ("", "answers", *(title for _, title, _ in COLUMNS))
    lines = [_line(head), _line(["---"] * len(head))]
    for name, runs in rows.items():
        reports = [read(run) for run in runs]
        cells = [
            _cell([r["metrics"][key] for r in reports], n) for key, _, n in COLUMNS
        ]
        answers = ", ".join(sorted({report["answers"] for report in reports}))
        lines.append(_line([name, answers, *cells]))
    return "\n".join(lines)


def read(run: str) -> dict:
    """Returns the online part of a run's report."""
    path = pathlib.Path(run) / "evaluation" / "report.json"
    command = f"python -m svtas_jax.evaluate --workdir={run} --online"
    if not path.is_file():
        raise MissingInputError(f"{path} does not exist; {command} writes it.")
    report = json.loads(path.read_text(encoding="utf-8"))
    if "online" not in report:
        raise InputError(f"{path} has no online metrics; {command} adds them.")
    return report["online"]


def _cell(values: Sequence[float], digits: int) -> str:
    if any(value is None for value in values):
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    rows = {}
    for argument in arguments:
        name, equals, runs = argument.partition("=")
        if not (name and equals and runs):
            print(f"error: {argument!r} is not NAME=RUN[,RUN...].", file=sys.stderr)
            return 2
        rows[name] = runs.split(",")
    if not rows:
        print("error: name runs to compare: NAME=RUN[,RUN...].", file=sys.stderr)
        return 2
    try:
        print(table(rows))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
