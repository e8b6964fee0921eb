"""Pre-labels: a run segments videos in the background, the person only corrects.

What it finds is kept beside the labels, in labels/proposals/NAME.json, and is never
part of them before a person accepts it.
"""

import contextlib
import hashlib
import json
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from svtas_jax.errors import InputError
from svtas_jax.evaluation.results import VideoResult, join
from svtas_jax.live.feed import Feed, chunks_of
from svtas_jax.live.run import Run
from svtas_jax.live.session import LiveSession
from svtas_jax.runtime.files import write_atomic
from svtas_jax.serving.labelling.folder import Folder, Video

_FOLDER = "proposals"
_PAUSE_S = 0.5


class Proposer:
    """Segments the videos of a folder with a run, one after the other.

    Args:
        run: the run.
        folder: its videos.
        is_free: whether there is time: pictures that somebody waits for go first.

    Raises:
        InputError: if the run cannot read videos.
    """

    def __init__(self, run: Run, folder: Folder, is_free: Callable[[], bool]) -> None:
        # Compiled before anybody waits, and in no thread that the end could cut off.
        self._session: LiveSession | None = run.open_stream(whole_chunks=True)
        self.run, self._folder, self._is_free = run, folder, is_free
        self.id, self.name = identity_of(run), pathlib.Path(run.workdir).name
        self._waiting: list[Video] = []
        self._states: dict[str, str] = {}
        self._feed: Feed | None = None
        self._lock, self._changed = threading.Lock(), threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._work, name="proposals", daemon=True
        )

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def close(self) -> None:
        """Ends; a video that is not finished is segmented anew the next time."""
        self._is_closed = True
        self._changed.set()
        if self._feed is not None:
            self._feed.close()
        self._thread.join(1)

    def state(self, video: Video) -> str:
        """Returns "waiting", "working", "ready", "" (not asked), or why it failed."""
        return self._states.get(video.id, "")

    def add(self, video: Video, *, first: bool = False) -> None:
        """Puts a video in the queue, unless the run has segmented it."""
        with self._lock:
            state = self._states.get(video.id, "")
            if state == "working" or (state and not first):
                return
            if self.read(video) is not None:
                self._states[video.id] = "ready"
                return
            self._states[video.id] = "waiting"
            self._waiting = [other for other in self._waiting if other.id != video.id]
            self._waiting.insert(0 if first else len(self._waiting), video)
        self._changed.set()

    def read(self, video: Video) -> dict[str, Any] | None:
        """Returns what the run has found in a video, None if that is not known."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads(self._path(video).read_text(encoding="utf-8"))
            if found["run"] == self.id and found["file"] == _stamp(video):
                return found
        return None

    def _path(self, video: Video) -> pathlib.Path:
        return self._folder.side / _FOLDER / f"{video.name}.json"

    def _work(self) -> None:
        while not self._is_closed:
            video = self._take()
            if video is None:
                self._changed.wait(_PAUSE_S if self._waiting else 5)
                self._changed.clear()
                continue
            try:
                self._propose(video)
            except InputError as error:
                logging.warning("%s", error)
                self._states[video.id] = str(error)
            except Exception:
                logging.exception("%s: a fault of this program", video.path)
                self._session = None
                self._states[video.id] = "a fault of the server; its log says more"

    def _take(self) -> Video | None:
        with self._lock:
            if not self._waiting or not self._is_free():
                return None
            video = self._waiting.pop(0)
            self._states[video.id] = "working"
            return video

    def _propose(self, video: Video) -> None:
        if self._session is None:
            self._session = self.run.open_stream(whole_chunks=True)
        stamp = _stamp(video)
        self._feed = Feed(self._session, [str(video.path)], once=True)
        result = join(chunks_of(self._feed, self.run.class_names))
        if not self._is_closed:
            found = {"run": self.id, "name": self.name, "file": stamp, **_found(result)}
            write_atomic(self._path(video), json.dumps(found, ensure_ascii=False))
            self._states[video.id] = "ready"


def _stamp(video: Video) -> list[int]:
    """Changes when a video is written again."""
    try:
        status = video.path.stat()
    except OSError:  # it has just gone
        return []
    return [status.st_size, status.st_mtime_ns]


def _found(result: VideoResult) -> dict[str, Any]:
    """Returns segments, and the confidence of every step in percent."""
    starts = np.clip(result.step_frames[:-1] - result.start_frame, 0, None)
    starts = starts[starts < result.num_frames]
    sure = result.scores.max(axis=1)[starts]
    return {
        "num_frames": result.num_frames,
        "segments": [
            [s.start_frame, s.end_frame, s.label, round(s.confidence, 3)]
            for s in result.segments
        ],
        "steps": starts.tolist(),
        "sure": np.rint(100 * sure).astype(int).tolist(),
    }


def identity_of(run: Run) -> str:
    """Returns a text that changes with what the run has learnt."""
    found = hashlib.sha256(repr(run.class_names).encode())
    variables = getattr(run, "variables", None)
    if variables is not None:
        for leaf in jax.tree.leaves(variables):
            found.update(np.asarray(leaf).tobytes())
    else:
        for path in sorted(pathlib.Path(run.workdir).glob("*")):
            status = path.stat()
            found.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
    return found.hexdigest()[:24]
