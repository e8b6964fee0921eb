"""Measures a model on the videos of a split, and writes the report."""

import pathlib
import time
from collections.abc import Iterable, Sequence

import ml_collections
from absl import logging

from svtas_jax.checkpoints.store import Meta
from svtas_jax.evaluation import metrics, report, timeline
from svtas_jax.evaluation.scoring import VideoScores, make_scorer, share_videos
from svtas_jax.runtime import hosts, provenance
from svtas_jax.stitching import logits_to_confidence
from svtas_jax.structs import Model, Params, VideoRecord


def evaluate(
    config: ml_collections.ConfigDict,
    meta: Meta,
    model: Model,
    variables: Params,
    records: Sequence[VideoRecord],
    folder: pathlib.Path,
) -> report.EvalReport:
    """Scores all videos, every process its share, and writes the report to `folder`."""
    num_known = warn_if_known(records, meta)
    start = time.perf_counter()
    share = share_videos(records)
    scored = make_scorer(model, config)(variables, share)
    measured = measure(config, meta, scored, folder, total=len(share))
    counts, videos = metrics.new_counts(config, meta.class_names), {}
    for part, rows in hosts.gather(measured):
        counts, videos = counts.merge(part), videos | rows
    videos = {record.name: videos[record.name] for record in records}
    num_frames = sum(record.num_frames for record in records)
    seconds = time.perf_counter() - start
    result = report.EvalReport(
        metrics={**counts.compute(), **metrics.frame_metrics(counts)},
        videos=videos,
        class_names=meta.class_names,
        confusion=counts.confusion,
        run={
            **provenance.run_info(),
            "dataset": config.data.dataset,
            "split": config.data.split,
            "checkpoint_step": meta.step,
            "videos_trained_on": num_known,
            "seconds": seconds,
            "frames_per_s": num_frames / seconds,
            "config": config.to_dict(),
        },
    )
    if hosts.is_first():
        report.write_report(result, folder)
    logging.info("report: %s", folder / "report.md")
    return result


def measure(
    config: ml_collections.ConfigDict,
    meta: Meta,
    videos: Iterable[VideoScores],
    folder: pathlib.Path,
    *,
    total: int,
) -> tuple[metrics.SegmentCounts, dict[str, dict[str, float]]]:
    """Writes what was predicted for each video; returns the counts and, by name, each
    video's own metrics."""
    counts = none = metrics.new_counts(config, meta.class_names)
    rows, num_frames, start = {}, 0, time.perf_counter()
    for video in videos:
        record = video.record
        alone = none.add(video.labels, record.labels, video.logits)
        counts = counts.merge(alone)
        own = alone.compute() if alone.num_videos else {}
        rows[record.name] = {"num_frames": record.num_frames, **own}
        write_video(folder, video, meta.class_names, config.eval.background)
        num_frames += record.num_frames
        rate = num_frames / (time.perf_counter() - start)
        logging.info(
            "video %d/%d %s | %.0f frames/s", len(rows), total, record.name, rate
        )
    return counts, rows


def write_video(
    folder: pathlib.Path,
    video: VideoScores,
    class_names: tuple[str, ...],
    background: tuple[str, ...],
) -> None:
    """Writes the predictions of a video and their picture."""
    record = video.record
    report.write_predictions(folder, record.name, video.labels, class_names)
    picture = timeline.draw_timeline(
        record.labels,
        video.labels,
        class_names,
        fps=record.fps,
        title=record.name,
        confidence=logits_to_confidence(video.logits),
        background=background,
    )
    timeline.write_picture(folder, record.name, picture)


def warn_if_known(records: Sequence[VideoRecord], meta: Meta) -> int:
    """Says so if videos to test on were trained on; returns how many."""
    known = sorted({record.name for record in records} & set(meta.train_videos))
    if known:
        logging.warning(
            "%d of the %d test videos were trained on, such as %s: these metrics do "
            "not tell how the model does on new videos.",
            len(known),
            len(records),
            known[0],
        )
    return len(known)
