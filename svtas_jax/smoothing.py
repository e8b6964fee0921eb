"""Smooths labels as they come, without looking ahead; off by default.

One smoother serves the live stream and the evaluation, so that the metrics of smoothed
labels are those of what a viewer is shown.

The rules are simple forms of two published ideas against labels that flicker:

- Myers et al., "O-TALC: Steps Towards Combating Oversegmentation within Online Action
  Segmentation", 2024, removes segments that are shorter than a cutoff, which is one for
  all classes or one for each. `min_duration_s` is one for all, in seconds.
- Zhong et al., "OnlineTAS: An Online Baseline for Temporal Action Segmentation", 2024,
  adds a step after the model that constrains the duration of actions and the confidence
  of predictions, so that short and unsure segments join the action before. Here the two
  are rules of their own: each holds a label back, whatever the other allows.

Hysteresis, as in a Schmitt trigger, is our addition. The figures of neither paper apply
here.
"""

import dataclasses
import math
from collections import deque
from typing import Any

import numpy as np

from svtas_jax.errors import InputError

NUM_DELAYS = 1000  # of which each is kept; those before are in the summary
_CLOSE_S = 1e-6  # time stamps are sums of rounded numbers


def _check(flag: str, value: float, highest: float) -> None:
    if not (0 <= value <= highest and math.isfinite(value)):
        allowed = (
            "a number of seconds, 0 or more"
            if math.isinf(highest)
            else f"a probability from 0 to {highest:g}"
        )
        raise InputError(f"{flag}={value} is not {allowed}; 0 turns this rule off.")


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """What a new label needs before it is shown; 0 turns a rule off.

    Attributes:
        min_duration_s: seconds for which it has been the model's label without a break.
        min_confidence: its probability, 0..1.
        hysteresis: by how much its probability exceeds that of the label shown, 0..1.

    Raises:
        InputError: if a value is out of range.
    """

    min_duration_s: float = 0.0
    min_confidence: float = 0.0
    hysteresis: float = 0.0

    def __post_init__(self) -> None:
        _check("--min_duration", self.min_duration_s, math.inf)
        _check("--min_confidence", self.min_confidence, 1.0)
        _check("--hysteresis", self.hysteresis, 1.0)

    @property
    def is_off(self) -> bool:
        """Whether labels are shown as the model gives them."""
        return not self.rules

    @property
    def rules(self) -> dict[str, float]:
        """The rules that are on: name of the flag -> value."""
        values = {
            "min_duration": self.min_duration_s,
            "min_confidence": self.min_confidence,
            "hysteresis": self.hysteresis,
        }
        return {name: value for name, value in values.items() if value}


OFF = Smoothing()


def of_flags(given: Any) -> Smoothing:
    """Returns the rules of a command's flags, see `svtas_jax.runtime.cli.SMOOTHING`."""
    return Smoothing(given.min_duration, given.min_confidence, given.hysteresis)


@dataclasses.dataclass(frozen=True)
class Delays:
    """By how much smoothing showed new labels late.

    Attributes:
        number: changes of the label shown, without those where a stream begins.
        mean_s, max_s: from the first step of the model's uninterrupted run of the label
            to the step that showed it, in seconds; 0 if there was no change.
    """

    number: int = 0
    mean_s: float = 0.0
    max_s: float = 0.0


class Smoother:
    """Smooths the steps of one source; a stream's first label is shown at once.

    Args:
        smoothing: the rules.

    Attributes:
        delays_s: the delays of the newest `NUM_DELAYS` changes, in seconds.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self.delays_s: deque[float] = deque(maxlen=NUM_DELAYS)
        self._smoothing = smoothing
        self._shown = -1  # before the first step
        self._raw, self._since_s = -1, 0.0  # the model's label, and when its run began
        self._number, self._sum_s, self._max_s = 0, 0.0, 0.0

    @property
    def summary(self) -> Delays:
        """The number, mean and largest of all delays."""
        mean_s = self._sum_s / self._number if self._number else 0.0
        return Delays(self._number, mean_s, self._max_s)

    def update(
        self, label: int, scores: np.ndarray, time_s: float, *, starts: bool = False
    ) -> int:
        """Returns the label to show at the next step.

        Args:
            label: the model's.
            scores: (K,) probability of every class.
            time_s: of the step, in seconds.
            starts: whether a stream begins here, which forgets what was before.
        """
        is_first = self._shown < 0 or starts
        if is_first or label != self._raw:
            self._raw, self._since_s = label, time_s
        if is_first:
            self._shown = label
        elif self._is_due(scores, time_s):
            self._change(time_s)
        return self._shown

    def _is_due(self, scores: np.ndarray, time_s: float) -> bool:
        if self._raw == self._shown:
            return False
        rules, score = self._smoothing, float(scores[self._raw])
        gain = score - float(scores[self._shown])
        # A rule that is off never holds a label back, whatever the scores are.
        is_short = time_s - self._since_s < rules.min_duration_s - _CLOSE_S
        is_unsure = bool(rules.min_confidence) and not score >= rules.min_confidence
        is_close = bool(rules.hysteresis) and not gain > rules.hysteresis
        return not (is_short or is_unsure or is_close)

    def _change(self, time_s: float) -> None:
        delay_s = time_s - self._since_s
        self._shown = self._raw
        self.delays_s.append(delay_s)
        self._number += 1
        self._sum_s += delay_s
        self._max_s = max(self._max_s, delay_s)


def smooth_labels(
    labels: np.ndarray, scores: np.ndarray, times_s: np.ndarray, smoothing: Smoothing
) -> np.ndarray:
    """Returns the labels to show at the steps of one video, (n,) int32.

    Args:
        labels: (n,) the model's.
        scores: (n, K) probability of every class.
        times_s: (n,) when the steps are, in seconds.
        smoothing: the rules.
    """
    smoother = Smoother(smoothing)
    steps = zip(np.asarray(labels).tolist(), scores, times_s, strict=True)
    return np.array([smoother.update(*step) for step in steps], np.int32)
