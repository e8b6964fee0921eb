"""Smooths the labels of a stream as they come, without looking ahead; off by default.

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

from svtas_jax.errors import InputError
from svtas_jax.live.results import StepResult

NUM_DELAYS = 1000  # of which each is kept; those before are in the summary
_CLOSE_S = 1e-6  # time stamps are sums of rounded numbers


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
        return not (self.min_duration_s or self.min_confidence or self.hysteresis)


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
        class_names: in the order of the class indices.

    Attributes:
        delays_s: the delays of the newest `NUM_DELAYS` changes, in seconds.
    """

    def __init__(self, smoothing: Smoothing, class_names: tuple[str, ...]) -> None:
        self.delays_s: deque[float] = deque(maxlen=NUM_DELAYS)
        self._smoothing, self._class_names = smoothing, class_names
        self._shown = -1  # before the first step
        self._raw, self._since_s = -1, 0.0  # the model's label, and when its run began
        self._number, self._sum_s, self._max_s = 0, 0.0, 0.0

    @property
    def summary(self) -> Delays:
        """The number, mean and largest of all delays."""
        mean_s = self._sum_s / self._number if self._number else 0.0
        return Delays(self._number, mean_s, self._max_s)

    def update(self, step: StepResult) -> StepResult:
        """Returns the next step with the label to show, and its probability."""
        is_first = self._shown < 0 or step.starts
        if is_first or step.class_index != self._raw:
            self._raw, self._since_s = step.class_index, step.time_s
        if is_first:
            self._shown = self._raw
        elif self._is_due(step):
            self._change(step.time_s)
        if self._shown == step.class_index:
            return step
        label = self._class_names[self._shown]
        return dataclasses.replace(step, class_index=self._shown, label=label)

    def _is_due(self, step: StepResult) -> bool:
        if self._raw == self._shown:
            return False
        rules, score = self._smoothing, float(step.scores[self._raw])
        gain = score - float(step.scores[self._shown])
        # A rule that is off never holds a label back, whatever the scores are.
        is_short = step.time_s - self._since_s < rules.min_duration_s - _CLOSE_S
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


def _check(flag: str, value: float, highest: float) -> None:
    if not (0 <= value <= highest and math.isfinite(value)):
        allowed = (
            "a number of seconds, 0 or more"
            if math.isinf(highest)
            else f"a probability from 0 to {highest:g}"
        )
        raise InputError(f"{flag}={value} is not {allowed}; 0 turns this rule off.")
