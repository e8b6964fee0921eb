"""Finds the video file of a name in a split.

Videos/NAME.mp4, or Videos/P03/cam01/P03_cereals.avi (layout "breakfast"), with any
extension of `VIDEO_SUFFIXES`, in upper or lower case. A file videos.txt in the data
folder may say instead where videos are: a name, a tab and a path per line.
"""

import collections
import difflib
import functools
import pathlib
import re
import unicodedata
from collections.abc import Mapping

from svtas_jax.errors import InputError, MissingInputError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".asf"),
    *(".flv", ".ts", ".mts", ".m2ts", ".vob", ".3gp", ".3g2", ".ogv", ".mxf"),
)
VIDEO_LIST = "videos.txt"  # in the data folder, if the videos are elsewhere
_BREAKFAST_NAME = re.compile(r"(P\d+)_([A-Za-z]+)(\d*)_(.+)")


def is_video_name(name: str) -> bool:
    """Whether a file's name has an extension of `VIDEO_SUFFIXES`."""
    return pathlib.PurePath(name).suffix.lower() in VIDEO_SUFFIXES


def find_video(root: pathlib.Path, layout: str, name: str) -> pathlib.Path:
    """Returns the video file of a name.

    Args:
        root: `config.data.root`.
        layout: `config.data.layout`.
        name: of the video in splits and groundTruth.

    Raises:
        MissingInputError: if there is none.
        InputError: if there are several, with different extensions.
    """
    if listed := listed_videos(root).get(_normal(name)):
        if not listed.is_file():
            raise MissingInputError(
                f"The video of {name!r} is missing: {root / VIDEO_LIST} says that it "
                f"is {listed}. Put it there, or correct that line."
            )
        return listed
    stem = breakfast_stem(name) if layout == "breakfast" else name
    wanted = root / "Videos" / stem
    found = _videos_by_stem(wanted.parent).get(_normal(wanted.name), ())
    if len(found) > 1:
        raise InputError(
            f"The video {name!r} exists {len(found)} times: "
            f"{' and '.join(map(str, found))}. Only one of them can belong to the "
            "labels; take the others out of the folder."
        )
    if not found:
        raise MissingInputError(_missing(wanted, name))
    return found[0]


def listed_videos(root: pathlib.Path) -> Mapping[str, pathlib.Path]:
    """Returns the paths that videos.txt gives, by name; none if there is no such file.

    Relative paths begin at `root`.

    Raises:
        InputError: if a line is no name, a tab and a path, or a name is there twice.
    """
    path = root / VIDEO_LIST
    try:
        return _read_list(path, path.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _missing(wanted: pathlib.Path, name: str) -> str:
    if wanted.is_file():
        hint = (
            f"{wanted} exists: its labels belong into groundTruth/"
            f"{pathlib.PurePath(name).stem}.txt, and its name in the split is "
            f"{pathlib.PurePath(name).stem}."
        )
        return f"The video of {name!r} is missing: the name needs no extension; {hint}"
    close = difflib.get_close_matches(wanted.name, _videos_by_stem(wanted.parent), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"The video of {name!r} is missing: no {wanted} with an extension of "
        f"{' '.join(VIDEO_SUFFIXES)}.{hint} Put it there, or take {name} out of the "
        "split."
    )


def _videos_by_stem(folder: pathlib.Path) -> Mapping[str, tuple[pathlib.Path, ...]]:
    """Returns the videos of a folder by their names without the extension."""
    try:
        return _list_videos(folder, folder.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}


@functools.lru_cache(maxsize=1024)
def _list_videos(folder: pathlib.Path, changed_ns: int):
    found = collections.defaultdict(list)
    for path in sorted(folder.iterdir()):
        if is_video_name(path.name) and path.is_file():
            found[_normal(path.stem)].append(path)
    return {stem: tuple(paths) for stem, paths in found.items()}


@functools.lru_cache(maxsize=16)
def _read_list(path: pathlib.Path, changed_ns: int) -> Mapping[str, pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        name, tab, file = line.strip().partition("\t")
        if not (name and tab and file):
            raise InputError(
                f"{path}, line {number}: {line!r} is not a name, a tab and a path."
            )
        if _normal(name) in found:
            raise InputError(
                f"{path}, line {number}: {name!r} is there twice; keep one line."
            )
        found[_normal(name)] = path.parent / file
    return found


def _normal(name: str) -> str:
    """Composes accents: some systems store a letter and its accent one by one."""
    return unicodedata.normalize("NFC", name)


def breakfast_stem(name: str) -> str:
    """P03_cam01_P03_cereals -> P03/cam01/P03_cereals; of stereo, channel 0.

    Raises:
        InputError: if it is another kind of name.
    """
    match = _BREAKFAST_NAME.fullmatch(name)
    if not match:
        raise InputError(
            f"{name!r} is not a name of the layout 'breakfast', such as "
            f"P03_cam01_P03_cereals; use --config.data.layout=flat for Videos/NAME.mp4."
        )
    person, camera, number, activity = match.groups()
    if camera == "stereo":
        return f"{person}/stereo/{activity.removesuffix('_ch0')}_ch0"
    return f"{person}/{camera}{number}/{activity}"
