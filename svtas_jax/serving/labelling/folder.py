"""The data folder that is labelled: which videos it holds, and where labels lie."""

import dataclasses
import hashlib
import os
import pathlib
import unicodedata

from data_pipeline.prepared import index as prepared_index
from data_pipeline.video_files import find_video, is_video_name, listed_videos
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime.files import make_folder, write_durable

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

SIDE = "labels"  # what is not complete yet; beside groundTruth
_LOCK = "server.lock"


@dataclasses.dataclass(frozen=True)
class Video:
    """A video of the folder.

    Attributes:
        id: in addresses; depends on the name alone.
        name: as in splits and groundTruth.
        path: of the file.
        problem: why it cannot be labelled, "" if it can.
    """

    id: str
    name: str
    path: pathlib.Path
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Folder:
    """A data root in the common layout, or what is to become one."""

    root: pathlib.Path

    @property
    def mapping(self) -> pathlib.Path:
        """The file of the classes."""
        return self.root / "mapping.txt"

    @property
    def truths(self) -> pathlib.Path:
        """The folder of the label files."""
        return self.root / "groundTruth"

    @property
    def side(self) -> pathlib.Path:
        """The folder of what is not complete yet."""
        return self.root / SIDE

    def document_path(self, name: str) -> pathlib.Path:
        """Returns where the labels are while a person works on them."""
        return self.side / f"{name}.json"

    def truth_path(self, name: str) -> pathlib.Path:
        """Returns the label file: one that is there, however its accents are stored."""
        path = self.truths / f"{name}.txt"
        if name.isascii() or path.exists():
            return path
        forms = (unicodedata.normalize(form, path.name) for form in ("NFC", "NFD"))
        others = (self.truths / form for form in forms)
        return next((other for other in others if other.exists()), path)

    def videos(self) -> tuple[Video, ...]:
        """Finds the videos.

        Raises:
            MissingInputError: if there is none.
        """
        folder = self.root / "Videos"
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        stems = {pathlib.PurePath(n).stem for n in names if is_video_name(n)}
        stems |= set(listed_videos(self.root))
        by_name = {_normal(stem): stem for stem in sorted(stems)}
        if not by_name:
            raise MissingInputError(_no_video(self.root, names))
        return tuple(self._video(stem) for stem in by_name.values())

    def _video(self, stem: str) -> Video:
        shown = stem.encode("utf-8", "replace").decode()
        found = hashlib.sha256(os.fsencode(stem)).hexdigest()[:16]
        if shown != stem or not shown.isprintable() or shown != shown.strip():
            return Video(
                *(found, shown, self.root / "Videos"),
                "The file's name is not plain UTF-8 text in one line; rename the file.",
            )
        try:
            return Video(found, stem, find_video(self.root, "flat", stem))
        except InputError as error:
            return Video(found, stem, self.root / "Videos" / stem, str(error))


def open_folder(root: str | os.PathLike) -> tuple[Folder, int | None]:
    """Checks a folder, and keeps other servers out of it.

    Returns:
        The folder, and a handle: the folder is held as long as it is open.

    Raises:
        MissingInputError: if it does not exist, or has no videos.
        InputError: if it cannot be written to, is prepared, or another server has it.
    """
    folder = Folder(pathlib.Path(root))
    if not folder.root.is_dir():
        raise MissingInputError(
            f"--label={root} does not exist or is no folder; name a data root whose "
            "folder Videos/ holds the videos to label."
        )
    if prepared_index.is_prepared(folder.root):
        raise InputError(
            f"--label={root} was written by data_pipeline.tfds_builder and holds no "
            "files to label; name the data root that it was made from."
        )
    folder.videos()
    for path in (folder.side, folder.truths):
        make_folder(path, option="--label")
    return folder, _hold(folder.side / _LOCK)


def write(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file of the folder; returns when the disk has it.

    Raises:
        InputError: if it cannot be written.
    """
    write_durable(path, content, option="--label")


def _hold(path: pathlib.Path) -> int | None:
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if not isinstance(error, BlockingIOError):
            return None  # a file system without locks; versions still protect files
        raise InputError(
            f"--label={path.parents[1]} is being labelled by another server; use its "
            "page, where several people can work, or end it."
        ) from error
    return handle


def _no_video(root: pathlib.Path, names: list[str]) -> str:
    folder = root / "Videos"
    if not folder.is_dir():
        own = sum(map(is_video_name, os.listdir(root)))
        which = f"its {own} videos" if own else "the videos"
        return f"--label={root} has no folder Videos/; make it and put {which} there."
    nested = [name for name in names if (folder / name).is_dir()]
    hint = (
        f" Videos in folders such as {nested[0]}/ are not found: move or link them up."
        if nested
        else ""
    )
    return f"{folder} holds no video; put some there, such as NAME.mp4.{hint}"


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
