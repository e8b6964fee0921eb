"""What the preparation must know of the video files, and what it tells of them."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from data_pipeline import pace, transforms, video
from data_pipeline.layout.findings import Finding
from data_pipeline.layout.labelling import end_of
from data_pipeline.layout.matching import NamedVideo
from svtas_jax.errors import InputError
from svtas_jax.runtime.progress import Progress

_SAME_RATE = 0.02  # rates closer than this are one, 29.97 and 30
_SAME_SHAPE = 1.05  # so much may the width, for the height, differ
_VIDEOS, _PICTURES = 32, 12  # that colours are measured on, and of each
_MEASURED = 64  # short side of the pictures that they are measured on


@dataclasses.dataclass(frozen=True)
class Media:
    """A video file, decoded to its end.

    Attributes:
        path: of the file.
        times_s: (num_frames,) when its frames are shown, since the first.
        width, height: of its pictures as they are shown.
        rotation: degrees by which players turn them.
        is_uneven: whether its rate varies.
    """

    path: pathlib.Path
    times_s: np.ndarray
    width: int
    height: int
    rotation: int
    is_uneven: bool

    @property
    def num_frames(self) -> int:
        """How many frames players show."""
        return len(self.times_s)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return end_of(self.times_s) - float(self.times_s[0])

    @property
    def fps(self) -> float:
        """Its mean rate, by time stamps."""
        return self.num_frames / self.seconds


def examine_all(
    videos: Sequence[NamedVideo],
) -> tuple[dict[NamedVideo, Media], list[Finding]]:
    """Decodes all videos to their ends; returns those that can be read, and why others
    cannot."""
    found, media = [], {}
    size = sum(v.path.stat().st_size for v in videos) / 1e6
    progress = Progress(first=0, last=len(videos), unit="MB")
    logging.info("Reading %d videos, %.0f MB", len(videos), size)
    for count, (named, result) in enumerate(_examined(videos), 1):
        progress.add(named.path.stat().st_size / 1e6)
        logging.info("%s", progress.line(count, named.name))
        if isinstance(result, Media):
            media[named] = result
        else:
            text = str(result)
            found.append(Finding("error", "unreadable video", named.name, text))
    return media, found


def _examined(
    videos: Sequence[NamedVideo],
) -> Iterator[tuple[NamedVideo, Media | InputError]]:
    # PyAV releases the GIL while it decodes, so threads read in parallel.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from zip(videos, pool.map(_examine, videos), strict=True)


def _examine(named: NamedVideo) -> Media | InputError:
    try:
        times = video.frame_times(named.path)
        info = video.probe_video(named.path)
        return Media(
            path=named.path,
            times_s=times,
            width=info.width,
            height=info.height,
            rotation=_rotation(named.path),
            is_uneven=pace.uneven_times(named.path) is not None,
        )
    except InputError as error:
        return error


def _rotation(path: pathlib.Path) -> int:
    with contextlib.closing(video.open_film(path)) as decoder:
        frame = next(decoder.frames(), None)
        return int(frame.rotation) % 360 if frame is not None else 0


def describe_media(media: dict[NamedVideo, Media]) -> list[Finding]:
    """Returns what a person should know of the files before they train on them."""
    found: list[Finding] = []
    if not media:
        return found
    for named, file in media.items():
        if file.is_uneven:
            text = f"its rate varies, {file.fps:.4g} frames a second on average"
            found.append(Finding("note", "variable rate", named.name, text))
        if file.rotation:
            text = f"players turn it by {file.rotation} degrees, and so does training"
            found.append(Finding("note", "rotation", named.name, text))
    found += _other_rates(media)
    return found + _other_shapes(media)


def _other_rates(media: dict[NamedVideo, Media]) -> list[Finding]:
    usual = float(np.median([file.fps for file in media.values()]))
    return [
        Finding(
            *("warning", "other rate", named.name),
            f"{file.fps:.4g} frames a second, where most have {usual:.4g}",
            "the model sees every n-th frame, so an action looks faster or slower: "
            "convert these files (ffmpeg -i INPUT -r RATE OUTPUT.mp4), prepare again",
        )
        for named, file in media.items()
        if abs(file.fps / usual - 1) > _SAME_RATE
    ]


def _other_shapes(media: dict[NamedVideo, Media]) -> list[Finding]:
    shapes = {named: file.width / file.height for named, file in media.items()}
    usual = float(np.median(list(shapes.values())))
    sizes = collections.Counter((f.width, f.height) for f in media.values())
    (width, height), _ = sizes.most_common(1)[0]
    return [
        Finding(
            *("warning", "other shape", named.name),
            f"{media[named].width} x {media[named].height} pixels, where most have "
            f"{width} x {height}",
            "pictures of another shape are stretched: crop or pad these files",
        )
        for named, shape in shapes.items()
        if not 1 / _SAME_SHAPE < shape / usual < _SAME_SHAPE
    ]


def measure_colours(
    paths: Sequence[pathlib.Path],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of the colours, RGB in 0..1.

    They are those of some pictures of up to 32 videos, each video counting as much.
    """
    chosen = [paths[i] for i in _spread(len(paths), _VIDEOS)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = np.array(list(pool.map(_moments, chosen)))  # (V, 2, 3)
    mean, square = sums.mean(axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 1e-4))
    return tuple(map(float, mean)), tuple(map(float, std))


def _spread(count: int, most: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist()))


def _moments(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    pictures = video.glance(path, _PICTURES)
    height, width = pictures.shape[1:3]
    scale = min(1.0, _MEASURED / min(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    crop = transforms.centre_crop(size, min(size))
    small = transforms.transform_frames(pictures, resize=size, crop=crop) / 255.0
    return small.mean(axis=(0, 1, 2)), (small**2).mean(axis=(0, 1, 2))
