"""Finds videos of the same content, whatever their encoding, size and rate.

A fingerprint is a film of 8x8 grey pixels at five pictures a second. Two of them are
compared after the mean picture of each is taken away, so that the room does not count,
only what moves in it: copies agree to 0.95 or more, even if one is a part of the other,
and other films of the same person in the same room to 0.9 at the most.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

STEP_S = 0.2  # between two pictures of a fingerprint
SIZE = 8  # pixels in a row and a column
SAME = 0.92  # likeness from which two films are one
_CANDIDATE = 0.4  # likeness of averages from which two films are compared
_COARSE = 4
_TRIED = 3  # delays at which two films are compared
_LEAST_PICTURES = 8  # in common
_LEAST_SHARE = 0.5  # of the shorter film that both show
_LEAST_MOTION = 1.0  # grey levels; films in which less happens cannot be compared
_TYPICAL, _MOST = 128, 512  # averages of pictures of a film that are searched


@dataclasses.dataclass(frozen=True)
class Match:
    """Two films that show the same.

    Attributes:
        names: of the two.
        likeness: correlation of what both show, at most 1.
        delay_s: seconds of the first at which the second begins.
    """

    names: tuple[str, str]
    likeness: float
    delay_s: float


def shrink(gray: np.ndarray) -> np.ndarray:
    """Returns a picture of a fingerprint, (SIZE, SIZE), of one n times as large."""
    return cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def matches(prints: Mapping[str, np.ndarray]) -> list[Match]:
    """Returns the pairs of films that share half of the shorter one, or more.

    Of films that are much longer than most, only the beginning is compared, and films
    of under two seconds, or without motion, are not.

    Args:
        prints: (T, SIZE, SIZE) uint8 by name.
    """
    names = [name for name, film in prints.items() if len(film) >= _LEAST_PICTURES]
    if len(names) < 2:
        return []
    block = max(1, round(float(np.median([len(prints[n]) for n in names])) / _TYPICAL))
    films = [_pictures(prints[name][: _MOST * block]) for name in names]
    found = []
    for first, second, delays in _candidates([_coarse(f, block) for f in films], block):
        near = {d + n for d in delays for n in range(-block, block + 1)}
        likeness, delay = max(
            (_exactly(films[first], films[second], delay, block), delay)
            for delay in sorted(near)
        )
        if likeness >= SAME:
            pair = names[first], names[second]
            found.append(Match(pair, likeness, delay * STEP_S))
    return found


def _pictures(film: np.ndarray) -> np.ndarray:
    """Returns (T, SIZE**2) float32, each picture with a mean of 0: light may differ."""
    flat = film.reshape(len(film), -1).astype(np.float32)
    return flat - flat.mean(1, keepdims=True)


def _coarse(film: np.ndarray, block: int) -> np.ndarray:
    """Returns the means of `block` pictures and of areas, (T / block, _COARSE**2)."""
    area = SIZE // _COARSE
    whole = film[: max(block, len(film) // block * block)]
    parts = whole.reshape(-1, block, _COARSE, area, _COARSE, area)
    return parts.mean((1, 3, 5)).reshape(len(parts), -1)


def _candidates(
    films: Sequence[np.ndarray], block: int
) -> list[tuple[int, int, list[int]]]:
    """Returns the pairs that a search at all delays, by FFT, finds worth comparing, and
    the likeliest delays of each, in pictures before they were averaged."""
    size = 1 << (2 * max(map(len, films)) - 1).bit_length()
    moving = [film - film.mean(0) for film in films]
    spectra = np.stack([np.fft.rfft(m, size, axis=0).astype("c8") for m in moving])
    sums = [np.append(0.0, np.cumsum((m**2).sum(1))) for m in moving]
    rooms = np.stack([film.mean(0) for film in films])
    rooms /= np.maximum(np.linalg.norm(rooms, axis=1, keepdims=True), 1e-6)
    pairs = []
    for first in range(len(films)):
        # Half of a film may have a mean picture of its own, but not any.
        alike = np.flatnonzero(rooms[:first] @ rooms[first] >= _CANDIDATE)
        for second in alike.tolist():
            delays = _delays(len(films[first]), len(films[second]), block)
            cross = np.einsum("fd,fd->f", spectra[first], spectra[second].conj())
            products = np.fft.irfft(cross, size)
            likeness = _likeness(products, sums[first], sums[second], delays)
            if len(delays) and likeness.max() >= _CANDIDATE:
                best = delays[np.argsort(-likeness)[:_TRIED]]
                pairs.append((first, second, (best * block).tolist()))
    return pairs


def _delays(first: int, second: int, block: int) -> np.ndarray:
    """Returns the delays at which enough of two films of these lengths overlaps."""
    delays = np.arange(-(second - 1), first)
    overlap = np.minimum(first, second + delays) - np.maximum(delays, 0)
    least = max(_LEAST_PICTURES / block, _LEAST_SHARE * min(first, second))
    return delays[overlap >= least]


def _likeness(
    products: np.ndarray, first: np.ndarray, second: np.ndarray, delays: np.ndarray
) -> np.ndarray:
    """Normalises products at `delays` by the running sums of squares of two films."""
    begin = np.maximum(delays, 0)
    end = np.minimum(len(first) - 1, len(second) - 1 + delays)
    energy = (first[end] - first[begin]) * (
        second[end - delays] - second[begin - delays]
    )
    return products[delays] / np.sqrt(np.maximum(energy, 1e-6))


def _exactly(first: np.ndarray, second: np.ndarray, delay: int, skip: int) -> float:
    """Returns the likeness of what both show at a delay, of one picture in `skip`, with
    the mean pictures of this part; 0 if that is too little."""
    begin, end = max(delay, 0), min(len(first), len(second) + delay)
    least = max(_LEAST_PICTURES, _LEAST_SHARE * min(len(first), len(second)))
    if end - begin < least:
        return 0.0
    ours, theirs = first[begin:end:skip], second[begin - delay : end - delay : skip]
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    motion = float(np.sqrt((ours**2).mean())), float(np.sqrt((theirs**2).mean()))
    if min(motion) < _LEAST_MOTION:
        return 0.0
    return float((ours * theirs).mean()) / (motion[0] * motion[1])
