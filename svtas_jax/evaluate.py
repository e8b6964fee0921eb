"""Evaluates a run on the test videos: streams, stitches, measures, draws, reports.

    python -m svtas_jax.evaluate --workdir=runs/x [--config=configs/x.py]
        [--checkpoint=best|latest|STEP] [--clip_frames=64,128]

Without --config the run's own config is used.
"""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from absl import flags, logging

from data_pipeline import annotations
from data_pipeline.dataset import EMPTY_SLOT, feature_width, make_dataset
from data_pipeline.demo import render
from svtas_jax.checkpoints import store
from svtas_jax.config import (
    stream_spec,
    validate_config,
    with_clip_frames,
)
from svtas_jax.errors import InputError
from svtas_jax.evaluation import metrics, report, timeline
from svtas_jax.evaluation.background import check_background
from svtas_jax.models import build_model
from svtas_jax.run_config import load_config
from svtas_jax.runtime import cli, hosts, provenance
from svtas_jax.runtime.sharding import by_slot, local_copy, local_mesh, shard_batch
from svtas_jax.stitching import scores_to_confidence, scores_to_labels, stitch_scores
from svtas_jax.streaming import blank_chunk, make_segmenter
from svtas_jax.structs import Chunk, Params, VideoRecord


@dataclasses.dataclass(frozen=True)
class VideoScores:
    """What a model says about every frame of a video."""

    record: VideoRecord
    scores: np.ndarray  # (num_frames, K) float32 logits

    @property
    def labels(self) -> np.ndarray:
        """The predicted class of every frame, (num_frames,) int32."""
        return scores_to_labels(self.scores)


Scorer = Callable[[Params, Sequence[VideoRecord]], Iterator[VideoScores]]


def main() -> None:
    """Runs the command."""
    workdir, which = cli.WORKDIR.value, flags.FLAGS.checkpoint
    for frames in cli.integers("clip_frames") or (None,):
        evaluate_run(workdir, which, config=cli.CONFIG.value, clip_frames=frames)


def evaluate_run(
    workdir: str,
    which: str = "best",
    *,
    config: ml_collections.ConfigDict | None = None,
    clip_frames: int | None = None,
) -> report.EvalReport:
    """Evaluates a checkpoint of a run and writes the report into its folder.

    Args:
        workdir: of the run.
        which: "best", "latest" or a step.
        config: instead of the run's own.
        clip_frames: see `cli.define_clip_frames`.
    """
    meta = store.read_meta(workdir, which)
    config = load_config(config, meta.config, meta.origin)
    folder = pathlib.Path(workdir) / "evaluation"
    if clip_frames is not None:
        config.data.clip_frames = clip_frames
        folder = folder.with_name(f"evaluation_{clip_frames}_frames")
    validate_config(config)
    prepare_data(config)
    check_classes(annotations.class_names(config.data), meta, config)
    check_background(config, meta.class_names)
    records = annotations.read_split(config.data, "test")
    check_width(records, meta)
    config = with_clip_frames(config, [record.num_frames for record in records])
    model, variables = restore(config, meta, workdir, which)
    result = evaluate(config, meta, model, variables, records, folder)
    logging.info("%s", format_metrics(result.metrics))
    return result


def prepare_data(config: ml_collections.ConfigDict) -> None:
    """Renders the demo data where the config asks for it and they are absent."""
    if config.data.dataset == "demo" and hosts.is_first():
        render.ensure_dataset(config.data.root)
    hosts.wait()


def check_classes(
    names: tuple[str, ...], meta: store.Meta, config: ml_collections.ConfigDict
) -> None:
    """Raises InputError if the data's classes are not those that were trained."""
    if names != meta.class_names:
        raise InputError(
            f"the data in {config.data.root} have the classes {', '.join(names)}, but "
            f"the checkpoint was trained on {', '.join(meta.class_names)}. Classes and "
            "their order must agree; train on this data, or use the mapping of the run."
        )


def check_width(records: Sequence[VideoRecord], meta: store.Meta) -> None:
    """Raises InputError if the features are not as wide as those of the training."""
    width = feature_width(records)
    if width != meta.feature_width:
        raise InputError(
            f"{records[0].video_path} has {width} numbers a row, but the run was "
            f"trained on {meta.feature_width}; use features of the same model."
        )


def warn_if_known(records: Sequence[VideoRecord], meta: store.Meta) -> int:
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


def model_and_chunk(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...], width: int
) -> tuple[nn.Module, Chunk]:
    """Builds a model, and a chunk that tells the shapes it is initialised with."""
    # The length of a chunk changes no weight of a model that takes whole videos.
    config = with_clip_frames(config, [1])
    chunk = blank_chunk(1, stream_spec(config), config.data.crop, feature_width=width)
    return build_model(config, class_names), chunk


def restore(
    config: ml_collections.ConfigDict, meta: store.Meta, workdir: str, which: str
) -> tuple[nn.Module, Params]:
    """Builds the model of a run and restores its variables."""
    model, chunk = model_and_chunk(config, meta.class_names, meta.feature_width)
    template = jax.eval_shape(
        lambda: model.init(jax.random.key(0), model.initial_state(1), chunk)
    )
    return model, store.restore_model(workdir, which, template)


def evaluate(
    config: ml_collections.ConfigDict,
    meta: store.Meta,
    model: nn.Module,
    variables: Params,
    records: Sequence[VideoRecord],
    folder: pathlib.Path,
) -> report.EvalReport:
    """Scores all videos, every process its share, and writes the report to `folder`."""
    num_known = warn_if_known(records, meta)
    start = time.perf_counter()
    share = hosts.share_videos(records)
    scored = make_scorer(model, config)(variables, share)
    measured = measure(config, meta, scored, folder, total=len(share))
    counts, videos = new_counts(config, meta.class_names), {}
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
    meta: store.Meta,
    videos: Iterable[VideoScores],
    folder: pathlib.Path,
    *,
    total: int,
) -> tuple[metrics.SegmentCounts, dict[str, dict[str, float]]]:
    """Writes what was predicted for each video; returns the counts and, by name, each
    video's own metrics."""
    counts = none = new_counts(config, meta.class_names)
    rows, num_frames, start = {}, 0, time.perf_counter()
    for video in videos:
        record = video.record
        alone = none.add(video.labels, record.labels, video.scores)
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


def new_counts(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...]
) -> metrics.SegmentCounts:
    """Returns empty counts with the config's background classes."""
    background = metrics.background_classes(class_names, config.eval.background)
    return metrics.SegmentCounts.zero(len(class_names), background)


def make_scorer(model: nn.Module, config: ml_collections.ConfigDict) -> Scorer:
    """Returns a function that streams videos, `config.eval.batch_size` side by side on
    the devices of this process, and yields each when it has ended. Memory is that of a
    few chunks and the scores of one batch."""
    mesh = local_mesh(config.eval.batch_size)
    segmenter = make_segmenter(model, by_slot(mesh))

    def score(variables, records):
        variables = local_copy(variables, mesh)
        state = model.initial_state(config.eval.batch_size)
        state = jax.device_put(state, by_slot(mesh))

        def step(state, chunks):
            return segmenter(variables, state, shard_batch(chunks, mesh))

        for record, logits in stream_videos(step, state, records, config):
            scores = stitch_scores(
                logits, num_frames=record.num_frames, spec=stream_spec(config)
            )
            yield VideoScores(record, scores)

    return score


def stream_videos(
    step: Callable[[Any, Chunk], tuple[Any, jax.Array]],
    state: Any,
    records: Sequence[VideoRecord],
    config: ml_collections.ConfigDict,
) -> Iterator[tuple[VideoRecord, np.ndarray]]:
    """Runs videos, if there are any, through a step; yields each, when it has ended,
    with what the step made of its chunks, (N, T, ...).

    Args:
        step: maps a state and chunks, leaves (N, B, ...), to the next state and an
            array (N, B, T, ...).
        state: to begin with.
    """
    if not records:
        return
    size = config.train.chunks_per_call
    dataset = make_dataset(
        records,
        config.data,
        batch_size=config.eval.batch_size,
        chunks_per_call=size,
        chunks_per_step=size,  # packed: no slot waits for the longest video
        train=False,
    )
    parts = collections.defaultdict(list)
    with contextlib.closing(iter(dataset)) as batches:
        for batch in batches:
            state, made = step(state, batch.chunks)
            made = np.asarray(made)
            for place in np.argwhere(batch.videos != EMPTY_SLOT):
                index = int(batch.videos[tuple(place)])
                parts[index].append(made[tuple(place)])
                if len(parts[index]) == dataset.schedule.num_chunks[index]:
                    yield records[index], np.stack(parts.pop(index))


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
        confidence=scores_to_confidence(video.scores),
        background=background,
    )
    timeline.write_picture(folder, record.name, picture)


def format_metrics(values: dict[str, float]) -> str:
    """Returns "acc 91.2 edit 88.0 ..." in percent."""
    return " ".join(f"{name} {value:.2f}" for name, value in values.items())


if __name__ == "__main__":
    cli.define_checkpoint()
    cli.define_clip_frames()
    cli.define_distributed()
    cli.run(main)
