"""Says what happens in videos, cameras and addresses as it happens, as JSON lines.

    python -m svtas_jax.stream --workdir=runs/x --source=video.mp4|0|rtsp://...|-
        [--source=...] [--every=step|segment|chunk] [--checkpoint=best|latest|STEP]

A causal model answers every step when it comes; others a chunk at a time. Several
sources are computed together. Ctrl-C ends the command within a second. It exits with 0
if all sources ended, with 3 if one of them broke off.
"""

import contextlib
import dataclasses
import json
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from typing import TextIO

from absl import flags, logging

from data_pipeline.reader import GAP_RESET_S
from svtas_jax import runs
from svtas_jax.errors import InputError, SourceError
from svtas_jax.live.feed import Feed
from svtas_jax.live.lines import EVERY, lines_of
from svtas_jax.live.results import SourceEnd
from svtas_jax.runtime import cli


@dataclasses.dataclass(frozen=True)
class Options:
    """What `stream` does with a source.

    Attributes:
        every: what has a line: step, segment or chunk; by default a segment for a
            causal model, a chunk for others.
        once: a live source that breaks off is not opened again.
        gap_reset_s: a new stream begins after so many seconds without a frame.
    """

    every: str | None = None
    once: bool = False
    gap_reset_s: float = GAP_RESET_S


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    options = Options(given.every, given.once, given.gap_reset)
    stream(
        runs.load(given.workdir, given.checkpoint), given.source, sys.stdout, options
    )


def stream(
    run: runs.Run, sources: Sequence[str], out: TextIO, options: Options = Options()
) -> None:
    """Writes JSON lines about sources, as soon as they are known.

    Args:
        run: see `svtas_jax.load`.
        sources: see `svtas_jax.Run.stream`.
        out: for the lines; with several sources each has the field "source".
        options: see there.

    Raises:
        InputError: if a source cannot be opened; SourceError if one breaks off. The
            others are followed to their ends before.
        KeyboardInterrupt: after Ctrl-C, when what was in hand has been answered.
    """
    session = run.open_stream(num_sources=len(sources), gap_reset_s=options.gap_reset_s)
    every = options.every or ("segment" if run.model.causal else "chunk")
    make = lines_of(every, class_names=run.class_names, step_s=session.step_s)
    lines = [make() for _ in sources]
    feed, errors = Feed(session, sources, once=options.once), []
    with _closed_by_signals(feed):
        for event in feed:
            maker = lines[event.source]
            if isinstance(event, SourceEnd):
                found = maker.end(event)
                errors += [(event.num_frames, event.error)] if event.error else []
                _report(sources[event.source], event)
            else:
                found = maker.add(event)
            for line in found:
                if len(sources) > 1:
                    line = {"source": sources[event.source], **line}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                out.flush()
    _raise_first(errors)


def _report(source: str, end: SourceEnd) -> None:
    seen = end.counters
    logging.info(
        "%s: %d frames, %d steps answered, %d dropped, %d repeated, %d gaps, "
        "%d reconnects, lag p95 %.0f ms",
        *(source, seen.captured, seen.used, seen.dropped, seen.repeated, seen.gaps),
        *(seen.reconnects, 1e3 * seen.lag_p95_s),
    )


def _raise_first(errors: Sequence[tuple[int, Exception]]) -> None:
    """Raises the error of a source that never began, else of one that broke off."""
    if not errors:
        return
    num_frames, error = min(errors, key=lambda pair: pair[0])
    others = f" ({len(errors) - 1} more failed.)" if len(errors) > 1 else ""
    if num_frames:
        raise SourceError(f"{error}{others}") from error
    raise InputError(f"{error}{others}") if others else error


@contextlib.contextmanager
def _closed_by_signals(feed: Feed) -> Iterator[None]:
    """Ends a feed on the first SIGINT or SIGTERM, and the command after it."""
    came: list[int] = []

    def close(number: int, frame: types.FrameType | None) -> None:
        del frame
        if came:
            raise KeyboardInterrupt
        came.append(number)
        feed.close()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, close) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


if __name__ == "__main__":
    cli.define("workdir", "checkpoint")
    flags.DEFINE_multi_string(
        "source",
        None,
        "Video file, camera number, URL, pipe, or - for standard input; may be given "
        "several times.",
    )
    flags.DEFINE_enum(
        "every",
        None,
        EVERY,
        "What has a line of its own. By default a segment for causal models, and a "
        "chunk for others.",
    )
    flags.DEFINE_bool("once", False, "Do not open a live source again if it breaks.")
    flags.DEFINE_float(
        "gap_reset",
        GAP_RESET_S,
        "Seconds without a frame after which a new stream begins.",
        lower_bound=0.0,
    )
    cli.run(main, required=("workdir", "source"))
