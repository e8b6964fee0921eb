"""When the borders of true segments were answered, as running sums over videos.

`svtas_jax.evaluation.online` defines these metrics.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from svtas_jax.structs import IGNORE_LABEL, Segment, labels_to_segments

WINDOWS_S = (1.0, 2.0, 4.0)
_ROUNDING_S = 1e-9  # what ends with a window must not miss it by rounding


@dataclasses.dataclass(frozen=True, eq=False)
class AnsweredVideo:
    """The answers for one video.

    Attributes:
        emitted: (num_frames,) class of every frame, as it was answered.
        truth: (num_frames,) class of every frame or IGNORE_LABEL.
        delays_s: (num_frames,) float64, seconds from each frame to its answer.
        fps: frame rate.
    """

    emitted: np.ndarray
    truth: np.ndarray
    delays_s: np.ndarray
    fps: float

    def seconds_to_answers(self, start: int, frames: np.ndarray) -> np.ndarray:
        """Returns the seconds from the time of frame `start` to the answers of
        others."""
        return (frames - start) / self.fps + self.delays_s[frames]


@dataclasses.dataclass(frozen=True, eq=False)
class BorderCounts:
    """Sums over the true segments of the videos so far, background left out.

    Attributes:
        start_delays_s, end_delays_s: of the borders not missed, float64.
        num_segments: number of segments.
        num_found: number of segments with a frame of the right label.
        num_ends: number of found segments whose end is known.
        instant_right, instant_frames: frames, by WINDOWS_S.
    """

    start_delays_s: np.ndarray
    end_delays_s: np.ndarray
    num_segments: int
    num_found: int
    num_ends: int
    instant_right: np.ndarray  # (3,) int64
    instant_frames: np.ndarray  # (3,) int64

    @classmethod
    def zero(cls) -> "BorderCounts":
        """Returns the sums before the first video."""
        nothing = np.zeros(len(WINDOWS_S), np.int64)
        return cls(np.zeros(0), np.zeros(0), 0, 0, 0, nothing, nothing)

    @classmethod
    def of_video(
        cls, video: AnsweredVideo, background: Sequence[int]
    ) -> "BorderCounts":
        """Returns the sums of one video."""
        ignored = (IGNORE_LABEL, *background)
        segments = [
            s for s in labels_to_segments(video.truth) if s.label not in ignored
        ]
        found = [s for s in segments if len(_right_frames(video, s))]
        begun = [s for s in segments if _has_start(video, s)]
        ended = [s for s in found if _has_end(video, s)]
        starts = [_start_delay(video, s) for s in found if _has_start(video, s)]
        ends = [_end_delay(video, s) for s in ended]
        return cls(
            start_delays_s=np.array(starts, np.float64),
            end_delays_s=np.array([d for d in ends if d is not None], np.float64),
            num_segments=len(segments),
            num_found=len(found),
            num_ends=len(ended),
            **_instants(video, begun),
        )

    def merge(self, other: "BorderCounts") -> "BorderCounts":
        """Returns the sums over the videos of both."""
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in dataclasses.fields(self)
            if not field.name.endswith("_delays_s")
        }
        return BorderCounts(
            start_delays_s=np.append(self.start_delays_s, other.start_delays_s),
            end_delays_s=np.append(self.end_delays_s, other.end_delays_s),
            **sums,
        )

    def compute(self) -> dict[str, float]:
        """Returns delays in seconds and shares in percent; NaN without any segment."""
        metrics = {
            **_spread("start_delay", self.start_delays_s),
            "start_missed": _percent(
                self.num_segments - self.num_found, self.num_segments
            ),
            **_spread("end_delay", self.end_delays_s),
            "end_missed": _percent(
                self.num_ends - len(self.end_delays_s), self.num_ends
            ),
        }
        shares = zip(WINDOWS_S, self.instant_right, self.instant_frames, strict=True)
        for window_s, right, frames in shares:
            metrics[f"instant_{window_s:g}s"] = _percent(right, frames)
        return metrics


def _right_frames(video: AnsweredVideo, segment: Segment) -> np.ndarray:
    inside = video.emitted[segment.start : segment.end]
    return segment.start + np.flatnonzero(inside == segment.label)


def _has_start(video: AnsweredVideo, segment: Segment) -> bool:
    """Whether it is known when the segment began."""
    return not segment.start or video.truth[segment.start - 1] != IGNORE_LABEL


def _has_end(video: AnsweredVideo, segment: Segment) -> bool:
    """Whether it is known when the segment ended, and the video goes on after it."""
    is_last = segment.end == len(video.truth)
    return not is_last and video.truth[segment.end] != IGNORE_LABEL


def _start_delay(video: AnsweredVideo, segment: Segment) -> float:
    right = _right_frames(video, segment)
    return float(video.seconds_to_answers(segment.start, right).min())


def _end_delay(video: AnsweredVideo, segment: Segment) -> float | None:
    """Returns None if the label stays until it is right again, or the video ends."""
    again = np.flatnonzero(video.truth[segment.end :] == segment.label)
    until = segment.end + again[0] if len(again) else len(video.truth)
    left = segment.end + np.flatnonzero(
        video.emitted[segment.end : until] != segment.label
    )
    if not len(left):
        return None
    return float(video.seconds_to_answers(segment.end, left).min())


def _instants(
    video: AnsweredVideo, segments: Sequence[Segment]
) -> dict[str, np.ndarray]:
    """Returns instant_right and instant_frames of segments whose start is known."""
    right = np.zeros(len(WINDOWS_S), np.int64)
    frames = np.zeros(len(WINDOWS_S), np.int64)
    for segment in segments:
        inside = np.arange(segment.start, segment.end)
        hits = video.emitted[inside] == segment.label
        answered_s = video.seconds_to_answers(segment.start, inside)
        for index, window_s in enumerate(WINDOWS_S):
            counted = (inside - segment.start) / video.fps < window_s - _ROUNDING_S
            in_time = answered_s <= window_s + _ROUNDING_S
            right[index] += np.count_nonzero(counted & hits & in_time)
            frames[index] += np.count_nonzero(counted)
    return {"instant_right": right, "instant_frames": frames}


def _spread(name: str, delays_s: np.ndarray) -> dict[str, float]:
    middle, high = (
        np.percentile(delays_s, [50, 95]) if len(delays_s) else [math.nan] * 2
    )
    return {f"{name}_median_s": float(middle), f"{name}_p95_s": float(high)}


def _percent(part: int, whole: int) -> float:
    return 100.0 * float(part) / float(whole) if whole else math.nan
