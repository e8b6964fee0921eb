"""Draws how training changes a video: once for each video and epoch, and held over it.

A draw depends on the seed, the epoch and the video alone. Threads, worker processes and
resumed runs therefore see the same, and what moves in a video is only what moved before
it. Crop and flip are in `transforms`.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import cv2
import numpy as np

Identity = tuple[int, int, int]  # seed, epoch, index of the video

_START, _ZOOM, _COLOUR, _ERASE = range(1, 5)  # each with random numbers of its own
_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601
# Random erasing, Zhong et al. (AAAI 2020): share of the area, and height over width.
_ERASED_AREA = 0.02, 0.4
_ERASED_SHAPE = 0.3, 1 / 0.3


class Box(NamedTuple):
    """Rows and columns of a picture."""

    rows: slice
    columns: slice


@dataclasses.dataclass(frozen=True)
class Strengths:
    """How much is changed; zeros change nothing. See `config.data`.

    Attributes:
        colour: brightness, contrast and saturation lie within 1 plus or minus this,
            the gains of red, green and blue within half of it.
        zoom: a crop's side is divided or multiplied by up to 1 plus this.
        erase: share of the videos in which a rectangle is covered.
    """

    colour: float = 0.0
    zoom: float = 0.0
    erase: float = 0.0


def first_frame(
    num_frames: int, clip_frames: int, identity: Identity, *, every: int = 1
) -> int:
    """Draws the raw frame at which a video begins: less than a chunk after its first.

    At least half of the video remains, and at least one whole chunk; a shorter video
    begins with its first frame.

    Args:
        num_frames: of the whole video.
        clip_frames: of a chunk.
        identity: seeds the draw.
        every: only multiples of this are drawn.
    """
    remains = max(clip_frames, -(-num_frames // 2))
    latest = max(0, min(clip_frames - 1, num_frames - remains))
    rng = _generator(_START, identity)
    return every * int(rng.integers(latest // every + 1))


@functools.lru_cache(maxsize=1024)  # a draw takes longer than resizing a small crop
def crop_side(
    resize: tuple[int, int], crop: int, zoom: float, identity: Identity
) -> int:
    """Draws the side of the square of the resized picture that becomes the crop: from
    crop / (1 + zoom) to crop * (1 + zoom) or the shorter side of the picture."""
    if not zoom:
        return crop
    largest = min(crop * (1 + zoom), *resize)
    rng = _generator(_ZOOM, identity)
    return round(_log_uniform(rng, crop / (1 + zoom), largest))


def zoomed(frame: np.ndarray, size: int) -> np.ndarray:
    """Resizes a square crop (S, S, 3) uint8 to (size, size, 3) uint8."""
    if len(frame) == size:
        return frame
    # Exact: the same bits on every machine.
    return cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)


def altered(
    frame: np.ndarray,
    strengths: Strengths,
    mean: tuple[float, ...],
    identity: Identity,
) -> np.ndarray:
    """Changes the colours of a crop, then covers a rectangle with the mean colour.

    Args:
        frame: (S, S, 3) uint8 RGB; it is not written to.
        strengths: of the changes.
        mean: RGB, in 0..1: the fixed point of contrast, and the covering colour.
        identity: seeds the draws.
    """
    if strengths.colour:
        frame = cv2.transform(frame, _colours(strengths.colour, mean, identity))
    box = _erased(strengths.erase, len(frame), identity) if strengths.erase else None
    if box is not None:
        frame = frame.copy()
        frame[box] = np.rint(np.multiply(mean, 255)).astype(np.uint8)
    return frame


@functools.lru_cache(maxsize=1024)
def _colours(
    strength: float, mean: tuple[float, ...], identity: Identity
) -> np.ndarray:
    """Draws (3, 4) float32: a matrix of RGB in 0..255, and what is added to it."""
    rng = _generator(_COLOUR, identity)
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    gains = rng.uniform(1 - strength / 2, 1 + strength / 2, 3)
    matrix = saturation * np.eye(3) + (1 - saturation) * _LUMA
    offset = (1 - contrast) * 255 * np.mean(mean) * np.ones((3, 1))
    affine = np.concatenate([contrast * matrix, offset], axis=1)
    affine = (brightness * gains[:, None] * affine).astype(np.float32)
    affine.setflags(write=False)  # shared by all callers through the cache
    return affine


@functools.lru_cache(maxsize=1024)
def _erased(share: float, size: int, identity: Identity) -> Box | None:
    """Draws a rectangle of a picture of `size` pixels a side; None for no rectangle."""
    rng = _generator(_ERASE, identity)
    if rng.random() >= share:
        return None
    area = rng.uniform(*_ERASED_AREA) * size**2
    shape = _log_uniform(rng, *_ERASED_SHAPE)
    height = min(size, max(1, round(math.sqrt(area * shape))))
    width = min(size, max(1, round(math.sqrt(area / shape))))
    top = int(rng.integers(size - height + 1))
    left = int(rng.integers(size - width + 1))
    return Box(slice(top, top + height), slice(left, left + width))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _generator(kind: int, identity: Identity) -> np.random.Generator:
    # A spawn key keeps apart from the crop's numbers, which the identity alone seeds.
    seeds = np.random.SeedSequence(identity, spawn_key=(kind,))
    return np.random.default_rng(seeds)
