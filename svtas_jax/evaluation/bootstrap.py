"""Bootstrap over videos: intervals of metrics, and whether two runs differ.

A resample draws as many videos as there are, with replacement, and computes every
metric from the sums of the drawn ones (`svtas_jax.evaluation.sums`). The 95 % interval
is from the 2.5th to the 97.5th percentile of the resamples (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13). Whole videos are drawn because frames
of a video are not independent; classes, weights and hyperparameters are taken as they
are, so that it is the interval of this model on other videos of the same kind, not of
other trainings.

For two runs on the same videos, both are resampled alike. The p-value is the share of
resamples whose difference departs from the measured one by at least as much as that one
departs from 0 (chapter 16), with one added to count and total, so that it is never 0.
Departures are widened by sqrt(n / (n - 1)), because the differences within n videos
vary less than those between all.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from svtas_jax.evaluation.details import Details, from_runs
from svtas_jax.structs import IGNORE_LABEL

FEWEST_VIDEOS = 5
MANY_VIDEOS = 20  # from which intervals are nearly as wide as they should be
NUM_RESAMPLES = 2000
LEVEL = 0.95
_ROUNDING = 1e-9
_FEWEST_DEFINED = 0.95  # share of resamples in which a metric must have a value
_CHUNK = 200  # resamples in memory at once, where each is as long as all delays
_QUANTILES = {"median": 0.5, "p95": 0.95}


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What the metrics of a report are made of, V videos in order.

    Attributes:
        ratios: metric -> (V, 2), numerators and denominators.
        right, true, predicted: (V, K) frames of each class: those labelled right, those
            that are of the class, and those labelled as it.
        delays: "start_delay", "end_delay" -> seconds, and of which video, (d,) each;
            empty without online metrics.
    """

    ratios: Mapping[str, np.ndarray]
    right: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    delays: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @property
    def num_videos(self) -> int:
        """V, the number of videos."""
        return len(self.true)

    def compute(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Returns metric -> (R,), NaN where it has no value.

        Args:
            weights: (R, V) how often each video counts.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                name: (weights @ pair[:, 0]) / (weights @ pair[:, 1])
                for name, pair in self.ratios.items()
            }
            recall = (weights @ self.right) / (weights @ self.true)
        found["acc_balanced"] = 100 * _mean_of_known(recall)
        for name, (seconds, video) in self.delays.items():
            parts = np.array_split(weights, -(-len(weights) // _CHUNK))
            shares = list(_QUANTILES.values())
            values = [_quantiles(seconds, part[:, video], shares) for part in parts]
            for word, column in zip(_QUANTILES, np.concatenate(values).T, strict=True):
                found[f"{name}_{word}_s"] = column
        return found


def statistics_of(details: Details) -> Statistics:
    """Returns what metrics are made of, videos in the order of their names, so that
    the same resamples come from every report on them."""
    videos = [details.videos[name] for name in sorted(details.videos)]
    videos = [video for video in videos if video.sums]  # those with a labelled frame
    frames = [
        _class_frames(v.prediction, v.truth, len(details.class_names)) for v in videos
    ]
    right, true, predicted = (np.array(part) for part in zip(*frames, strict=True))
    metrics = videos[0].sums if videos else {}
    delays = {
        "start_delay": [v.start_delays_s for v in videos],
        "end_delay": [v.end_delays_s for v in videos],
    }
    timed = "emission_delay_s" in metrics
    return Statistics(
        ratios={name: np.array([v.sums[name] for v in videos]) for name in metrics},
        right=right,
        true=true,
        predicted=predicted,
        delays={n: _joined(by_class) for n, by_class in delays.items()}
        if timed
        else {},
    )


def resample(
    num_videos: int, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """Returns how often each video is drawn in each resample, (R, V) int64."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(
        num_videos, np.full(num_videos, 1 / num_videos), num_resamples
    )


def intervals(statistics: Statistics, **options) -> dict[str, tuple[float, float]]:
    """Returns metric -> 95 % interval; `options` are those of `resample`.

    There is none for fewer than FEWEST_VIDEOS videos, nor for a metric that has no
    value in many resamples.
    """
    if statistics.num_videos < FEWEST_VIDEOS:
        return {}
    drawn = resample(statistics.num_videos, **options)
    return percentiles(statistics.compute(drawn))


def percentiles(found: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Returns metric -> 95 % interval of (R,) resamples, of those that mostly have a
    value."""
    tails = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    kept = {name: values[np.isfinite(values)] for name, values in found.items()}
    return {
        name: (float(low), float(high))
        for name, values in kept.items()
        if len(values) >= _FEWEST_DEFINED * len(found[name])
        for low, high in [np.percentile(values, tails)]
    }


def own_metrics(statistics: Statistics) -> dict[str, float]:
    """Returns the metrics over all videos, each counted once."""
    found = statistics.compute(np.ones((1, statistics.num_videos), np.int64))
    return {name: float(values[0]) for name, values in found.items()}


def p_value(differences: np.ndarray, measured: float, num_videos: int) -> float:
    """Returns the two-sided p-value of a difference, NaN if many resamples have none.

    Args:
        differences: (R,) of the resamples.
        measured: of all videos, each counted once.
        num_videos: number of them, at least 2.
    """
    known = differences[np.isfinite(differences)]
    if not np.isfinite(measured) or len(known) < _FEWEST_DEFINED * len(differences):
        return float("nan")
    apart = np.abs(known - measured) * np.sqrt(num_videos / (num_videos - 1))
    beyond = np.count_nonzero(apart >= abs(measured) - _ROUNDING)
    return (1 + beyond) / (1 + len(known))


def _class_frames(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, true = from_runs(prediction), from_runs(truth)
    known = true != IGNORE_LABEL
    labels, true = labels[known], true[known]
    groups = (true[true == labels], true, labels)
    right, of_class, labelled = (np.bincount(g, minlength=num_classes) for g in groups)
    return right, of_class, labelled


def _joined(by_class: Sequence[Mapping[int, Sequence[float]]]):
    """Returns all delays in ascending order, and the video of each."""
    pairs = sorted(
        (delay, video)
        for video, delays in enumerate(by_class)
        for of_class in delays.values()
        for delay in of_class
    )
    values = np.array(pairs, np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1].astype(np.int64)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Returns the means of each row's values that are no NaN, (R,)."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(axis=1) / np.maximum(1, known.sum(axis=1))


def _quantiles(
    values: np.ndarray, counts: np.ndarray, shares: Sequence[float]
) -> np.ndarray:
    """Returns NumPy's linear quantiles of values that count several times, (R, shares).

    Args:
        values: (d,) ascending.
        counts: (R, d) how often each counts.
        shares: 0.5 is the median.
    """
    ends = np.cumsum(counts, axis=1)
    totals = ends[:, -1] if len(values) else np.zeros(len(counts), np.int64)
    found = np.full((len(counts), len(shares)), np.nan)
    for row in np.flatnonzero(totals):
        places = np.array(shares) * (totals[row] - 1)
        low = values[np.searchsorted(ends[row], np.floor(places), side="right")]
        high = values[np.searchsorted(ends[row], np.ceil(places), side="right")]
        found[row] = low + (high - low) * (places - np.floor(places))
    return found
