"""Finds videos of the same content, whatever their encoding, size and rate.

A fingerprint is a film of 8x8 grey pixels at five pictures a second. Two of them are
compared after the mean picture of each is taken away, so that the room does not count,
only what moves in it: copies agree to 0.95 or more, even if one is a part of the other,
and other films of the same person in the same room to 0.9 at the most.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

STEP_S = 0.2  # between two pictures of a fingerprint
SIZE = 8  # pixels in a row and a column
SAME = 0.92  # likeness from which two films are one
_CANDIDATE = 0.4  # likeness of coarser fingerprints from which two are compared
_COARSE = 4
_LEAST_PICTURES = 8  # in common
_LEAST_SHARE = 0.5  # of the shorter film that both show
_LEAST_MOTION = 1.0  # grey levels; films in which less happens cannot be compared
_TYPICAL, _MOST = 256, 1024  # pictures of a film that are compared


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
    block = len(gray) // SIZE
    parts = gray.reshape(SIZE, block, SIZE, block)
    return parts.mean((1, 3)).round().astype(np.uint8)


def matches(prints: Mapping[str, np.ndarray]) -> list[Match]:
    """Returns the pairs of films that share half of the shorter one, or more.

    Of films that are much longer than most, only the beginning is compared, and films
    of under two seconds, or without motion, are not.

    Args:
        prints: (T, SIZE, SIZE) uint8 by name.
    """
    films = {name: v for name, v in prints.items() if len(v) >= _LEAST_PICTURES}
    if len(films) < 2:
        return []
    typical = float(np.median([len(film) for film in films.values()]))
    skip = max(1, round(typical / _TYPICAL))
    names = [name for name, v in films.items() if len(v[::skip]) >= _LEAST_PICTURES]
    fine = [_pictures(films[name][::skip][:_MOST]) for name in names]
    found = []
    for first, second in _candidates([_coarse(film) for film in fine]):
        likeness, delay = _compare(fine[first], fine[second])
        if likeness >= SAME:
            pair = names[first], names[second]
            found.append(Match(pair, likeness, delay * skip * STEP_S))
    return found


def _pictures(film: np.ndarray) -> np.ndarray:
    """Returns (T, SIZE**2) float32, each picture with a mean of 0: light may differ."""
    flat = film.reshape(len(film), -1).astype(np.float32)
    return flat - flat.mean(1, keepdims=True)


def _coarse(film: np.ndarray) -> np.ndarray:
    block = SIZE // _COARSE
    parts = film.reshape(len(film), _COARSE, block, _COARSE, block)
    return parts.mean((2, 4)).reshape(len(film), -1)


def _candidates(films: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Returns the pairs that a search at all delays, by FFT, finds worth comparing."""
    longest = max(map(len, films))
    size = 1 << (2 * longest - 1).bit_length()
    moving = [film - film.mean(0) for film in films]
    spectra = np.stack([np.fft.rfft(m, size, axis=0).astype("c8") for m in moving])
    sums = [np.append(0.0, np.cumsum((m**2).sum(1))) for m in moving]
    pairs = []
    for first in range(len(films)):
        for second in range(first):
            delays = _delays(len(films[first]), len(films[second]))
            cross = np.einsum("fd,fd->f", spectra[first], spectra[second].conj())
            products = np.fft.irfft(cross, size)
            likeness = _likeness(products, sums[first], sums[second], delays)
            if likeness.max() >= _CANDIDATE:
                pairs.append((first, second))
    return pairs


def _delays(first: int, second: int) -> np.ndarray:
    """Returns the delays at which enough of two films of these lengths overlaps."""
    delays = np.arange(-(second - 1), first)
    overlap = np.minimum(first, second + delays) - np.maximum(delays, 0)
    least = max(_LEAST_PICTURES, _LEAST_SHARE * min(first, second))
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


def _compare(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """Returns the largest likeness of what both show, and the delay of the second."""
    size = 1 << (len(first) + len(second)).bit_length()
    moving = first - first.mean(0), second - second.mean(0)
    spectra = [np.fft.rfft(m, size, axis=0) for m in moving]
    products = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(1), size)
    ours, theirs = (np.append(0.0, np.cumsum((m**2).sum(1))) for m in moving)
    delays = _delays(len(first), len(second))
    order = np.argsort(-_likeness(products, ours, theirs, delays))[:3]
    return max((_exactly(first, second, int(delays[i])), int(delays[i])) for i in order)


def _exactly(first: np.ndarray, second: np.ndarray, delay: int) -> float:
    """Returns the likeness of the overlap, with the mean pictures of the overlap."""
    begin, end = max(delay, 0), min(len(first), len(second) + delay)
    ours, theirs = first[begin:end], second[begin - delay : end - delay]
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    motion = float(np.sqrt((ours**2).mean())), float(np.sqrt((theirs**2).mean()))
    if min(motion) < _LEAST_MOTION:
        return 0.0
    return float((ours * theirs).mean()) / (motion[0] * motion[1])
