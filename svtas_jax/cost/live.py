"""Measures live streams: from the moment a camera sends a picture to its label."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from absl import logging

from svtas_jax.config import stream_spec
from svtas_jax.cost.benchmark import FPS, moving_shapes
from svtas_jax.cost.loopback import Cameras
from svtas_jax.errors import InputError
from svtas_jax.evaluation import report
from svtas_jax.live.feed import Feed
from svtas_jax.live.results import SourceEnd, StepResult
from svtas_jax.live.run import Run
from svtas_jax.live.session import LiveSession
from svtas_jax.runtime import provenance

PARTS = ("arrive", "decode", "wait", "compute", "deliver", "total")
_SETTLING_S = 2.0  # left out: connections begin with what they have gathered
_SLACK_S = 0.05  # a label may come so long after its step's time
_MOST_DROPPED = 0.01
_NUM_PICTURES = 30
_GAP_RESET_S = 60.0  # no stream begins anew while it is measured

OpenSession = Callable[[int], LiveSession]


@dataclasses.dataclass(frozen=True)
class LiveFigures:
    """What was measured with a number of cameras.

    Attributes:
        cameras: how many.
        latency_ms: p50, p95 and p99 of each of `PARTS`: from sending to arrival,
            decoding and resizing, waiting (for a chunk's other frames, or the model),
            the model, handing the answer on; and from sending to label.
        real_time_factor: seconds of a step over those that the model works for it.
        steps: that were answered, and those `dropped`.
        keeps_up: whether at most 1 % were dropped and 99 % of the labels came within
            the time of the steps that are answered together, plus 50 ms.
    """

    cameras: int
    latency_ms: dict[str, dict[str, float]]
    real_time_factor: float
    steps: int
    dropped: int
    keeps_up: bool


def run(run: Run, *, seconds: float, path: str | None = None) -> None:
    """Measures a run, logs and writes the figures.

    Raises:
        InputError: if the run reads features, or `seconds` are too few.
    """
    if seconds < 2 * _SETTLING_S:
        raise InputError(f"--seconds={seconds:g} must be at least {2 * _SETTLING_S:g}.")
    found = most_cameras(opener(run), seconds=seconds)
    for line in describe(found, run):
        logging.info("%s", line)
    facts = {
        "live": [dataclasses.asdict(figures) for figures in found],
        "engine": run.engine,
        "device": provenance.hardware(),
        "config": run.config.to_dict(),
    }
    report.write_figures(facts, path)


def opener(run: Run) -> OpenSession:
    """Returns what opens sessions in which no stream begins anew."""
    return lambda count: run.open_stream(num_sources=count, gap_reset_s=_GAP_RESET_S)


def most_cameras(open_session: OpenSession, *, seconds: float) -> list[LiveFigures]:
    """Measures 1, 2, 4 and more cameras until they do not keep up, then between."""
    found = {}

    def keeps_up(count: int) -> bool:
        found[count] = measure_cameras(open_session, count, seconds=seconds)
        keeps = "keep up" if found[count].keeps_up else "do not keep up"
        p99 = found[count].latency_ms["total"]["p99"]
        logging.info("%d cameras %s, p99 %.1f ms", count, keeps, p99)
        return found[count].keeps_up

    good, bad = 0, 1
    while keeps_up(bad):
        good, bad = bad, 2 * bad
    while bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if keeps_up(middle) else (good, middle)
    return [found[count] for count in sorted(found)]


def measure_cameras(
    open_session: OpenSession, count: int, *, seconds: float
) -> LiveFigures:
    """Measures a session of so many cameras at `FPS` pictures a second."""
    session = open_session(count)
    cameras = Cameras(
        [_jpeg(index) for index in range(_NUM_PICTURES)],
        fps=FPS,
        num_pictures=int(seconds * FPS),
        num_cameras=count,
    )
    rows, dropped = [], 0
    with cameras:
        for event in Feed(session, cameras.addresses, once=True):
            if isinstance(event, SourceEnd):
                _check_end(event)
            elif event.time_s > _SETTLING_S:
                rows.append(_parts(event, cameras))
                dropped += event.dropped
    return _figures(count, np.array(rows), dropped, session)


def _check_end(end: SourceEnd) -> None:
    if not end.num_frames and end.error is not None:
        raise end.error


def _parts(step: StepResult, cameras: Cameras) -> list[float]:
    """Returns the seconds of `PARTS`."""
    latency, now_s = step.latency, time.monotonic()
    total_s = now_s - cameras.sent_s(step.source, step.frame)
    deliver_s = now_s - step.answered_s
    arrive_s = total_s - deliver_s - latency.total_s
    return [
        arrive_s,
        latency.decode_s,
        latency.wait_s,
        latency.compute_s,
        deliver_s,
        total_s,
    ]


def _figures(
    count: int, rows: np.ndarray, dropped: int, session: LiveSession
) -> LiveFigures:
    ranks = np.percentile(1e3 * rows, (50, 95, 99), axis=0).T
    latency = {
        part: dict(zip(("p50", "p95", "p99"), map(float, row), strict=True))
        for part, row in zip(PARTS, ranks, strict=True)
    }
    steps = session.steps_per_answer
    limit_ms = 1e3 * (steps * session.step_s + _SLACK_S)
    is_in_time = latency["total"]["p99"] <= limit_ms
    return LiveFigures(
        cameras=count,
        latency_ms=latency,
        real_time_factor=1e3 * steps * session.step_s / latency["compute"]["p50"],
        steps=len(rows),
        dropped=dropped,
        keeps_up=is_in_time and dropped <= _MOST_DROPPED * (len(rows) + dropped),
    )


def _jpeg(index: int) -> bytes:
    _, encoded = cv2.imencode(".jpg", moving_shapes(index))
    return encoded.tobytes()


def describe(found: Sequence[LiveFigures], run: Run) -> Iterable[str]:
    """Returns the figures as lines of text."""
    crop, spec = run.config.data.crop, stream_spec(run.config)
    yield f"device   {provenance.hardware()}, {run.config.model.dtype}, {run.engine}"
    yield (
        f"cameras  {FPS:g} pictures a second, a step of {crop} x {crop} every "
        f"{1e3 * spec.frame_stride / FPS:.0f} ms"
    )
    yield f"{'cameras':>7}  {'p50 / p95 / p99 in ms: ' + ', '.join(PARTS)}"
    for row in found:
        yield f"{row.cameras:>7}  {_describe_row(row)}"
    best = max((row.cameras for row in found if row.keeps_up), default=0)
    yield f"{best} cameras keep up"


def _describe_row(row: LiveFigures) -> str:
    def ranks(values: dict[str, Any]) -> str:
        return "/".join(f"{value:.1f}" for value in values.values())

    parts = ", ".join(ranks(row.latency_ms[part]) for part in PARTS)
    verdict = "" if row.keeps_up else ", too many or too late"
    return (
        f"{parts}; {row.real_time_factor:.1f} times real time, {row.dropped} of "
        f"{row.steps + row.dropped} dropped{verdict}"
    )
