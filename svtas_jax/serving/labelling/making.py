"""Makes the pictures of videos in one thread, those that somebody looks at first."""

import contextlib
import dataclasses
import math
import os
import pathlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from absl import logging

from svtas_jax.errors import InputError
from svtas_jax.serving.labelling import packs
from svtas_jax.serving.labelling.folder import Video
from svtas_jax.serving.labelling.packs import Pack

MOST_BYTES = 20_000_000_000
_LEAST_FREE = 2_000_000_000  # of the disk, for videos that nobody has opened
_MOST_OPEN = 3  # videos that are decoded at a time
_TURN_S = 0.05
_LOOK_S = 10.0  # between two looks at the disk
_NICE = 5  # of the thread: who labels comes first
_DRAFT_S = 3600.0  # after which a killed server's unfinished file is removed
Counted = Callable[[Video, int], None]


@dataclasses.dataclass(eq=False)
class Task:
    """The pictures of one video.

    Attributes:
        video: the video.
        pack: its pictures.
        problem: why there are no more, "" if all is well.
    """

    video: Video
    pack: Pack
    problem: str = ""
    steps: Iterator[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.pack.is_whole or bool(self.problem)


class Maker:
    """Makes the pictures of a folder's videos.

    Args:
        cache: folder for them, shared by all servers of a user.
        counted: is called with a video and its number of frames when these are known;
            raises InputError if something cannot be written.
    """

    def __init__(self, cache: pathlib.Path, counted: Counted) -> None:
        self._cache, self._counted = cache, counted
        self._tasks: dict[str, Task] = {}
        self._order: list[str] = []  # ids, most urgent first
        self._wanted: set[str] = set()
        self._lock, self._changed = threading.RLock(), threading.Event()
        self._is_closed = self._had_room = False
        self._looked_s = -math.inf
        self._thread = threading.Thread(target=self._work, name="pictures", daemon=True)

    def start(self) -> None:
        """Begins to work."""
        _remove_drafts(self._cache)
        self._thread.start()

    def close(self) -> None:
        """Ends; what is not whole is made again the next time."""
        self._is_closed = True
        self._changed.set()
        self._thread.join(2)
        for task in self._tasks.values():
            task.pack.close()

    def set_videos(self, videos: Sequence[Video]) -> None:
        """Takes the videos of the folder, some of which may be new or written again."""
        with self._lock:
            for video in videos:
                if not video.problem:
                    self._take(video)
            known = {video.id for video in videos}
            for gone in [name for name in self._tasks if name not in known]:
                self._drop(gone)
        self._changed.set()

    def find(self, video_id: str) -> Task | None:
        """Returns the pictures of a video, None if it has none."""
        return self._tasks.get(video_id)

    def want(self, video_id: str) -> None:
        """Makes the pictures of a video before all others."""
        with self._lock:
            task = self._tasks.get(video_id)
            if task is None:
                return
            self._wanted.add(video_id)
            self._order.remove(video_id)
            self._order.insert(0, video_id)
            if task.problem:  # it may have been mended, or the disk has room again
                task.problem = ""
        self._changed.set()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody looks at a video whose pictures are being made."""
        with self._lock:
            tasks = [self._tasks[name] for name in self._wanted if name in self._tasks]
            return any(not task.is_over for task in tasks)

    def _take(self, video: Video) -> None:
        with contextlib.suppress(InputError):  # it has just gone
            pack = packs.pack_of(self._cache, video.path)
            known = self._tasks.get(video.id)
            if known is not None and known.pack.path == pack.path:
                return
            if known is not None:
                self._drop(video.id)
            task = Task(video, pack)
            if pack.load():
                self._tell(task)
            self._tasks[video.id] = task
            self._order.append(video.id)

    def _drop(self, video_id: str) -> None:
        task = self._tasks.pop(video_id)
        self._order.remove(video_id)
        task.problem, task.steps = "gone", None
        task.pack.close()

    def _work(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while not self._is_closed:
            task = self._next()
            if task is None:
                self._changed.wait(5)
                self._changed.clear()
                continue
            try:
                self._advance(task)
            except InputError as error:
                self._fail(task, str(error))
            except Exception:
                logging.exception("%s: a fault of this program", task.video.path)
                self._fail(task, "a fault of the server; its log says more")

    def _next(self) -> Task | None:
        with self._lock:
            todo = [self._tasks[name] for name in self._order]
            todo = [task for task in todo if not task.is_over]
            for task in [t for t in todo if t.steps is not None][_MOST_OPEN:]:
                self._restart(task)
            for task in todo:
                if task.video.id in self._wanted:
                    return task
            return todo[0] if todo and self._has_room() else None

    def _restart(self, task: Task) -> None:
        """Lets go of a decoder: its video begins anew later."""
        path, task.steps = task.video.path, None
        task.pack.close()
        task.pack = packs.pack_of(self._cache, path)

    def _advance(self, task: Task) -> None:
        if task.steps is None:
            _make_room(self._cache, {t.pack.path for t in self._tasks.values()})
            task.steps = packs.make(task.video.path, task.pack)
        end, steps = time.monotonic() + _TURN_S, task.steps
        while time.monotonic() < end and not self._is_closed:
            if task.steps is None:  # dropped, or to begin anew
                return
            try:
                next(steps)
            except StopIteration:
                task.steps = None
                self._tell(task)
                return

    def _tell(self, task: Task) -> None:
        try:
            self._counted(task.video, len(task.pack))
        except InputError as error:  # the pictures are good nevertheless
            logging.warning("%s", error)

    def _fail(self, task: Task, reason: str) -> None:
        logging.warning("%s", reason)
        with self._lock:
            task.problem = task.problem or reason
            task.steps = None
            task.pack.close()
            with contextlib.suppress(InputError):
                task.pack = packs.pack_of(self._cache, task.video.path)

    def _has_room(self) -> bool:
        if time.monotonic() > self._looked_s + _LOOK_S:
            self._looked_s, self._had_room = time.monotonic(), self._look_for_room()
        return self._had_room

    def _look_for_room(self) -> bool:
        folder = self._cache if self._cache.is_dir() else pathlib.Path.home()
        if shutil.disk_usage(folder).free < _LEAST_FREE:
            return False
        return sum(size for size, _, _ in _stored(self._cache)) < MOST_BYTES


def cache_folder() -> pathlib.Path:
    """Returns where pictures are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "svtas_jax" / "label_pictures"


def _stored(cache: pathlib.Path) -> list[tuple[int, float, pathlib.Path]]:
    """Returns size, time of last use and path of all pictures."""
    found = []
    with contextlib.suppress(OSError):
        for path in cache.iterdir():
            status = path.stat()
            found.append((status.st_size, status.st_mtime, path))
    return found


def _make_room(cache: pathlib.Path, ours: set[pathlib.Path]) -> None:
    """Removes the pictures that were not used for longest, but none of `ours`."""
    stored = _stored(cache)
    total = sum(size for size, _, _ in stored)
    for size, _, path in sorted(stored, key=lambda item: item[1]):
        if total <= MOST_BYTES:
            return
        if path.with_suffix("") not in ours and not path.name.startswith("."):
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size


def _remove_drafts(cache: pathlib.Path) -> None:
    """Removes what killed servers have left."""
    for _, used_s, path in _stored(cache):
        if path.name.startswith(".") and used_s < time.time() - _DRAFT_S:
            with contextlib.suppress(OSError):
                path.unlink()
