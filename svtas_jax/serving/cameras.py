"""The sources named on the command line: one thread reads the answers of a feed."""

import collections
import dataclasses
import datetime
import pathlib
import threading
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from data_pipeline.sources import TIMEOUT_S, kind_of
from data_pipeline.step_queue import Counters
from svtas_jax.evaluation.results import TimedSegment
from svtas_jax.live.feed import Feed
from svtas_jax.live.results import SourceEnd, StepResult
from svtas_jax.live.session import LiveSession
from svtas_jax.serving.history import History
from svtas_jax.serving.hub import Hub
from svtas_jax.serving.pictures import Pictures

_RATE_S = 3.0  # over which frames a second are counted
_LATENCIES = 512  # of the last answers, for their percentile
_CLOSE_S = 1.0


def shown_name(source: str) -> str:
    """Returns how a source is called: without its folder, password and query."""
    kind = kind_of(source)
    if kind == "stdin":
        return "standard input"
    if kind == "camera":
        return f"camera {source}"
    if kind != "address":
        return pathlib.Path(source).name
    parts = urllib.parse.urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclasses.dataclass(eq=False)
class Camera:
    """A source and what is known of it.

    Attributes:
        number: in the order of the command line, from 0.
        source: as the command line names it, which clients must not see.
        history: its segments and steps.
        pictures: its newest picture.
        state: waiting (nothing came yet), live, ended or broken.
        reason: why it broke off, or why it is to be opened again.
        began: when its first answer came.
        last: the last answer, without the picture.
        answered_s: when it came, in seconds of the monotonic clock.
        counters: as of the last second.
        fps: frames that came in a second.
        total_s: sum of the latencies of all answers.
    """

    number: int
    source: str
    history: History
    pictures: Pictures
    state: str = "waiting"
    reason: str = ""
    began: datetime.datetime | None = None
    last: StepResult | None = None
    answered_s: float = 0.0
    counters: Counters = Counters()
    fps: float = 0.0
    total_s: float = 0.0
    _latencies: collections.deque[float] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_LATENCIES)
    )
    _captured: collections.deque[tuple[float, int]] = dataclasses.field(
        default_factory=collections.deque
    )

    @property
    def name(self) -> str:
        """What clients see of its address."""
        return shown_name(self.source)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state in ("ended", "broken")

    @property
    def silent_s(self) -> float:
        """Seconds since the last answer of a source that goes on."""
        is_on = self.state == "live"
        return time.monotonic() - self.answered_s if is_on else 0.0

    @property
    def latency_s(self) -> float:
        """From arrival to label, of the last answer."""
        return 0.0 if self.last is None else self.last.latency.total_s

    @property
    def latency_p95_s(self) -> float:
        """The 95th percentile of the last answers'."""
        latencies = tuple(self._latencies)
        return float(np.percentile(latencies, 95)) if latencies else 0.0

    def take(self, step: StepResult) -> TimedSegment | None:
        """Takes an answer; returns the segment that it ends, if any."""
        self.pictures.put(step.picture)
        step = dataclasses.replace(step, picture=None)
        self.last, self.answered_s = step, time.monotonic()
        self.total_s += step.latency.total_s
        self._latencies.append(step.latency.total_s)
        return self.history.add(step)

    def count(self, counters: Counters) -> None:
        """Takes the counters of the moment."""
        self.counters, now_s = counters, time.monotonic()
        self._captured.append((now_s, counters.captured))
        while now_s - self._captured[0][0] > _RATE_S:
            self._captured.popleft()
        since_s, captured = self._captured[0]
        passed_s = now_s - since_s
        self.fps = (counters.captured - captured) / passed_s if passed_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns what clients see."""
        last = None if self.last is None else step_json(self.last)
        return {
            "source": self.number,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "began": self.began.isoformat(timespec="seconds") if self.began else None,
            "last": last,
            "counters": self.counters_json(),
        }

    def counters_json(self) -> dict[str, Any]:
        """Returns the figures that change all the time."""
        counters = self.counters  # whose lag ends before the model
        return {
            "captured": counters.captured,
            "used": counters.used,
            "dropped": counters.dropped,
            "repeated": counters.repeated,
            "gaps": counters.gaps,
            "reconnects": counters.reconnects,
            "latency_ms": round(1e3 * self.latency_s, 1),
            "latency_p95_ms": round(1e3 * self.latency_p95_s, 1),
            "fps": round(self.fps, 1),
            "silent_s": round(self.silent_s, 1),
            "steps": self.history.num_steps,
        }


def step_json(step: StepResult) -> dict[str, Any]:
    """Returns an answer with all its scores."""
    return {
        "source": step.source,
        **step.to_json(),
        "class": step.class_index,
        "starts": step.starts,
        "scores": [round(score, 4) for score in step.scores.tolist()],
    }


class Cameras:
    """The cameras of a server.

    Iterate over it, or take one by its number.

    Args:
        session: with as many sources.
        cameras: one for each source.
        hub: is sent every answer, the end of every segment, and the counters.
        once: a live source is not opened again.
        timeout_s: see `data_pipeline.reader.Reader`.
    """

    def __init__(
        self,
        session: LiveSession | None,
        cameras: Sequence[Camera],
        hub: Hub,
        *,
        once: bool = False,
        timeout_s: tuple[float, float] = TIMEOUT_S,
    ) -> None:
        self.all = tuple(cameras)
        self._session, self._hub = session, hub
        self._once, self._timeout_s = once, timeout_s
        self._feed: Feed | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Opens the sources and begins to answer."""
        if self._session is None or not self.all:
            return
        self._feed = Feed(
            self._session,
            [camera.source for camera in self.all],
            once=self._once,
            patient=not self._once,
            timeout_s=self._timeout_s,
            keeps_pictures=True,
        )
        self._thread = threading.Thread(
            target=self._run, args=(self._feed,), name="model", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answers what is in hand and ends."""
        if self._feed is not None and self._thread is not None:
            self._feed.close()
            self._thread.join(_CLOSE_S)

    def count(self) -> None:
        """Brings the counters up to date and sends them to the clients."""
        if self._feed is not None:
            for camera, reader in zip(self.all, self._feed.readers, strict=True):
                camera.count(reader.counters)
                self._explain(camera, reader.trouble)
        sources = [
            {"source": camera.number, "state": camera.state, **camera.counters_json()}
            for camera in self.all
        ]
        self._hub.publish("counters", {"sources": sources})

    def _run(self, feed: Feed) -> None:
        try:
            for event in feed:
                camera = self.all[event.source]
                if isinstance(event, SourceEnd):
                    self._end(camera, event)
                else:
                    self._take(camera, event)
        except Exception:
            logging.exception("the cameras stop because of a fault of this program")
            for camera in self.all:
                if not camera.has_ended:
                    self._break_off(camera, "a fault of the server; its log says more")

    def _take(self, camera: Camera, step: StepResult) -> None:
        done = camera.take(step)
        if camera.state == "waiting":
            camera.state, camera.began = "live", datetime.datetime.now(datetime.UTC)
            self._publish_state(camera)
        if done is not None:
            self._hub.publish("segment", {"source": step.source, **done.to_json()})
        self._hub.publish("step", step_json(step))

    def _end(self, camera: Camera, end: SourceEnd) -> None:
        camera.counters = end.counters
        done = camera.history.end(end.num_frames, end.end_s)
        if done is not None:
            self._hub.publish("segment", {"source": end.source, **done.to_json()})
        if end.error is not None:
            reason = str(end.error).replace(camera.source, camera.name)
            logging.error("source %d: %s", camera.number, reason)
            self._break_off(camera, reason)
        else:
            camera.state = "ended"
            self._publish_state(camera)

    def _explain(self, camera: Camera, trouble: str) -> None:
        """Says why a source that goes on sends nothing."""
        reason = trouble.replace(camera.source, camera.name)
        if not camera.has_ended and reason != camera.reason:
            camera.reason = reason
            self._publish_state(camera)

    def _break_off(self, camera: Camera, reason: str) -> None:
        camera.state, camera.reason = "broken", reason
        self._publish_state(camera)

    def _publish_state(self, camera: Camera) -> None:
        self._hub.publish(
            "source",
            {"source": camera.number, "state": camera.state, "reason": camera.reason},
        )
