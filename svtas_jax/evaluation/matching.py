"""Compares the predicted and the true segments of one video."""

from collections.abc import Sequence

import numpy as np

from svtas_jax.structs import Segment

F1_OVERLAPS = (0.10, 0.25, 0.50)


def labels_of(segments: Sequence[Segment]) -> np.ndarray:
    """Returns the class of every segment, (P,) int64."""
    return np.array([s.label for s in segments], np.int64)


def same_class(predicted: Sequence[Segment], true: Sequence[Segment]) -> np.ndarray:
    """Returns whether the two segments of each pair have the same class, (P, G)."""
    return labels_of(predicted)[:, None] == labels_of(true)


def overlaps_of(predicted: Sequence[Segment], true: Sequence[Segment]) -> np.ndarray:
    """Returns the intersection over union of every pair, (P, G) in 0..1."""
    start, end = (
        (
            np.array([getattr(s, edge) for s in predicted], np.int64)[:, None],
            np.array([getattr(s, edge) for s in true], np.int64),
        )
        for edge in ("start", "end")
    )
    shared = np.minimum(*end) - np.maximum(*start)
    # The hull is the union of segments that overlap; otherwise the result is 0 anyway.
    # It is empty only if both segments are.
    hull = np.maximum(1, np.maximum(*end) - np.minimum(*start))
    return np.maximum(shared, 0) / hull


def match(
    overlaps: np.ndarray, *, hit_without_actions: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts true positives, false positives and false negatives, (3,) each, at
    F1_OVERLAPS.

    Every predicted segment chooses the true segment of its class with the highest IoU.
    The first with enough IoU matches it, and later ones are false positives, so a true
    segment is found if any predicted one chooses it.

    Args:
        overlaps: (P, G) IoU, 0 where the classes differ.
        hit_without_actions: see `presets.Rules`.
    """
    num_predicted, num_true = overlaps.shape
    zeros = np.zeros(len(F1_OVERLAPS), np.int64)
    if not num_true and hit_without_actions:
        return zeros + (num_predicted == 0), zeros, zeros
    if not num_true:
        return zeros, zeros + num_predicted, zeros
    chosen, overlap = overlaps.argmax(axis=1), overlaps.max(axis=1)
    found = np.array([len(np.unique(chosen[overlap >= o])) for o in F1_OVERLAPS])
    return found, num_predicted - found, num_true - found


def f1_score(found: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Returns F1 in 0..1; 0 where nothing was found."""
    return 2.0 * found / np.maximum(1, 2 * found + wrong + missed)


def edit_score(
    predicted: Sequence[Segment], true: Sequence[Segment], *, epsilon: float
) -> float:
    """Returns 1 - normalised edit distance of the two label sequences, in 0..1.

    It is 1 if both are empty. `epsilon` is added to the length that normalises.
    """
    length = max(len(predicted), len(true))
    if not length:
        return 1.0
    distance = _levenshtein(labels_of(predicted), labels_of(true))
    return 1.0 - distance / (length + epsilon)


def _levenshtein(a: np.ndarray, b: np.ndarray) -> int:
    """Returns the edit distance: insertions, deletions and replacements cost 1."""
    a, b = sorted((a, b), key=len)  # the loop is over the shorter one
    columns = np.arange(len(b) + 1)
    row = columns
    for index, symbol in enumerate(a):
        best = np.minimum(row[:-1] + (b != symbol), row[1:] + 1)
        best = np.concatenate(([index + 1], best))
        # Insertions run along the row: min over j' <= j of best[j'] + (j - j').
        row = np.minimum.accumulate(best - columns) + columns
    return int(row[-1])
