"""What a report keeps of each video: labels as runs, and what its metrics are made of.

`write_details` stores it beside the report as videos.json, a line a video, so that runs
can be compared later without the model and without the videos.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation.borders import AnsweredVideo, BorderCounts
from svtas_jax.evaluation.online import OnlineCounts
from svtas_jax.evaluation.sums import Sums, sums_of
from svtas_jax.evaluation.tally import Tally
from svtas_jax.runtime.files import write_atomic

FILE = "videos.json"
FORMAT = 1
_POINTS = 240  # of the confidence
_MOMENTS = 1000  # whose times are kept at a variable rate


@dataclasses.dataclass(frozen=True, eq=False)
class VideoDetails:
    """One video of a report.

    Attributes:
        fps: frame rate, 0 if unknown.
        truth, prediction: (n, 2) int32 runs of a label: the class or IGNORE_LABEL, and
            the number of frames.
        sums: see `svtas_jax.evaluation.sums`.
        confidence: (p,) uint8, the mean confidence of p even parts, in percent.
        start_delays_s, end_delays_s: class -> delays of the borders that were not
            missed; empty unless the online metrics were asked for.
        times_s: (p,) at a variable rate, the times of p frames that are evenly spaced
            from the first to the end; else empty.
        path: of the video file; "" if frames came from elsewhere.
    """

    fps: float
    truth: np.ndarray
    prediction: np.ndarray
    sums: Sums
    confidence: np.ndarray
    start_delays_s: Mapping[int, tuple[float, ...]]
    end_delays_s: Mapping[int, tuple[float, ...]]
    times_s: np.ndarray
    path: str = ""

    @property
    def num_frames(self) -> int:
        """The number of frames."""
        return int(self.truth[:, 1].sum())

    def time_of(self, frame: float) -> float:
        """Returns when a frame begins, in seconds; its number at an unknown rate."""
        if len(self.times_s):
            frames = np.linspace(0, self.num_frames, len(self.times_s))
            return float(np.interp(frame, frames, self.times_s))
        return frame / self.fps if self.fps else float(frame)


@dataclasses.dataclass(frozen=True, eq=False)
class Details:
    """All videos of a report.

    Attributes:
        class_names: names in the order of the class indices.
        background: indices of the classes that segment metrics ignore.
        videos: by name, in the order of the split.
    """

    class_names: tuple[str, ...]
    background: tuple[int, ...]
    videos: Mapping[str, VideoDetails]


def details_of(
    truth: np.ndarray,
    labels: np.ndarray,
    counts: Tally,
    *,
    fps: float,
    path: str = "",
    confidence: np.ndarray | None = None,
    online: OnlineCounts | None = None,
    delays_s: np.ndarray | None = None,
    times_s: np.ndarray | None = None,
) -> VideoDetails:
    """Returns what to keep of a video.

    Args:
        truth: (num_frames,) class of every frame or IGNORE_LABEL.
        labels: (num_frames,) predicted class of every frame.
        counts: of this video alone.
        fps: frame rate, 0 if unknown.
        path: of the video file, if frames come from one.
        confidence: (num_frames,) in 0..1, if it is known.
        online: of this video alone, if asked for, and
        delays_s: (num_frames,) seconds from each frame to its answer.
        times_s: (num_frames + 1,) when frames begin and the last one ends, at a
            variable rate.
    """
    starts, ends = {}, {}
    if delays_s is not None:
        video = AnsweredVideo(labels, truth, delays_s, fps)
        segments = counts.segments
        starts, ends = _class_delays(video, segments.num_classes, segments.background)
    return VideoDetails(
        fps=fps,
        truth=to_runs(truth),
        prediction=to_runs(labels),
        sums=sums_of(counts, online),
        confidence=_in_parts(confidence),
        start_delays_s=starts,
        end_delays_s=ends,
        times_s=_sampled(times_s),
        path=os.path.abspath(path) if path else "",
    )


def to_runs(labels: np.ndarray) -> np.ndarray:
    """Returns (n, 2) int32: the label and the length of each run of equal labels."""
    labels = np.asarray(labels)
    starts = np.flatnonzero(np.append(labels[:1] == labels[:1], np.diff(labels) != 0))
    return np.stack([labels[starts], np.diff(starts, append=len(labels))], 1).astype(
        np.int32
    )


def from_runs(runs: np.ndarray) -> np.ndarray:
    """Returns the label of every frame, (num_frames,) int32."""
    return np.repeat(runs[:, 0], runs[:, 1])


def write_details(details: Details, folder: str | os.PathLike) -> pathlib.Path:
    """Writes `folder`/videos.json.

    Raises:
        InputError: if the folder cannot be written to.
    """
    head = {
        "format": FORMAT,
        "class_names": list(details.class_names),
        "background": list(details.background),
    }
    lines = [
        f"{json.dumps(name)}: {json.dumps(_to_json(video), separators=(',', ':'))}"
        for name, video in details.videos.items()
    ]
    text = json.dumps(head)[:-1] + ', "videos": {\n' + ",\n".join(lines) + "\n}}\n"
    return write_atomic(pathlib.Path(folder) / FILE, text)


def read_details(folder: str | os.PathLike, *, again: str) -> Details:
    """Reads `folder`/videos.json.

    Args:
        folder: of a report.
        again: command that writes the report anew, for the message.

    Raises:
        MissingInputError: if there is no such file.
        InputError: if it is damaged, or of a newer version.
    """
    path = pathlib.Path(folder) / FILE
    if not path.is_file():
        raise MissingInputError(
            f"{path} does not exist: the report beside it is of an older version, "
            f"which kept no facts of single videos. Evaluate again: {again}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = content["format"] <= FORMAT
        videos = (
            {n: _from_json(v) for n, v in content["videos"].items()} if known else {}
        )
        names, background = tuple(content["class_names"]), content["background"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}). Evaluate again: "
            f"{again}"
        ) from error
    if not known:
        raise InputError(
            f"{path} has format {content['format']}, and this version reads formats up "
            f"to {FORMAT}. Install the version that wrote it, or evaluate again: "
            f"{again}"
        )
    return Details(names, tuple(background), videos)


def _to_json(video: VideoDetails) -> dict[str, Any]:
    return {
        "fps": video.fps,
        "truth": video.truth.ravel().tolist(),
        "prediction": video.prediction.ravel().tolist(),
        "sums": {name: list(pair) for name, pair in video.sums.items()},
        "confidence": video.confidence.tolist(),
        "start_delays_s": {str(k): list(d) for k, d in video.start_delays_s.items()},
        "end_delays_s": {str(k): list(d) for k, d in video.end_delays_s.items()},
        "times_s": video.times_s.round(3).tolist(),
        "path": video.path,
    }


def _from_json(fields: Mapping[str, Any]) -> VideoDetails:
    def delays(name: str) -> dict[int, tuple[float, ...]]:
        return {int(k): tuple(values) for k, values in fields[name].items()}

    return VideoDetails(
        fps=float(fields["fps"]),
        truth=np.array(fields["truth"], np.int32).reshape(-1, 2),
        prediction=np.array(fields["prediction"], np.int32).reshape(-1, 2),
        sums={
            n: (float(top), float(bottom))
            for n, (top, bottom) in fields["sums"].items()
        },
        confidence=np.array(fields["confidence"], np.uint8),
        start_delays_s=delays("start_delays_s"),
        end_delays_s=delays("end_delays_s"),
        times_s=np.array(fields["times_s"], np.float64),
        path=str(fields["path"]),
    )


def _class_delays(
    video: AnsweredVideo, num_classes: int, background: Sequence[int]
) -> tuple[dict[int, tuple[float, ...]], dict[int, tuple[float, ...]]]:
    starts, ends = {}, {}
    for label in np.unique(video.truth).tolist():
        if label < 0 or label in background:
            continue
        others = [k for k in range(num_classes) if k != label]
        counts = BorderCounts.of_video(video, others)
        starts[label] = tuple(counts.start_delays_s.tolist())
        ends[label] = tuple(counts.end_delays_s.tolist())
    return starts, ends


def _in_parts(confidence: np.ndarray | None) -> np.ndarray:
    if confidence is None or not len(confidence):
        return np.zeros(0, np.uint8)
    parts = min(_POINTS, len(confidence))
    starts = np.arange(parts) * len(confidence) // parts
    sizes = np.diff(np.append(starts, len(confidence)))
    means = np.add.reduceat(np.asarray(confidence, np.float64), starts) / sizes
    return np.round(100 * np.clip(means, 0, 1)).astype(np.uint8)


def _sampled(times_s: np.ndarray | None) -> np.ndarray:
    if times_s is None:
        return np.zeros(0)
    last = len(times_s) - 1
    points = np.linspace(0, last, min(_MOMENTS, last) + 1)
    return np.interp(points, np.arange(len(times_s)), times_s)
