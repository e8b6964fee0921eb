"""Checks the program against golden files of the public PyTorch code.

    python scripts/check_golden.py DIR [--json]

Prints the worst error of every file and mode against its tolerance. Exits with 1 if a
check fails or the kind of a file is unknown, with 2 if there is nothing to check.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from golden_checks.files import GoldenFile, list_files, read_file
from golden_checks.kinds import kind_of
from golden_checks.results import worst_by_mode

_NUM_THREADS = 2  # compiling takes nearly all time, on less than two cores


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    file: str
    kind: str
    mode: str
    worst_error: float | None
    tolerance: float | None
    verdict: str  # "pass", "FAIL", "not yet covered", or "retried": the next row counts
    where: str  # the array with the worst error, or what went wrong


def check_file(file: GoldenFile) -> Iterator[Row]:
    """Yields a row per mode of one file."""
    kind = kind_of(file)
    if kind is None:
        why = "unknown contents: neither arrays nor description fit any kind"
        yield Row(file.name, "unknown", "-", None, None, "FAIL", why)
        return
    if kind.check is None:
        yield Row(file.name, kind.name, "-", None, None, "not yet covered", "")
        return
    try:
        with jax.default_matmul_precision("highest"):
            worst = worst_by_mode(list(kind.check(file)))
    except Exception as error:  # one file must not hide the results of others
        why = f"{type(error).__name__}: {error}"
        yield Row(file.name, kind.name, "-", None, None, "FAIL", why)
        return
    if not worst:
        yield Row(file.name, kind.name, "-", None, None, "FAIL", "nothing to compare")
    for result in worst:
        verdict = "pass" if result.passed else "FAIL"
        if result.retried:
            verdict = "retried"
        yield Row(
            file.name,
            kind.name,
            result.mode,
            float(result.error),
            float(result.tolerance),
            verdict,
            result.name,
        )


def _check_path(path: pathlib.Path) -> list[Row]:
    return list(check_file(read_file(path)))


def _print_row(row: Row) -> None:
    def number(value):
        return "" if value is None else f"{value:.2g}"

    name = row.where if row.verdict in ("FAIL", "retried") else ""
    print(
        f"{row.file:36} {row.mode:24} {number(row.worst_error):>9} "
        f"{number(row.tolerance):>9}  {row.verdict:7} {name}".rstrip(),
        flush=True,
    )


def _as_json(row: Row) -> dict:
    fields: dict[str, Any] = dataclasses.asdict(row)
    if row.worst_error is not None and not math.isfinite(row.worst_error):
        fields["worst_error"] = str(row.worst_error)  # JSON has no infinity
    return fields


def _usage_error(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", metavar="DIR", help="folder with golden files")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    args = parser.parse_args(argv)
    folder = pathlib.Path(args.folder)
    if not folder.is_dir():
        return _usage_error(f"{folder} is not a folder; name that of the golden files.")
    began, rows = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
        for rows_of_file in pool.map(_check_path, list_files(folder)):
            rows.extend(rows_of_file)
            if not args.json:
                for row in rows_of_file:
                    _print_row(row)
    if not rows:
        return _usage_error(f"{folder} holds neither .npz nor .json files.")
    failed = sum(row.verdict == "FAIL" for row in rows)
    if args.json:
        print(json.dumps([_as_json(row) for row in rows], indent=1))
    else:
        open_kinds = sum(row.verdict == "not yet covered" for row in rows)
        seconds = time.monotonic() - began
        print(
            f"{sum(row.verdict == 'pass' for row in rows)} passed, {failed} failed, "
            f"{open_kinds} files not yet covered, in {seconds:.0f} s"
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
