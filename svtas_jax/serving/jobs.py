"""Uploaded videos: a bounded queue, and one thread that segments them in order."""

import collections
import contextlib
import dataclasses
import pathlib
import queue
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from data_pipeline import lengths, video
from svtas_jax.errors import InputError
from svtas_jax.evaluation import metrics, results
from svtas_jax.live.feed import Feed, chunks_of
from svtas_jax.live.run import Run
from svtas_jax.live.session import LiveSession
from svtas_jax.runtime import files
from svtas_jax.serving.history import Past
from svtas_jax.smoothing import OFF, Smoothing
from svtas_jax.structs import labels_to_segments

MOST_WAITING, MOST_KEPT = 8, 32
SHOWN_METRICS = ("acc", "edit", "f1_10", "f1_25", "f1_50")


@dataclasses.dataclass(eq=False)
class Job:
    """An uploaded video.

    Attributes:
        id: cannot be guessed.
        name: of the file, as the client called it.
        path: of the video on this machine; None when it is not needed any more.
        truth: (num_labels,) true class of every frame, if labels were uploaded.
        state: queued, running, done, failed or cancelled.
        frame: frames answered so far.
        num_frames: that the video has, 0 if unknown.
        error: why it failed.
        past: its segments, once it is done.
        measured: the truth's segments and the metrics, or why there are none.
    """

    id: str
    name: str
    path: pathlib.Path
    truth: np.ndarray | None = None
    state: str = "queued"
    frame: int = 0
    num_frames: int = 0
    error: str = ""
    past: Past | None = None
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)
    feed: Feed | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ("done", "failed", "cancelled")

    def to_json(self) -> dict[str, Any]:
        """Returns what clients see."""
        progress = self.frame / self.num_frames if self.num_frames else None
        about = {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "progress": None if progress is None else round(min(1.0, progress), 3),
            "frame": self.frame,
            "error": self.error,
        }
        if self.past is None:
            return about
        segments = [segment.to_json() for segment in self.past.segments]
        return {**about, "segments": segments, **self.measured}


class Jobs:
    """All jobs of a server.

    Args:
        run: segments the videos, on a session of its own.
        workdir: folder of the run; videos wait in `serving` below it until they are
            done.
        smoothing: of the labels.
    """

    def __init__(
        self, run: Run, workdir: pathlib.Path, smoothing: Smoothing = OFF
    ) -> None:
        self._run, self._root = run, workdir / "serving"
        self._smoothing = smoothing
        # Compiled before anybody waits, and in no thread that the end could cut off.
        self._session: LiveSession | None = self._open()
        self._folder: pathlib.Path | None = None
        self._jobs: dict[str, Job] = {}
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock, self._num_reserved = threading.Lock(), 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def close(self, wait_s: float = 1.0) -> None:
        """Gives all jobs up and removes their videos."""
        self._is_closed = True
        for job in tuple(self._jobs.values()):
            self.cancel(job)
        self._waiting.put(None)
        self._thread.join(wait_s)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another server's videos are there
                self._root.rmdir()

    @contextlib.contextmanager
    def place(self) -> Iterator[pathlib.Path | None]:
        """Keeps a place in the queue while a video is uploaded.

        Yields:
            Where the video is to be written; None if the queue is full. What is not
            submitted is removed.

        Raises:
            InputError: if the run's folder cannot be written to.
        """
        with self._lock:
            going_on = sum(not job.is_over for job in self._jobs.values())
            is_full = going_on + self._num_reserved >= MOST_WAITING
            self._num_reserved += not is_full
        if is_full:
            yield None
            return
        path = None
        try:
            path = self._new_path()
            yield path
        finally:
            with self._lock:
                self._num_reserved -= 1
                is_used = any(job.path == path for job in self._jobs.values())
            if path is not None and not is_used:
                path.unlink(missing_ok=True)

    def submit(self, name: str, path: pathlib.Path, truth: np.ndarray | None) -> Job:
        """Puts a video in the queue."""
        job = Job(secrets.token_urlsafe(12), name, path, truth)
        with self._lock:
            over = [job for job in self._jobs.values() if job.is_over]
            for old in over[: max(0, len(over) - MOST_KEPT + 1)]:
                del self._jobs[old.id]
            self._jobs[job.id] = job
        self._waiting.put(job)
        return job

    def find(self, job_id: str) -> Job | None:
        """Returns a job, None if it is not known any more."""
        return self._jobs.get(job_id)

    def remove(self, job: Job) -> None:
        """Ends a job and forgets it."""
        self.cancel(job)
        with self._lock:
            self._jobs.pop(job.id, None)

    def cancel(self, job: Job) -> None:
        """Ends a job that waits or runs."""
        with self._lock:
            if job.is_over:
                return
            was_waiting, job.state = job.state == "queued", "cancelled"
            feed = job.feed
        if was_waiting:
            job.path.unlink(missing_ok=True)
        elif feed is not None:
            feed.close()

    def counts(self) -> dict[str, int]:
        """Returns the number of jobs in each state."""
        with self._lock:
            states = [job.state for job in self._jobs.values()]
        return dict(collections.Counter(states))

    def _new_path(self) -> pathlib.Path:
        with self._lock:
            if self._folder is None:
                files.make_folder(self._root)
                folder = tempfile.mkdtemp(prefix="uploads-", dir=self._root)
                self._folder = pathlib.Path(folder)
            return self._folder / secrets.token_hex(12)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None and not self._is_closed:
            with self._lock:
                if job.is_over:
                    continue
                job.state = "running"
            try:
                self._segment(job)
                self._finish(job, "done")
            except InputError as error:
                job.error = str(error).replace(str(job.path), job.name)
                self._finish(job, "failed")
            except Exception:
                logging.exception("job %s: a fault of this program", job.id)
                job.error = "a fault of the server; its log says more"
                self._session = None
                self._finish(job, "failed")
            finally:
                job.path.unlink(missing_ok=True)

    def _finish(self, job: Job, state: str) -> None:
        with self._lock:
            job.feed, job.truth = None, None
            if not job.is_over:
                job.state = state

    def _segment(self, job: Job) -> None:
        job.num_frames = video.probe_video(job.path).num_frames
        result = self._result(job)
        if job.is_over:
            return
        job.frame = job.num_frames = result.num_frames
        if job.truth is not None:
            job.measured = self._measure(result, job.truth)
        job.past = Past(result.segments, (), len(result.times_s) - 1, 0, True)

    def _open(self) -> LiveSession:
        return self._run.open_stream(whole_chunks=True, smoothing=self._smoothing)

    def _result(self, job: Job) -> results.VideoResult:
        if self._session is None:
            self._session = self._open()
        feed = Feed(self._session, [str(job.path)], once=True)
        with self._lock:
            job.feed = feed
            is_cancelled = job.is_over
        if is_cancelled:
            feed.close()
        chunks = []
        for chunk in chunks_of(feed, self._run.class_names):
            chunks.append(chunk)
            job.frame = chunk.start_frame + chunk.num_frames
        return results.join(chunks)

    def _measure(
        self, result: results.VideoResult, truth: np.ndarray
    ) -> dict[str, Any]:
        """Compares a result with its truth, as `evaluate` does."""
        data, num_frames = self._run.config.data, result.num_frames
        slack = data.frame_stride
        if not lengths.fits(num_frames, len(truth), data.max_length_gap, slack=slack):
            return {
                "truth_error": f"The video has {num_frames} frames, but the label file "
                f"has {len(truth)} lines: they differ by more than "
                f"{100 * data.max_length_gap:g} %. Use the labels of this video, one "
                "line a frame."
            }
        count = min(num_frames, len(truth))
        counts = metrics.new_counts(self._run.config, self._run.class_names)
        found = counts.add(result.labels[:count], truth[:count]).compute()
        return {
            "metrics": {name: round(found[name], 2) for name in SHOWN_METRICS},
            "truth": [
                {
                    "label": self._run.class_names[run.label],
                    "frames": [run.start, run.end],
                    "time_s": [
                        round(float(result.time_of(n)), 3) for n in (run.start, run.end)
                    ],
                }
                for run in labels_to_segments(truth[:count])
            ],
        }
