"""Resizes, crops and flips uint8 frames; the device normalises them.

Resizing is linear and separable, so it is two matrix products. The crop selects rows
of the two matrices and the flip reverses the rows of one of them, so only pixels that
are kept are computed. The matrices are banded, so they are multiplied in small blocks.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import ml_collections
import numpy as np

_SPAN = 24  # pixels per block: few zeros inside, large enough for BLAS
# OpenBLAS splits larger products over all cores. There its threads wait for each other
# and for the decoding threads, which is many times slower on a busy machine.
_MAX_PRODUCTS = 1 << 17
_LEVELS = 1 << 11  # of a weight: 8 (pixel) + 5 (_BETWEEN) + 11 bits fit float32's 24
_BETWEEN = 1 << 5  # levels per grey value between the two products


class Crop(NamedTuple):
    """A square of `size` pixels whose first row is `top` and first column `left`."""

    size: int
    top: int
    left: int


class _Block(NamedTuple):
    outputs: slice
    inputs: slice
    weights: np.ndarray  # (outputs, inputs); for columns, channels are folded in


def draw_crop(
    rng: np.random.Generator, resize: tuple[int, int], crop: int
) -> tuple[Crop, bool]:
    """Draws crop and flip of a frame resized to `resize` (height, width)."""
    top = int(rng.integers(resize[0] - crop + 1))
    left = int(rng.integers(resize[1] - crop + 1))
    return Crop(crop, top, left), bool(rng.integers(2))


def centre_crop(resize: tuple[int, int], crop: int) -> Crop:
    """Returns the crop in the middle of a frame resized to `resize`."""
    return Crop(crop, round((resize[0] - crop) / 2), round((resize[1] - crop) / 2))


def transform_of(
    data_config: ml_collections.ConfigDict,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function that makes a model's input (crop, crop, 3) uint8 of a frame
    (H, W, 3) uint8, as in evaluation."""
    resize = tuple(data_config.resize)
    crop = centre_crop(resize, data_config.crop)

    def transform(frame: np.ndarray) -> np.ndarray:
        return transform_frames(frame[None], resize=resize, crop=crop)[0]

    return transform


@functools.lru_cache(maxsize=64)
def resize_matrix(in_size: int, out_size: int) -> np.ndarray:
    """Returns the (out_size, in_size) float32 matrix of antialiased linear resizing.

    The triangle filter widens with the shrinking factor, so that every input pixel
    counts; enlarging interpolates linearly. The weights are multiples of 1 / 2048, and
    every row sums to one.
    """
    scale = in_size / out_size
    support = max(scale, 1.0)
    centres = (np.arange(out_size) + 0.5) * scale
    distances = np.arange(in_size) + 0.5 - centres[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(distances) / support)
    shares = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    levels = np.diff(np.rint(shares * (_LEVELS // 2)), axis=1, prepend=0)
    weights = ((levels + levels[::-1, ::-1]) / _LEVELS).astype(np.float32)
    weights.setflags(write=False)  # shared by all callers through the cache
    return weights


def transform_frames(
    frames: np.ndarray, *, resize: tuple[int, int], crop: Crop, flip: bool = False
) -> np.ndarray:
    """Resizes, crops and flips frames.

    Args:
        frames: (T, H, W, 3) uint8.
        resize: height and width of the whole resized frame.
        crop: the square of the resized frame to keep, a `Crop` or (size, top, left).
        flip: mirrors left and right.

    Returns:
        (T, size, size, 3) uint8.
    """
    size, top, left = crop
    height, width = frames.shape[1:3]
    if (height, width) == tuple(resize):
        kept = frames[:, top : top + size, left : left + size]
        return np.ascontiguousarray(kept[:, :, ::-1] if flip else kept)
    rows = _row_blocks(height, resize[0], top, size)
    columns = _column_blocks(width, resize[1], left, size, flip)
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        _resample(frame, rows, columns, target)
    return out


def resize_frame(frame: np.ndarray, resize: tuple[int, int]) -> np.ndarray:
    """Resizes a whole frame (H, W, 3) uint8 to (height, width, 3) uint8."""
    if frame.shape[:2] == tuple(resize):
        return frame
    rows = _row_blocks(frame.shape[0], resize[0], 0, resize[0])
    columns = _column_blocks(frame.shape[1], resize[1], 0, resize[1], False)
    out = np.empty((*resize, 3), np.uint8)
    _resample(frame, rows, columns, out)
    return out


def _resample(
    frame: np.ndarray,
    rows: tuple[_Block, ...],
    columns: tuple[_Block, ...],
    target: np.ndarray,
) -> None:
    height, width, channels = frame.shape
    kept_rows, kept_columns = target.shape[:2]
    flat = frame.reshape(height, width * channels)
    tall = np.empty((kept_rows, width * channels), np.float32)
    for outputs, inputs, weights in rows:
        pixels = flat[inputs].astype(np.float32)
        for part in _parts(pixels.shape[1], weights.size):
            np.matmul(weights, pixels[:, part], out=tall[outputs, part])
    np.rint(tall, out=tall)
    result = np.empty((kept_rows, kept_columns * channels), np.float32)
    for outputs, inputs, weights in columns:
        for part in _parts(kept_rows, weights.size):
            np.matmul(tall[part, inputs], weights.T, out=result[part, outputs])
    result += 0.5  # rounds to the nearest level; averages of 0..255 stay inside
    target[...] = result.reshape(target.shape)


@functools.lru_cache(maxsize=1024)
def _parts(length: int, cost: int) -> tuple[slice, ...]:
    """Cuts `length` into equal parts of at most `_MAX_PRODUCTS // cost`."""
    num_parts = -(-length * cost // _MAX_PRODUCTS)
    bounds = [length * i // num_parts for i in range(num_parts + 1)]
    return tuple(map(slice, bounds[:-1], bounds[1:]))


@functools.lru_cache(maxsize=1024)
def _row_blocks(
    in_size: int, out_size: int, start: int, size: int
) -> tuple[_Block, ...]:
    """Returns the blocks of the first product, in units of 1 / `_BETWEEN`."""
    matrix = resize_matrix(in_size, out_size)[start : start + size] * _BETWEEN
    return _blocks(matrix, out_size / in_size, channels=1)


@functools.lru_cache(maxsize=1024)
def _column_blocks(
    in_size: int, out_size: int, start: int, size: int, flip: bool
) -> tuple[_Block, ...]:
    """Returns the blocks of the second product, back in grey values."""
    matrix = resize_matrix(in_size, out_size)[start : start + size] / _BETWEEN
    matrix = matrix[::-1] if flip else matrix
    return _blocks(matrix, out_size / in_size, channels=3)


def _blocks(matrix: np.ndarray, scale: float, *, channels: int) -> tuple[_Block, ...]:
    """Cuts the kept rows of a resize matrix into blocks and drops their zeros."""
    blocks, step = [], max(1, round(_SPAN * min(1.0, scale)))
    for first in range(0, len(matrix), step):
        rows = matrix[first : first + step]
        used = np.flatnonzero(rows.any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        weights = np.kron(rows[:, low:high], np.eye(channels, dtype=np.float32))
        outputs = slice(first * channels, (first + len(rows)) * channels)
        blocks.append(_Block(outputs, slice(low * channels, high * channels), weights))
    return tuple(blocks)
