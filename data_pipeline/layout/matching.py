"""Which annotation belongs to which video, by their names."""

import collections
import contextlib
import dataclasses
import difflib
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence

from data_pipeline.annotators.segments import Annotation
from data_pipeline.layout.findings import Finding
from data_pipeline.video_files import breakfast_stem, is_video_name
from svtas_jax.errors import InputError, MissingInputError


@dataclasses.dataclass(frozen=True)
class NamedVideo:
    """A video file, and its name in the data set: the file's, without extension."""

    name: str
    path: pathlib.Path


def list_videos(folder: pathlib.Path) -> tuple[NamedVideo, ...]:
    """Returns the videos in a folder and the folders in it, sorted.

    Videos of the same name in different folders are called FOLDER_NAME.

    Raises:
        MissingInputError: if the folder does not exist or holds no video.
        InputError: if two videos of one folder differ only in their extension.
    """
    if not folder.exists():
        raise MissingInputError(
            f"--videos={folder} does not exist; give the folder of your videos."
        )
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    paths = [p for p in paths if p.is_file() and is_video_name(p.name)]
    paths = [p for p in paths if not _is_hidden(p, folder)]
    if not paths:
        raise MissingInputError(
            f"--videos={folder} holds no video, such as monday.mp4; give the folder of "
            "your videos."
        )
    times = collections.Counter(_normal(path.stem) for path in paths)
    videos = [
        NamedVideo(_name(path, folder, times[_normal(path.stem)] > 1), path)
        for path in paths
    ]
    _check_unique(videos)
    return tuple(videos)


@dataclasses.dataclass(frozen=True)
class Matches:
    """Videos with their annotations, and what was found."""

    pairs: tuple[tuple[NamedVideo, Annotation], ...]
    findings: tuple[Finding, ...]


def match(
    videos: Sequence[NamedVideo],
    annotations: Sequence[Annotation],
    *,
    partial: bool,
) -> Matches:
    """Finds the video of every annotation.

    An annotation names its video as a file, with or without extension and folder. If
    there is one of each, they belong together whatever they are called.

    Args:
        videos: all there are.
        annotations: all there are.
        partial: an annotation without a video is a warning, no error.
    """
    index = _index(videos)
    found: list[Finding] = []
    chosen: dict[NamedVideo, Annotation] = {}
    for annotation in annotations:
        candidates = _candidates(index, annotation.video)
        if len(videos) == len(annotations) == 1 and not candidates:
            candidates = list(videos)
            text = f"taken for the only video, {videos[0].path.name}"
            found.append(Finding("note", "matched", annotation.source, text))
        if len(candidates) != 1:
            found.append(_homeless(annotation, candidates, videos, partial))
        elif candidates[0] in chosen:
            found.append(_second(candidates[0], chosen[candidates[0]], annotation))
        else:
            chosen[candidates[0]] = annotation
    for video in videos:
        if video not in chosen:
            text = "has no annotation, and is left out"
            found.append(Finding("warning", "unlabelled video", str(video.path), text))
    pairs = tuple((v, chosen[v]) for v in videos if v in chosen)
    named = tuple((_as_published(v, a), a) for v, a in pairs)
    return Matches(named, tuple(found))


def _as_published(video: NamedVideo, annotation: Annotation) -> NamedVideo:
    """Breakfast's videos are called after their folders, in its splits, too."""
    name = pathlib.PurePosixPath(annotation.video).name
    with contextlib.suppress(InputError):
        if video.path.with_suffix("").as_posix().endswith("/" + breakfast_stem(name)):
            return dataclasses.replace(video, name=name)
    return video


def _is_hidden(path: pathlib.Path, folder: pathlib.Path) -> bool:
    parts = path.relative_to(folder).parts if path != folder else ()
    return any(part.startswith(".") for part in parts)


def _name(path: pathlib.Path, folder: pathlib.Path, is_ambiguous: bool) -> str:
    if not is_ambiguous:
        return path.stem
    return "_".join(path.relative_to(folder).with_suffix("").parts)


def _check_unique(videos: Iterable[NamedVideo]) -> None:
    known: dict[str, NamedVideo] = {}
    for video in videos:
        other = known.setdefault(_normal(video.name).casefold(), video)
        if other is not video:
            raise InputError(
                f"{other.path} and {video.path} would both be the video "
                f"{video.name!r}; rename one of them, or take it out of the folder."
            )


def _index(videos: Iterable[NamedVideo]) -> dict[str, list[NamedVideo]]:
    """Returns videos by all names that an annotation may call them."""
    index: dict[str, list[NamedVideo]] = collections.defaultdict(list)
    for video in videos:
        parts = video.path.parts
        names = {video.name, video.path.stem, video.path.name}
        for depth in range(2, min(len(parts), 5) + 1):
            tail = pathlib.PurePosixPath(*parts[-depth:])
            names |= {str(tail), str(tail.with_suffix(""))}
            names.add("_".join(tail.with_suffix("").parts))
        for name in {_key(name) for name in names}:
            index[name].append(video)
    return index


def _candidates(index: dict[str, list[NamedVideo]], name: str) -> list[NamedVideo]:
    """Returns the videos that a name may mean; the longest tail of a path decides."""
    parts = pathlib.PurePosixPath(name.replace("\\", "/")).parts
    for first in range(len(parts)):
        tail = pathlib.PurePosixPath(*parts[first:])
        for key in (str(tail), str(tail.with_suffix(""))):
            if found := index.get(_key(key)):
                return found
    with contextlib.suppress(InputError):  # as Breakfast's stereo videos are named
        return index.get(_key(breakfast_stem(parts[-1])), []) if parts else []
    return []


def _homeless(
    annotation: Annotation,
    candidates: Sequence[NamedVideo],
    videos: Sequence[NamedVideo],
    partial: bool,
) -> Finding:
    if candidates:
        files = ", ".join(str(video.path) for video in candidates)
        text = f"names {annotation.video!r}, which may be any of {files}"
        remedy = "name the video with its folder, or rename the files"
        return Finding("error", "ambiguous video", annotation.source, text, remedy)
    names = [video.name for video in videos]
    close = difflib.get_close_matches(annotation.video, names, n=1)
    hint = f"; is it {close[0]!r}?" if close else ""
    return Finding(
        "warning" if partial else "error",
        "missing video",
        annotation.source,
        f"no video is called {annotation.video!r}{hint}",
        "annotation and video must share their name; to leave out what has no video: "
        "--partial",
    )


def _second(video: NamedVideo, first: Annotation, second: Annotation) -> Finding:
    return Finding(
        "error",
        "two annotations",
        second.source,
        f"{video.path} is annotated by {first.source}, too",
        "keep one of the two, or choose one tier: --tier=NAME",
    )


def _key(name: str) -> str:
    return _normal(name).casefold()


def _normal(name: str) -> str:
    """Composes accents: some systems store a letter and its accent one by one."""
    return unicodedata.normalize("NFC", name)
