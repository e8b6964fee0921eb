"""Where labels are wrong: borders that come early or late, and wrong stretches."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from svtas_jax.evaluation.details import Details, VideoDetails, from_runs, to_runs
from svtas_jax.evaluation.ranking import overlaps_of, same_class
from svtas_jax.structs import IGNORE_LABEL, Segment

_LEAST_OVERLAP = 0.10  # IoU from which a predicted segment answers a true one


@dataclasses.dataclass(frozen=True)
class Border:
    """How far the border of a found segment is from the true one.

    Attributes:
        label: class of the segment.
        is_start: whether it is the segment's start, not its end.
        error: seconds, or frames at an unknown rate; negative if the label's border
            comes too early.
    """

    label: int
    is_start: bool
    error: float


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Frames of one true class in a row that all have one wrong label.

    Attributes:
        video: its name.
        start, end: first frame, and one past the last.
        truth, prediction: the two classes.
    """

    video: str
    start: int
    end: int
    truth: int
    prediction: int

    @property
    def middle(self) -> int:
        """The frame in the middle."""
        return (self.start + self.end) // 2


def border_errors(video: VideoDetails, background: Sequence[int]) -> list[Border]:
    """Returns the errors of the true segments that a predicted one of the class answers
    with an IoU of at least 0.1: the best one does.

    Borders of the video, and those beside frames without a label, are left out.
    """
    true, predicted = (
        _actions(video.truth, background),
        _actions(video.prediction, background),
    )
    if not true or not predicted:
        return []
    overlaps = overlaps_of(predicted, true) * same_class(predicted, true)
    labels, found = from_runs(video.truth), []
    for index, segment in enumerate(true):
        best = int(overlaps[:, index].argmax())
        if overlaps[best, index] < _LEAST_OVERLAP:
            continue
        if segment.start and labels[segment.start - 1] != IGNORE_LABEL:
            error = _apart(video, predicted[best].start, segment.start)
            found.append(Border(segment.label, True, error))
        if segment.end < len(labels) and labels[segment.end] != IGNORE_LABEL:
            error = _apart(video, predicted[best].end, segment.end)
            found.append(Border(segment.label, False, error))
    return found


def longest_stretches(details: Details, count: int) -> list[Stretch]:
    """Returns the wrong stretches of all videos that last longest, in seconds."""
    found = []
    for name, video in details.videos.items():
        truth, labels = from_runs(video.truth), from_runs(video.prediction)
        wrong = (truth != labels) & (truth != IGNORE_LABEL)
        # A pair of labels as one number; -1 where the label is right.
        pairs = np.where(wrong, truth * len(details.class_names) + labels, -1)
        start = 0
        for pair, length in to_runs(pairs).tolist():
            if pair >= 0:
                classes = divmod(pair, len(details.class_names))
                stretch = Stretch(name, start, start + length, *classes)
                found.append((_apart(video, start + length, start), stretch))
            start += length
    found.sort(key=lambda item: -item[0])
    return [stretch for _, stretch in found[:count]]


def lengths(details: Details, *, predicted: bool) -> np.ndarray:
    """Returns the seconds (frames at an unknown rate) that segments last, background
    left out; predicted or true ones."""
    return np.array(
        [
            _apart(video, segment.end, segment.start)
            for video in details.videos.values()
            for segment in _actions(
                video.prediction if predicted else video.truth, details.background
            )
        ],
        np.float64,
    )


def unit_of(details: Details) -> str:
    """Returns "s" if all videos have a frame rate, else "frames"."""
    timed = all(v.fps or len(v.times_s) for v in details.videos.values())
    return "s" if timed else "frames"


def _actions(runs: np.ndarray, background: Sequence[int]) -> list[Segment]:
    ends = np.cumsum(runs[:, 1]).tolist()
    return [
        Segment(label, end - length, end)
        for (label, length), end in zip(runs.tolist(), ends, strict=True)
        if label != IGNORE_LABEL and label not in background
    ]


def _apart(video: VideoDetails, frame: int, other: int) -> float:
    return video.time_of(frame) - video.time_of(other)
