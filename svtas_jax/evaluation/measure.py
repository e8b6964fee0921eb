"""Evaluates a model on the videos of a split, and writes the report."""

import dataclasses
import pathlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import logging

from data_pipeline.pace import uneven_times
from svtas_jax.checkpoints.store import Meta
from svtas_jax.evaluation import online, presets, report, timeline
from svtas_jax.evaluation.class_table import class_table
from svtas_jax.evaluation.details import Details, VideoDetails, details_of
from svtas_jax.evaluation.page.report_page import write_pages
from svtas_jax.evaluation.scoring import VideoScores, make_scorer, share_videos
from svtas_jax.evaluation.tally import Tally
from svtas_jax.runtime import hosts, provenance
from svtas_jax.smoothing import OFF, Smoothing, smooth_labels
from svtas_jax.stitching import logits_to_confidence
from svtas_jax.structs import Model, Params, VideoRecord


def evaluate(
    config: ml_collections.ConfigDict,
    meta: Meta,
    model: Model,
    variables: Params,
    records: Sequence[VideoRecord],
    folder: pathlib.Path,
    *,
    preset: str = presets.DEFAULT,
    frames_at_once: int | None = None,
    true_labels: bool = False,
    smoothing: Smoothing = OFF,
) -> report.EvalReport:
    """Evaluates all videos, each process its share; writes the report to `folder`.

    `preset` names the conventions, see `presets`. `frames_at_once` adds the online
    metrics, see `online.emission_delays`. With `true_labels`, the model is told the
    true labels of every last chunk; `smoothing` holds labels back as the live stream
    does. The report says so.
    """
    num_known = warn_if_known(records, meta)
    start = time.perf_counter()
    share = share_videos(records)
    scored = make_scorer(model, config, true_labels=true_labels)(variables, share)
    none = Tally.zero(
        presets.preset_of(preset),
        meta.class_names,
        background=config.eval.background,
        rates=[record.fps for record in records],
    )
    measured = measure(
        *(config, meta, scored, folder),
        none=none,
        total=len(share),
        frames_at_once=frames_at_once,
        smoothing=smoothing,
    )
    counts, videos, details = none, {}, {}
    timed = online.new_counts(config, meta.class_names)
    for part, timed_part, rows, own in hosts.gather(measured):
        counts, videos = counts.merge(part), videos | rows
        timed, details = timed.merge(timed_part), details | own
    videos = {record.name: videos[record.name] for record in records}
    details = {record.name: details[record.name] for record in records}
    num_frames = sum(record.num_frames for record in records)
    seconds = time.perf_counter() - start
    result = report.EvalReport(
        metrics=counts.compute(),
        videos=videos,
        class_names=meta.class_names,
        confusion=counts.segments.confusion,
        run={
            **({report.TOLD: True} if true_labels else {}),
            **({report.SMOOTHED: smoothing.rules} if smoothing.rules else {}),
            **provenance.run_info(),
            "dataset": config.data.dataset,
            "split": config.data.split,
            "checkpoint_step": meta.step,
            "best_checkpoint_by": meta.selected_by or None,
            "videos_trained_on": num_known,
            "seconds": seconds,
            "frames_per_s": num_frames / seconds,
            "config": config.to_dict(),
        },
        online=_online_section(timed, frames_at_once),
        classes=class_table(counts.segments, meta.class_names),
        conventions=counts.conventions(meta.class_names),
    )
    if hosts.is_first():
        report.write_report(result, folder)
        write_pages(
            result,
            Details(meta.class_names, counts.segments.background, details),
            folder,
        )
    logging.info("report: %s and report.html", folder / "report.md")
    return result


def measure(
    config: ml_collections.ConfigDict,
    meta: Meta,
    videos: Iterable[VideoScores],
    folder: pathlib.Path,
    *,
    none: Tally,
    total: int,
    frames_at_once: int | None = None,
    smoothing: Smoothing = OFF,
) -> tuple[
    Tally,
    online.OnlineCounts,
    dict[str, dict[str, float]],
    dict[str, VideoDetails],
]:
    """Writes each video's predictions; returns the counts, which begin with `none`, the
    online counts, which are empty without `frames_at_once`, and each video's metrics
    and details by name."""
    counts = none
    timed = no_times = online.new_counts(config, meta.class_names)
    rows, details, num_frames, start = {}, {}, 0, time.perf_counter()
    for video in videos:
        record = video.record
        times_s = _uneven_times(record)
        if not smoothing.is_off:
            video = smoothed(video, times_s, smoothing, config.data.frame_stride)
        scores = video.logits if none.preset.has_ranks else video.scores
        alone = none.add(video.labels, record.labels, scores, fps=record.fps)
        counts = counts.merge(alone)
        delays_s = _delays(record, frames_at_once)
        answered = _answered(no_times, video, delays_s)
        timed = timed.merge(answered)
        rows[record.name] = {"num_frames": record.num_frames, **alone.own_metrics()}
        details[record.name] = details_of(
            *(record.labels, video.labels, alone),
            fps=record.fps,
            path=record.video_path if _is_file(record) else "",
            confidence=logits_to_confidence(video.logits),
            online=None if delays_s is None else answered,
            delays_s=delays_s,
            times_s=times_s,
        )
        write_video(folder, video, meta.class_names, config.eval.background, times_s)
        num_frames += record.num_frames
        rate = num_frames / (time.perf_counter() - start)
        logging.info(
            "video %d/%d %s | %.0f frames/s", len(rows), total, record.name, rate
        )
    return counts, timed, rows, details


def smoothed(
    video: VideoScores, times_s: np.ndarray | None, smoothing: Smoothing, stride: int
) -> VideoScores:
    """Returns a video with the labels that a viewer of the live stream is shown.

    `times_s` is when frames begin, None at a rate that does not vary. `stride` is the
    number of frames that a step stands for; a frame has its step's label.
    """
    record = video.record
    if times_s is None:  # at an unknown rate, seconds mean nothing: `check_smoothing`
        times_s = np.arange(record.num_frames) / (record.fps or 1.0)
    steps = slice(None, record.num_frames, stride)
    shown = smooth_labels(
        video.labels[steps], video.scores[steps], times_s[steps], smoothing
    )
    frames = np.repeat(shown, stride)[: record.num_frames]
    return dataclasses.replace(video, smoothed=frames)


def check_smoothing(smoothing: Smoothing, records: Sequence[VideoRecord]) -> None:
    """Raises InputError if a rule needs the frame rate of a video without one."""
    if smoothing.min_duration_s:
        flag = f"--min_duration={smoothing.min_duration_s:g}"
        online.check_rates(records, f"{flag} is in seconds", flag)


def _delays(record: VideoRecord, frames_at_once: int | None) -> np.ndarray | None:
    if frames_at_once is None:
        return None
    return online.emission_delays(record.num_frames, frames_at_once, record.fps)


def _answered(
    none: online.OnlineCounts, video: VideoScores, delays_s: np.ndarray | None
) -> online.OnlineCounts:
    if delays_s is None:
        return none
    return none.add(
        video.labels,
        video.record.labels,
        video.scores,
        delays_s=delays_s,
        fps=video.record.fps,
    )


def _online_section(
    counts: online.OnlineCounts, frames_at_once: int | None
) -> dict[str, Any] | None:
    if frames_at_once is None:
        return None
    answers = online.describe_answers(frames_at_once)
    return {"answers": answers, "metrics": counts.compute()}


def write_video(
    folder: pathlib.Path,
    video: VideoScores,
    class_names: tuple[str, ...],
    background: tuple[str, ...],
    times_s: np.ndarray | None = None,
) -> None:
    """Writes a video's predictions, as text and as a picture.

    `times_s`, (num_frames + 1,), is when frames begin and the last one ends, at a
    variable rate.
    """
    record = video.record
    report.write_predictions(folder, record.name, video.labels, class_names)
    shown, fps = _seen_over_time(record, times_s)
    picture = timeline.draw_timeline(
        record.labels[shown],
        video.labels[shown],
        class_names,
        fps=fps,
        title=record.name,
        confidence=logits_to_confidence(video.logits)[shown],
        background=background,
    )
    timeline.write_picture(folder, record.name, picture)


def _seen_over_time(
    record: VideoRecord, times_s: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Returns the frames that a time axis shows, and how many of them a second."""
    if times_s is None:
        return np.arange(record.num_frames), record.fps
    shown = timeline.frames_at_even_times(times_s[:-1], times_s[-1])
    return shown, record.num_frames / (times_s[-1] - times_s[0])


def _is_file(record: VideoRecord) -> bool:
    """Whether the frames come from a video file."""
    return record.features is None and record.prepared is None


def _uneven_times(record: VideoRecord) -> np.ndarray | None:
    """Returns when frames begin and the last one ends, (num_frames + 1,) seconds; None
    if the rate does not vary."""
    if not _is_file(record):
        return None
    times = uneven_times(record.video_path)
    if times is None:
        return None
    starts_s = times[: record.num_frames]
    return np.append(starts_s, starts_s[-1] + np.median(np.diff(times)))


def warn_if_known(records: Sequence[VideoRecord], meta: Meta) -> int:
    """Warns if test videos were trained on; returns their number."""
    known = sorted({record.name for record in records} & set(meta.known_videos))
    if known:
        logging.warning(
            "%d of the %d test videos were trained on, such as %s: these metrics do "
            "not show how well the model does on new videos.",
            len(known),
            len(records),
            known[0],
        )
    return len(known)
