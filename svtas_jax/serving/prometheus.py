"""The server's figures in Prometheus's text format, version 0.0.4."""

import time
from collections.abc import Iterable, Iterator

import svtas_jax
from svtas_jax.serving.cameras import Camera
from svtas_jax.serving.state import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_JOB_STATES = ("queued", "running", "done", "failed", "cancelled")

Sample = tuple[dict[str, str], float]


def write(state: State) -> str:
    """Returns all figures of the moment."""
    return "".join(_lines(state))


def _lines(state: State) -> Iterator[str]:
    yield from _metric(
        "build_info",
        "gauge",
        "1, with what is served.",
        [
            (
                {
                    "version": svtas_jax.__version__,
                    "system": state.run.config.model.system,
                },
                1,
            )
        ],
    )
    since_s = time.monotonic() - state.began_s
    yield from _plain("uptime_seconds", "gauge", "Since the start.", since_s)
    cameras = state.cameras.all
    for name, kind, text, value_of in _OF_CAMERAS:
        samples = [(_labels(camera), float(value_of(camera))) for camera in cameras]
        yield from _metric(name, kind, text, samples)
    listeners = state.hub.num_clients
    yield from _plain("event_clients", "gauge", "Clients that listen.", listeners)
    viewers = sum(camera.pictures.num_viewers for camera in cameras)
    yield from _plain("video_viewers", "gauge", "Clients that look on.", viewers)
    yield from _plain(
        "browser_cameras", "gauge", "Cameras of browsers.", state.seats.num_taken
    )
    counts = state.jobs.counts()
    jobs = [({"state": name}, float(counts.get(name, 0))) for name in _JOB_STATES]
    yield from _metric("jobs", "gauge", "Uploaded videos that are known.", jobs)


_OF_CAMERAS = (
    (
        "source_up",
        "gauge",
        "1 while it gives frames.",
        lambda c: c.state == "live",
    ),
    ("frames_total", "counter", "Frames that came.", lambda c: c.counters.captured),
    ("steps_total", "counter", "Steps answered.", lambda c: c.history.num_steps),
    (
        "steps_dropped_total",
        "counter",
        "Steps that newer ones replaced.",
        lambda c: c.counters.dropped,
    ),
    (
        "steps_repeated_total",
        "counter",
        "Steps for which there was no frame.",
        lambda c: c.counters.repeated,
    ),
    ("gaps_total", "counter", "Holes in a source's time.", lambda c: c.counters.gaps),
    (
        "reconnects_total",
        "counter",
        "Attempts to open a source again.",
        lambda c: c.counters.reconnects,
    ),
    ("fps", "gauge", "Frames a second over 3 s.", lambda c: c.fps),
    (
        "latency_seconds",
        "gauge",
        "From a frame's arrival to its label, last step.",
        lambda c: c.latency_s,
    ),
    (
        "latency_p95_seconds",
        "gauge",
        "The same, 95th percentile of the last 512 steps.",
        lambda c: c.latency_p95_s,
    ),
    (
        "latency_seconds_total",
        "counter",
        "The same, sum over all steps.",
        lambda c: c.total_s,
    ),
    ("silent_seconds", "gauge", "Since the last answer.", lambda c: c.silent_s),
)


def _labels(camera: Camera) -> dict[str, str]:
    return {"source": str(camera.number), "name": camera.name}


def _plain(name: str, kind: str, text: str, value: float) -> Iterator[str]:
    return _metric(name, kind, text, [({}, value)])


def _metric(
    name: str, kind: str, text: str, samples: Iterable[Sample]
) -> Iterator[str]:
    name = f"svtas_{name}"
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(v)}"' for key, v in labels.items())
        yield f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
