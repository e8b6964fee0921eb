"""Examines a data set whole before somebody trains on it.

    python -m data_pipeline.check --config=configs/gtea_sete.py [--output=FOLDER]
        [--strict] [--ignore=KIND,KIND] [--threads=N]

Every video is decoded to its end; labels, mapping and splits are read to theirs, and
all that is wrong comes in one table, in FOLDER/check.html with a picture on both sides
of every border, and in FOLDER/check.json. The exit code is 1 if there are errors (with
--strict also if there are warnings) and 0 if not.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import ml_collections
from absl import flags, logging

from data_pipeline.checking import page, report
from data_pipeline.checking.examine import Examination, examine
from data_pipeline.checking.facts import Job, Scan
from data_pipeline.checking.findings import Finding
from data_pipeline.checking.kinds import KINDS, Severity
from data_pipeline.checking.scan import Scanner, in_threads
from data_pipeline.demo import render
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError
from svtas_jax.evaluation.background import check_background
from svtas_jax.runtime import cli
from svtas_jax.runtime.files import make_folder, write_atomic
from svtas_jax.runtime.progress import Progress

_OPTION = "--output"
_LINE_S = 5.0  # between two lines on the progress


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    check_kinds(given.ignore)
    examined = check(
        given.config,
        followed(given.threads or os.cpu_count() or 1),
        output=given.output,
        ignore=given.ignore,
    )
    worst = Severity.WARNING if given.strict else Severity.ERROR
    if any(finding.severity <= worst for finding in examined.findings):
        sys.exit(1)


def check(
    config: ml_collections.ConfigDict,
    scanner: Scanner,
    *,
    output: str | os.PathLike,
    ignore: Sequence[str] = (),
) -> Examination:
    """Examines a data set, logs the table, and writes check.html and check.json.

    Raises:
        InputError: if the config is wrong, or `output` cannot be written.
    """
    validate_config(config)
    render.ensure_configured(config.data)
    folder = make_folder(output, option=_OPTION)
    examined = examine(config.data, scanner, ignore=ignore)
    if "unknown_background" not in ignore:
        examined = examined.also(background_findings(config, examined))
    logging.info("%s", report.text(examined))
    facts = json.dumps(report.as_json(examined), ensure_ascii=False, indent=1)
    write_atomic(folder / "check.json", encodable(facts) + "\n", option=_OPTION)
    path = write_atomic(
        folder / "check.html", encodable(page.render(examined)), option=_OPTION
    )
    logging.info("Look at %s", path)
    return examined


def followed(num_threads: int) -> Scanner:
    """Returns a scanner that logs how far it is."""

    def scan_all(jobs: Sequence[Job]) -> Iterator[tuple[Job, Scan]]:
        follower = Follower(sum(job.num_frames for job in jobs))
        for count, result in enumerate(in_threads(num_threads, follower.tick)(jobs), 1):
            follower.text = f"{count} of {len(jobs)} videos decoded"
            yield result
        if jobs:
            follower.say()

    return scan_all


class Follower:
    """Counts frames as threads decode them, and logs a line every few seconds.

    Attributes:
        text: goes into the line.
    """

    def __init__(self, num_frames: int) -> None:
        self._total, self._done = num_frames, 0
        self._progress = Progress(first=0, last=num_frames)
        self._lock, self._said_s = threading.Lock(), time.monotonic()
        self.text = ""

    def tick(self, num_frames: int) -> None:
        """Adds frames that were decoded."""
        with self._lock:
            self._done += num_frames
            self._progress.add(num_frames)
            if time.monotonic() - self._said_s >= _LINE_S:
                self.say()

    def say(self) -> None:
        """Logs a line."""
        self._said_s = time.monotonic()
        # Labels told how many frames to expect, and may be wrong.
        done = min(self._done, self._total)
        logging.info("%s", self._progress.line(done, self.text))


def background_findings(
    config: ml_collections.ConfigDict, examined: Examination
) -> list[Finding]:
    """Returns what is wrong with `config.eval.background`."""
    classes = examined.data.classes[: examined.data.num_classes]
    try:
        if classes:
            check_background(config, classes)
    except InputError as error:
        return [Finding("unknown_background", "config", str(error))]
    return []


def encodable(text: str) -> str:
    """Returns a text as UTF-8 can hold it: names of files may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_kinds(names: Sequence[str]) -> None:
    """Checks --ignore.

    Raises:
        InputError: if it names no kind of finding.
    """
    for name in names:
        if name not in KINDS:
            raise InputError(
                f"--ignore={name}: there is no such kind of finding; the kinds are "
                f"{', '.join(KINDS)}."
            )


def define_flags() -> None:
    """Defines the flags of this command alone."""
    flags.DEFINE_string("output", "check", "Folder for check.html and check.json.")
    flags.DEFINE_bool("strict", False, "Exit with 1 also if there are only warnings.")
    flags.DEFINE_list("ignore", [], "Kinds of findings to leave out.")
    flags.DEFINE_integer("threads", 0, "0: one per core.", lower_bound=0)


if __name__ == "__main__":
    cli.define("config")
    define_flags()
    cli.run(main, required=("config",))
