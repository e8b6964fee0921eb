"""Says what happens in videos, cameras and addresses as it happens, as JSON lines.

    python -m svtas_jax.stream --workdir=runs/x --source=video.mp4|0|rtsp://...|-
        [--source=...] [--every=step|segment|chunk] [--checkpoint=best|latest|STEP]
        [--engine=jax|onnxruntime|openvino]
        [--output=labels.txt] [--overlay=labels.mp4] [--window]
        [--min_duration=0.5] [--min_confidence=0.5] [--hysteresis=0.1]
        [--once] [--gap_reset=2]

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
from svtas_jax.live.lines import EVERY, Line
from svtas_jax.live.outputs import SourceOutput, Wanted, open_outputs
from svtas_jax.live.results import SourceEnd
from svtas_jax.live.run import Run
from svtas_jax.runtime import cli
from svtas_jax.smoothing import OFF, Smoothing, of_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """What `stream` does with its sources.

    Attributes:
        every: what has a line: step, segment or chunk; by default a segment for a
            causal model, a chunk for others.
        smoothing: of the labels.
        output, overlay, window: see `svtas_jax.live.outputs.Wanted`.
        once: a live source that breaks off is not opened again.
        gap_reset_s: a new stream begins after so many seconds without a frame.
    """

    every: str | None = None
    smoothing: Smoothing = OFF
    output: str | None = None
    overlay: str | None = None
    window: bool = False
    once: bool = False
    gap_reset_s: float = GAP_RESET_S


DEFAULTS = Options()


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    options = Options(
        every=given.every,
        smoothing=of_flags(given),
        output=given.output,
        overlay=given.overlay,
        window=given.window,
        once=given.once,
        gap_reset_s=given.gap_reset,
    )
    run = runs.load(given.workdir, given.checkpoint, engine=given.engine)
    stream(run, given.source, sys.stdout, options)


def stream(
    run: Run,
    sources: Sequence[str],
    out: TextIO,
    options: Options = DEFAULTS,
) -> None:
    """Writes JSON lines about sources, as soon as they are known.

    Args:
        run: see `svtas_jax.load`.
        sources: see `svtas_jax.Run.stream`.
        out: for the lines; with several sources each has the field "source".
        options: see there.

    Raises:
        InputError: if a source cannot be opened, or an output not be written;
            SourceError if a source breaks off. The others are followed to their ends
            before.
        KeyboardInterrupt: after Ctrl-C, when what was in hand has been answered.
    """
    wanted = Wanted(
        every=options.every or ("segment" if run.causal else "chunk"),
        output=options.output,
        overlay=options.overlay,
        window=options.window,
    )
    session = run.open_stream(
        num_sources=len(sources),
        gap_reset_s=options.gap_reset_s,
        smoothing=options.smoothing,
    )
    outputs = open_outputs(
        *(sources, wanted),
        class_names=run.class_names,
        background=tuple(run.config.eval.background),
        step_s=session.step_s,
    )
    with contextlib.ExitStack() as stack:
        for output in outputs:
            stack.callback(output.discard)
        feed = Feed(
            session,
            sources,
            once=options.once,
            keeps_pictures=wanted.needs_pictures,
        )
        with _closed_by_signals(feed):
            errors = _follow(feed, outputs, out, options.smoothing)
    _raise_first(errors)


def _follow(
    feed: Feed,
    outputs: Sequence[SourceOutput],
    out: TextIO,
    smoothing: Smoothing,
) -> list[tuple[int, Exception]]:
    """Follows all sources to their ends; returns the frames and errors of those that
    failed."""
    errors = []
    for event in feed:
        output = outputs[event.source]
        if isinstance(event, SourceEnd):
            lines = output.end(event)
            errors += [(event.num_frames, event.error)] if event.error else []
            _report(output.name, event)
            if not smoothing.is_off:
                _report_delays(output.name, event)
        else:
            lines = output.add(event)
        _write(lines, output.name if len(outputs) > 1 else None, out)
        if output.is_closed_by_user:
            feed.close()
    return errors


def _write(lines: Sequence[Line], source: str | None, out: TextIO) -> None:
    for line in lines:
        named = line if source is None else {"source": source, **line}
        out.write(json.dumps(named, ensure_ascii=False) + "\n")
        out.flush()


def _report(source: str, end: SourceEnd) -> None:
    seen = end.counters
    logging.info(
        "%s: %d frames, %d steps answered, %d dropped, %d repeated, %d gaps, "
        "%d reconnects, lag p95 %.0f ms",
        *(source, seen.captured, seen.used, seen.dropped, seen.repeated, seen.gaps),
        *(seen.reconnects, 1e3 * seen.lag_p95_s),
    )


def _report_delays(source: str, end: SourceEnd) -> None:
    delays = end.delays
    logging.info(
        "%s: smoothing showed %d changes, %.2f s late on average and %.2f s at most",
        *(source, delays.number, delays.mean_s, delays.max_s),
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
    cli.define("workdir", "checkpoint", "engine", "source", "once", *cli.SMOOTHING)
    flags.DEFINE_float(
        "gap_reset",
        GAP_RESET_S,
        "Seconds without a frame after which a new stream begins.",
        lower_bound=0.0,
    )
    flags.DEFINE_enum(
        "every",
        None,
        EVERY,
        "What has a line of its own. By default a segment for causal models, and a "
        "chunk for others.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "Text file (of several sources a folder) for the class of every frame.",
    )
    flags.DEFINE_string(
        "overlay",
        None,
        "Video (of several sources a folder) of the steps with the labels drawn on "
        "them: .mp4, .mkv or .mov.",
    )
    flags.DEFINE_bool("window", False, "Show pictures with labels; q closes it.")
    cli.run(main, required=("workdir", "source"))
