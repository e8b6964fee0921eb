"""Online metrics: what was answered and when, as running sums over videos.

Frame i of a video comes at i / fps seconds. Its label is emitted `delays_s[i]` later: 0
if the label comes with its frame, up to a chunk's length if the model answers in
chunks, up to the video's length if it answers at the end (`emission_delays`). The time
to decode and to compute is not part of it.

    counts = OnlineCounts.zero(num_classes, background)
    for video in videos:
        counts = counts.add(emitted, truth, scores, delays_s=delays_s, fps=fps)
    counts.compute()  # {"frame_map": 71.2, "start_delay_median_s": 0.4, ...}

Below, [s, e) are the frames of a segment, a maximal run of one true label c that is not
background, and m(i) = i / fps + delays_s[i] is the moment of frame i's label.

emission_delay_s: mean of delays_s over frames.

frame_map: mean of the classes' average precision over all frames, ranked by the score
of the class: AP = sum_k precision(k) * I(k) / P, where I(k) is 1 if the k-th frame is
of the class, else 0, and P the number of such frames (De Geest et al., "Online Action
Detection", ECCV 2016). Background and classes that do not occur are left out. Frames
with equal scores enter together, so their order does not matter. Delays do not count.

start_delay: the least m(i) - s / fps over the frames i in [s, e) labelled c; without
such a frame the segment is missed (start_missed). end_delay: the least m(j) - e / fps
over the frames j from e on that are not labelled c, up to the next frame that is truly
c; without such a frame the end is missed (end_missed). Only segments that were found
and that end before their video count. Median and 95th percentile (NumPy's, linear) are
over the borders that were not missed. A label that comes or goes too early gains
nothing by it.

instant_Ws: share of the frames in the first W seconds of the segments (i in [s, e),
(i - s) / fps < W) that are labelled c and whose label was emitted within these seconds,
m(i) - s / fps <= W. The idea is that of Baptista-Rios et al., "Rethinking Online Action
Detection in Untrimmed Videos", IEEE Access 2020; their instantaneous accuracy runs over
the whole stream so far.

flicker_per_min: changes of the emitted label per minute, minus changes of the true
label per minute, background included. Above 0, the label changes too often; below 0,
changes are lost. This is what a viewer sees; `metrics.frame_metrics` has the ratio of
the numbers of segments (segment_ratio).

acc, edit and f1_N are those of `metrics.SegmentCounts` for the emitted labels.

Border delays and flicker are definitions of this project. Frames whose truth is
IGNORE_LABEL are cut out, but take their time; a segment's border to such a frame is not
known and not measured.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import ml_collections
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.evaluation.borders import AnsweredVideo, BorderCounts
from svtas_jax.evaluation.metrics import SegmentCounts, background_classes
from svtas_jax.structs import IGNORE_LABEL, VideoRecord


@dataclasses.dataclass(frozen=True, eq=False)
class OnlineCounts:
    """Sums over the videos so far; `add` returns a new object.

    It holds the scores of all frames, 4 bytes for each frame and class.

    Attributes:
        segments: sums for the metrics of labels.
        borders: sums for the metrics of segments' borders.
        truths: true classes of each video's labelled frames, (n,) int32.
        scores: their scores, (n, K) float32.
        delay_sum_s: sum of the emission delays of these frames.
        seconds: their duration.
    """

    segments: SegmentCounts
    borders: BorderCounts
    truths: tuple[np.ndarray, ...]
    scores: tuple[np.ndarray, ...]
    delay_sum_s: float
    seconds: float

    @classmethod
    def zero(cls, num_classes: int, background: Sequence[int] = ()) -> "OnlineCounts":
        """Returns the sums before the first video."""
        segments = SegmentCounts.zero(num_classes, background)
        return cls(segments, BorderCounts.zero(), (), (), 0.0, 0.0)

    def add(
        self,
        emitted: np.ndarray,
        truth: np.ndarray,
        scores: np.ndarray,
        *,
        delays_s: np.ndarray,
        fps: float,
    ) -> "OnlineCounts":
        """Returns the sums with one more video.

        A video without a labelled frame is ignored.

        Args:
            emitted: (num_frames,) class of every frame, as it was answered.
            truth: (num_frames,) class of every frame or IGNORE_LABEL.
            scores: (num_frames, K), comparable between frames: probabilities, not
                logits.
            delays_s: (num_frames,) seconds from each frame to its answer.
            fps: frame rate.

        Raises:
            ValueError: if shapes do not fit, a label is out of range, a score is NaN,
                a delay is negative or infinite, or the rate is not positive.
        """
        emitted, truth, scores = map(np.asarray, (emitted, truth, scores))
        delays_s = np.asarray(delays_s, np.float64)
        segments = self.segments.add(emitted, truth)
        self._check(truth, scores, delays_s, fps)
        known = truth != IGNORE_LABEL
        if not known.any():
            return self
        video = AnsweredVideo(emitted, truth, delays_s, fps)
        borders = BorderCounts.of_video(video, self.segments.background)
        return OnlineCounts(
            segments=segments,
            borders=self.borders.merge(borders),
            truths=(*self.truths, truth[known].astype(np.int32)),
            scores=(*self.scores, scores[known].astype(np.float32)),
            delay_sum_s=self.delay_sum_s + float(delays_s[known].sum()),
            seconds=self.seconds + np.count_nonzero(known) / fps,
        )

    def merge(self, other: "OnlineCounts") -> "OnlineCounts":
        """Returns the sums over the videos of both.

        Raises:
            ValueError: if they count other classes.
        """
        return OnlineCounts(
            segments=self.segments.merge(other.segments),
            borders=self.borders.merge(other.borders),
            truths=self.truths + other.truths,
            scores=self.scores + other.scores,
            delay_sum_s=self.delay_sum_s + other.delay_sum_s,
            seconds=self.seconds + other.seconds,
        )

    def compute(self) -> dict[str, float]:
        """Returns the metrics: delays in seconds; shares, frame_map, acc, edit and f1
        in percent; NaN where there was nothing to measure.

        Raises:
            InputError: if there was no labelled frame.
        """
        of_labels = self.segments.compute()
        # Each video has one change less than segments, so the difference is the same.
        more_changes = self.segments.num_predicted - self.segments.num_true
        return {
            "emission_delay_s": self.delay_sum_s / int(self.segments.confusion.sum()),
            "frame_map": 100.0 * self._mean_average_precision(),
            **self.borders.compute(),
            "flicker_per_min": 60.0 * more_changes / self.seconds,
            **of_labels,
        }

    def _mean_average_precision(self) -> float:
        truth, scores = np.concatenate(self.truths), np.concatenate(self.scores)
        actions = [k for k in np.unique(truth) if k not in self.segments.background]
        precisions = [average_precision(scores[:, k], truth == k) for k in actions]
        return float(np.mean(precisions)) if precisions else math.nan

    def _check(
        self, truth: np.ndarray, scores: np.ndarray, delays_s: np.ndarray, fps: float
    ) -> None:
        expected = (len(truth), self.segments.num_classes)
        if scores.shape != expected:
            raise ValueError(f"scores {scores.shape} must be {expected}.")
        if np.isnan(scores).any():
            raise ValueError("scores contain NaN, which has no rank.")
        if delays_s.shape != truth.shape:
            raise ValueError(f"delays_s {delays_s.shape} must be {truth.shape}.")
        if not np.all((delays_s >= 0) & (delays_s < math.inf)):
            raise ValueError("delays_s must be at least 0 and finite.")
        if not 0 < fps < math.inf:
            raise ValueError(f"fps={fps} must be positive and finite.")


def new_counts(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...]
) -> OnlineCounts:
    """Returns empty counts with the config's background classes."""
    background = background_classes(class_names, config.eval.background)
    return OnlineCounts.zero(len(class_names), background)


def average_precision(scores: np.ndarray, hits: np.ndarray) -> float:
    """Returns sum_k precision(k) * I(k) / P in 0..1; equal scores enter together.

    Args:
        scores: (n,) rank the items, the highest first.
        hits: (n,) bool, I: which items are right; at least one must be.
    """
    order = np.argsort(-scores, kind="stable")
    ends_tie = np.append(np.diff(scores[order]) != 0, True)
    num_seen = np.flatnonzero(ends_tie) + 1
    num_found = np.cumsum(hits[order])[ends_tie]
    gained = np.diff(num_found, prepend=0)
    return float(np.sum(num_found / num_seen * gained) / num_found[-1])


def frames_per_answer(config: ml_collections.ConfigDict) -> int:
    """Returns how many frames a model answers at once; 0 for a whole video.

    A causal model is fed a step at a time: its scores do not depend on how it is fed.
    It sees the first frame of a step, whose label the frames after it share, so that
    every frame has its label when it comes.
    """
    if config.model.causal:
        return 1
    return config.data.clip_frames


def emission_delays(num_frames: int, frames_at_once: int, fps: float) -> np.ndarray:
    """Returns the seconds from each frame to its answer, (num_frames,).

    With n frames at once, frame i is answered when the last frame of its n comes, or
    that of the video: (min(num_frames, n * (i // n + 1)) - 1 - i) / fps.

    Args:
        num_frames: length of the video.
        frames_at_once: n, see `frames_per_answer`; 0 for a whole video.
        fps: frame rate.
    """
    frames = np.arange(num_frames)
    size = frames_at_once or max(1, num_frames)
    ends = np.minimum(num_frames, size * (frames // size + 1))
    return (ends - 1 - frames) / fps


def describe_answers(frames_at_once: int) -> str:
    """Returns when a model answers, in words; see `frames_per_answer`."""
    if not frames_at_once:
        return "at the video's end"
    return "every frame" if frames_at_once == 1 else f"every {frames_at_once} frames"


def check_rates(
    records: Iterable[VideoRecord],
    need: str = "--online measures delays in seconds",
    flag: str = "--online",
) -> None:
    """Raises InputError if the frame rate of a video is unknown.

    The message says what `need` the rate is for, and which `flag` to leave out.
    """
    for record in records:
        if not 0 < record.fps < math.inf:
            raise InputError(
                f"{need}, but the frame rate of {record.video_path} is unknown. Put "
                "the videos beside the features (Videos/ below config.data.root), or "
                f"leave out {flag}."
            )
