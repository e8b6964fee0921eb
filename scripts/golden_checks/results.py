"""The result of a comparison, and measures of its error."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Result:
    """The error of one array, in the units of its tolerance."""

    mode: str  # the comparison: "eval output", "gradient", ...
    name: str  # the array
    error: float
    tolerance: float
    retried: bool = False  # a better conditioned result of the same mode follows

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance

    @property
    def excess(self) -> float:
        """Sort key from best to worst: error / tolerance; NaN is worst."""
        if math.isnan(self.error):
            return math.inf
        if self.tolerance:
            return self.error / self.tolerance
        return math.inf if self.error else 0.0


def worst_by_mode(results: list[Result]) -> list[Result]:
    """Returns the worst result of every mode, in the order of first appearance."""
    worst: dict[str, Result] = {}
    for result in results:
        if result.mode not in worst or result.excess > worst[result.mode].excess:
            worst[result.mode] = result
    return list(worst.values())


def ratio(difference: float, scale: float) -> float:
    """Returns difference / scale; 0 for no difference, whatever the scale."""
    if difference == 0:
        return 0.0
    return float(difference / scale) if scale else math.inf


def exact(mode: str, name: str, ours: ArrayLike, reference: ArrayLike) -> Result:
    """Compares by the largest difference, which must be zero."""
    return Result(mode, name, _largest_difference(ours, reference), 0.0)


def absolute(
    mode: str, name: str, ours: ArrayLike, reference: ArrayLike, tolerance: float
) -> Result:
    """Compares by the largest difference."""
    return Result(mode, name, _largest_difference(ours, reference), tolerance)


def relative(
    mode: str,
    name: str,
    ours: ArrayLike,
    reference: ArrayLike,
    tolerance: float,
    *,
    least: float = 0.0,
) -> Result:
    """Compares by the largest difference / max(largest reference value, `least`)."""
    largest = max(_largest(reference), least)
    error = ratio(_largest_difference(ours, reference), largest)
    return Result(mode, name, error, tolerance)


def elementwise(
    mode: str,
    name: str,
    ours: ArrayLike,
    reference: ArrayLike,
    *,
    rtol: float,
    atol: float = 0.0,
) -> Result:
    """Compares by the largest |difference| / (|value| + atol / rtol), which passes if
    |difference| <= atol + rtol * |value| everywhere."""
    if np.shape(ours) != np.shape(reference):
        return Result(mode, name, math.inf, rtol)
    reference = np.asarray(reference, np.float64)
    differences = np.abs(np.asarray(ours, np.float64) - reference)
    allowed = np.abs(reference) + atol / rtol
    errors = [ratio(d, a) for d, a in zip(differences.flat, allowed.flat, strict=True)]
    return Result(mode, name, float(np.max(errors, initial=0.0)), rtol)


def _largest(array: ArrayLike) -> float:
    return float(np.max(np.abs(np.asarray(array, np.float64)), initial=0.0))


def _largest_difference(ours: ArrayLike, reference: ArrayLike) -> float:
    """Returns infinity if the shapes differ."""
    if np.shape(ours) != np.shape(reference):
        return math.inf
    difference = np.asarray(ours, np.float64) - np.asarray(reference, np.float64)
    return _largest(difference)
