"""Which file below Videos/ belongs to a name of a split.

Videos/NAME.mp4, or Videos/P03/cam01/P03_cereals.avi (layout "breakfast"); any ending
of `VIDEO_SUFFIXES` in any upper and lower case.
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
_BREAKFAST_NAME = re.compile(r"(P\d+)_([A-Za-z]+)(\d*)_(.+)")


def is_video_name(name: str) -> bool:
    """Whether a file's name has an ending of `VIDEO_SUFFIXES`."""
    return pathlib.PurePath(name).suffix.lower() in VIDEO_SUFFIXES


def find_video(root: pathlib.Path, layout: str, name: str) -> pathlib.Path:
    """Returns the one video of a name.

    Args:
        root: `config.data.root`.
        layout: `config.data.layout`.
        name: of the video in splits and groundTruth.

    Raises:
        MissingInputError: if there is none.
        InputError: if there are several, which differ in their ending.
    """
    stem = _breakfast_stem(name) if layout == "breakfast" else name
    place = root / "Videos" / stem
    found = _videos_by_stem(place.parent).get(_normal(place.name), ())
    if len(found) > 1:
        raise InputError(
            f"The video {name!r} is there {len(found)} times: "
            f"{' and '.join(map(str, found))}. Only one of them can belong to the "
            "labels; take the others out of the folder."
        )
    if not found:
        raise MissingInputError(_missing(place, name))
    return found[0]


def _missing(place: pathlib.Path, name: str) -> str:
    if place.is_file():
        hint = (
            f"{place} is there: its labels belong into groundTruth/"
            f"{pathlib.PurePath(name).stem}.txt, and its name in the split is "
            f"{pathlib.PurePath(name).stem}."
        )
        return f"The video of {name!r} is missing, since its name has no ending; {hint}"
    close = difflib.get_close_matches(place.name, _videos_by_stem(place.parent), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"The video of {name!r} is missing: no {place} with an ending of "
        f"{' '.join(VIDEO_SUFFIXES)}.{hint} Put it there, or take {name} out of the "
        "split."
    )


def _videos_by_stem(folder: pathlib.Path) -> Mapping[str, tuple[pathlib.Path, ...]]:
    """Returns the videos of a folder by their names without the ending."""
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


def _normal(name: str) -> str:
    """Composes accents: some systems store a letter and its accent one by one."""
    return unicodedata.normalize("NFC", name)


def _breakfast_stem(name: str) -> str:
    """P03_cam01_P03_cereals -> P03/cam01/P03_cereals; stereo has two channels."""
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
