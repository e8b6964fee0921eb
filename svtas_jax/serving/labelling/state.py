"""All that a labelling server holds, and what its list of videos shows."""

import asyncio
import contextlib
import hashlib
import os
import pathlib
import secrets
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from svtas_jax.errors import InputError
from svtas_jax.evaluation import timeline
from svtas_jax.live.run import Run
from svtas_jax.serving.labelling import making
from svtas_jax.serving.labelling.documents import read_document
from svtas_jax.serving.labelling.folder import Folder, Video, open_folder
from svtas_jax.serving.labelling.making import Maker
from svtas_jax.serving.labelling.proposals import Proposer
from svtas_jax.serving.labelling.store import Opened, Store
from svtas_jax.serving.problems import ProblemError

_SCAN_S = 3.0  # between two looks at the folder


class LabelState:
    """What the routes use.

    Attributes:
        folder, store, maker: see their classes.
        folder_handle: see `open_folder`.
        proposer: of pre-labels; None without a run.
    """

    def __init__(
        self, folder: Folder, run: Run | None = None, handle: int | None = None
    ) -> None:
        """Compiles the run, if there is one.

        Raises:
            InputError: if mapping.txt is invalid, or the run cannot read videos.
        """
        self.folder, self.folder_handle = folder, handle
        self.store = Store(folder)
        self.maker = Maker(making.cache_folder(), self._counted)
        self.proposer: Proposer | None = None
        if run is not None:
            self.proposer = Proposer(run, folder, lambda: not self.maker.is_awaited)
        self._videos: dict[str, Video] = {}
        self._scanned_s = -1e9
        self._entries: dict[str, tuple[int, dict[str, Any]]] = {}
        self._revision, self._session = 0, secrets.token_hex(8)
        self._summaries: dict[str, tuple[str, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def stop_streams(self) -> None:
        """Does nothing: no client holds a stream."""

    @contextlib.asynccontextmanager
    async def running(self, _app: object) -> AsyncIterator[None]:
        """Runs the server's threads."""
        await asyncio.to_thread(self.scan)
        self.maker.start()
        if self.proposer is not None:
            self.proposer.start()
        try:
            yield
        finally:
            closing = [asyncio.to_thread(self.maker.close)]
            if self.proposer is not None:
                closing.append(asyncio.to_thread(self.proposer.close))
            await asyncio.gather(*closing)

    def scan(self) -> None:
        """Looks which videos there are now."""
        with self._lock:
            if time.monotonic() < self._scanned_s + _SCAN_S:
                return
            self._scanned_s = time.monotonic()
            videos: tuple[Video, ...] = ()
            with contextlib.suppress(InputError):  # all have gone
                videos = self.folder.videos()
            self._videos = {video.id: video for video in videos}
        self.maker.set_videos(videos)
        if self.proposer is not None:
            for video in videos:
                if (
                    not video.problem
                    and not self.folder.truth_path(video.name).exists()
                ):
                    self.proposer.add(video)

    def video(self, video_id: str) -> Video:
        """Returns a video.

        Raises:
            ProblemError: with status 404.
        """
        found = self._videos.get(video_id)
        if found is None:
            raise ProblemError(404, "There is no such video in the folder any more.")
        return found

    def num_frames(self, video: Video) -> int:
        """Returns the number of frames of a video, 0 if it is not known yet."""
        task = self.maker.find(video.id)
        return len(task.pack) if task is not None and task.pack.is_whole else 0

    def listing(self, since: int) -> dict[str, Any]:
        """Describes the folder: all that has changed since a revision."""
        self.scan()
        entries = {video.id: self._entry(video) for video in self._videos.values()}
        with self._lock:
            for name, entry in entries.items():
                if self._entries.get(name, (0, None))[1] != entry:
                    self._revision += 1
                    self._entries[name] = self._revision, entry
            changed = [
                self._entries[name][1]
                for name in entries
                if self._entries[name][0] > since or since > self._revision
            ]
            return {
                "revision": self._revision,
                "session": self._session,
                "videos": changed,
                "ids": list(entries),
                **self._about(),
            }

    def _about(self) -> dict[str, Any]:
        problem, names = "", ()
        try:
            names = self.store.classes()
        except InputError as error:
            problem = str(error)
        colours = timeline.class_colours(names)[: len(names)].tolist()
        about: dict[str, Any] = {
            "folder": str(self.folder.root),
            "key": hashlib.sha256(os.fsencode(self.folder.root.resolve())).hexdigest()[
                :12
            ],
            "problem": problem,
            "classes": [
                {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour)}
                for name, colour in zip(names, colours, strict=True)
            ],
            "run": None,
        }
        if self.proposer is not None:
            classes = self.proposer.run.class_names
            about["run"] = {
                "id": self.proposer.id,
                "name": self.proposer.name,
                "classes": classes,
                "unknown": [name for name in classes if name not in names],
                "never": [name for name in names if name not in classes],
            }
        return about

    def _entry(self, video: Video) -> dict[str, Any]:
        entry: dict[str, Any] = {
            **{"id": video.id, "name": video.name, "problem": video.problem},
            **{"made": 0, "expected": 0, "counted": False, "proposal": ""},
        }
        task = self.maker.find(video.id)
        if task is not None:
            pack = task.pack
            made, whole = len(pack), pack.is_whole
            entry.update(made=made, expected=max(pack.expected, made), counted=whole)
            entry["problem"] = task.problem
        if self.proposer is not None:
            entry["proposal"] = self.proposer.state(video)
        entry.update(self._summary(video))
        if entry["state"] == "unlabelled" and entry["proposal"] == "ready":
            entry["state"] = "pre-labelled"
        return entry

    def mark(self, video: Video) -> str:
        """Returns a text that changes when the labels of a video do."""
        paths = (
            self.folder.document_path(video.name),
            self.folder.truth_path(video.name),
        )
        return "/".join(map(_mark, paths))

    def _summary(self, video: Video) -> dict[str, Any]:
        mark = self.mark(video)
        known = self._summaries.get(video.id)
        if known is not None and known[0] == mark:
            return known[1]
        summary = {"mark": mark, **self._progress(video, mark)}
        self._summaries[video.id] = mark, summary
        return summary

    def _progress(self, video: Video, mark: str) -> dict[str, Any]:
        has_truth = not mark.endswith("/")
        if mark.startswith("/"):
            return {"state": "done" if has_truth else "unlabelled", "frames": 0}
        path = self.folder.document_path(video.name)
        try:
            document = read_document(path.read_bytes(), str(path))
        except (InputError, OSError):  # it is said when the video is opened
            return {"state": "touched", "frames": 0}
        if has_truth and (document.is_complete or not document.segments):
            return {"state": "done", "frames": 0}
        state = "touched" if document.segments else "unlabelled"
        return {"state": state, "frames": document.labelled_frames}

    def _counted(self, video: Video, num_frames: int) -> None:
        self.store.settle(video.name, num_frames)


def open_state(root: str | os.PathLike, run: Run | None = None) -> LabelState:
    """Opens a folder to label.

    Args:
        root: a data root in the common layout, or one that has only Videos/.
        run: proposes labels; None for none.

    Raises:
        MissingInputError: if the folder does not exist, or has no videos.
        InputError: if it cannot be used, see `open_folder` and `LabelState`.
    """
    folder, handle = open_folder(pathlib.Path(root))
    return LabelState(folder, run, handle)


def describe(opened: Opened, mark: str) -> dict[str, Any]:
    """Returns what clients see of the labels of a video."""
    document = opened.document
    return {
        "token": opened.token,
        "mark": mark,
        "version": document.version,
        "run": document.run,
        "num_frames": document.num_frames,
        "complete": document.is_complete,
        "segments": [list(segment) for segment in document.segments],
        "notice": opened.notice,
        "kept": [list(segment) for segment in opened.kept],
    }


def _mark(path: pathlib.Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
