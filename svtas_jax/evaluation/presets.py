"""Conventions of public code bases, which score the same predictions differently.

`docs/metrics.md` says what each convention changes, and by how many points.
"""

import dataclasses
from typing import Any

from svtas_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rules:
    """How segments count, where code bases differ.

    Attributes:
        edit_epsilon: added to the number of segments by which edit distances are
            divided. With 1e-6, the edit score of a video with few segments, all wrong,
            is not 0 but changes in the fourth digit of the percentage.
        counts_last_frame: whether a segment that ends with the video has its last
            frame. Without it, such a segment of one frame is empty and matches none.
        hit_without_actions: whether, in a video without true actions, predicting none
            is one true positive and predicted actions are not counted at all; else
            predicted actions are false positives.
        counts_surplus: whether predicted frames after the last label make segments.
            They never count for the accuracy. If not, the prediction is cut, and so
            are labels for which there is no prediction.
    """

    edit_epsilon: float = 1e-6
    counts_last_frame: bool = True
    hit_without_actions: bool = True
    counts_surplus: bool = False


@dataclasses.dataclass(frozen=True)
class Preset:
    """All conventions of a code base.

    Attributes:
        name: as --metrics names it.
        source: the code base.
        background: names of the classes that segment metrics ignore; None for those of
            `config.eval.background`.
        rules: how segments count.
        has_segments: whether Edit and F1 are reported.
        has_ranks: whether the ranked metrics are reported if there are scores.
        has_detections: whether average precision at IoU 0.3 to 0.95 is reported.
    """

    name: str
    source: str
    background: tuple[str, ...] | None
    rules: Rules
    has_segments: bool = True
    has_ranks: bool = False
    has_detections: bool = False

    def background_of(self, configured: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the names to ignore, given those of the config."""
        return tuple(configured) if self.background is None else self.background

    def describe(self) -> dict[str, Any]:
        """Returns the conventions in words, for a report."""
        rules, words = self.rules, {"preset": self.name, "source": self.source}
        words["lengths"] = (
            "frames predicted after the last label make segments but do not count for "
            "the accuracy; a shorter prediction is an error"
            if rules.counts_surplus
            else "labels and prediction are cut to the shorter one"
        )
        if self.has_segments:
            words["video without actions"] = (
                "one true positive if none is predicted, else not counted in F1"
                if rules.hit_without_actions
                else "predicted segments are false positives"
            )
            words["edit"] = "mean over videos"
            if rules.edit_epsilon:
                words["edit"] += f"; {rules.edit_epsilon:g} added to what divides"
            words["f1"] = "counts summed over videos"
            words["last segment"] = (
                "whole" if rules.counts_last_frame else "without the video's last frame"
            )
        if self.has_detections:
            words["ranking"] = (
                "segments of a class by their mean score; without scores all rank alike"
            )
        return words


_MS_TCN = Rules(edit_epsilon=0.0, hit_without_actions=False, counts_surplus=True)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "svtas",
            "Thinksky5124/SVTAS",
            background=None,
            rules=Rules(),
            has_ranks=True,
        ),
        Preset(
            "ms-tcn",
            "yabufarha/ms-tcn, eval.py",
            background=("background",),
            rules=_MS_TCN,
        ),
        Preset(
            "asformer",
            "ChinaYi/ASFormer, eval.py",
            background=("background",),
            rules=dataclasses.replace(_MS_TCN, counts_last_frame=False),
        ),
        Preset(
            "detection",
            "activitynet/ActivityNet, eval_detection.py",
            background=None,
            rules=Rules(),
            has_segments=False,
            has_detections=True,
        ),
    )
}
DEFAULT = "svtas"


def preset_of(name: str) -> Preset:
    """Returns the preset of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in PRESETS:
        raise InputError(
            f"--metrics={name!r} is not known; choose one of {', '.join(PRESETS)}."
        )
    return PRESETS[name]
