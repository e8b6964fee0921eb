"""Scores prediction files of any program: needs labels, but neither run nor videos."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Sequence

import ml_collections
from absl import logging

from data_pipeline import annotations
from data_pipeline.truth import read_truth
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError
from svtas_jax.evaluation import presets, report, timeline
from svtas_jax.evaluation.background import check_background
from svtas_jax.evaluation.class_table import class_table
from svtas_jax.evaluation.details import Details, details_of
from svtas_jax.evaluation.metrics import format_metrics
from svtas_jax.evaluation.page.report_page import write_pages
from svtas_jax.evaluation.pairing import Pair, facts_of, read_pairs
from svtas_jax.evaluation.tally import Tally
from svtas_jax.runtime import provenance
from svtas_jax.runtime.files import make_folder


def score_files(
    folder: str | os.PathLike,
    config: ml_collections.ConfigDict,
    *,
    metrics: str = presets.DEFAULT,
    output: str | os.PathLike | None = None,
    fps: float = 0.0,
) -> report.EvalReport:
    """Scores the predictions for the test videos of a config's split; writes a report
    with predictions and pictures.

    Args:
        folder: of the files, see `prediction_files`.
        config: names the data, the split and the background.
        metrics: name of the preset whose conventions count, see `presets`.
        output: folder of the report; by default FOLDER-scores/METRICS.
        fps: frame rate of labels and predictions; 0 if unknown.

    Raises:
        MissingInputError: if labels or predictions are missing.
        InputError: if they are invalid or do not fit each other, or the output cannot
            be written or holds another report.
    """
    started, folder = time.perf_counter(), pathlib.Path(os.path.abspath(folder))
    preset = presets.preset_of(metrics)
    validate_config(config)
    classes = annotations.class_names(config.data)
    check_background(config, classes)
    truths = read_truth(config.data, "test")
    truths = [dataclasses.replace(t, fps=fps or t.fps) for t in truths]
    pairs = read_pairs(folder, truths, classes, preset, config.data)
    target = _make_output(folder, metrics, output)
    facts = facts_of(folder, pairs, preset)
    result, details = score(pairs, classes, preset, config)
    _write_videos(target, pairs, classes, config.eval.background)
    seconds = time.perf_counter() - started
    run = {**_run_facts(config), **facts, "seconds": seconds}
    result = dataclasses.replace(result, run=run)
    report.write_report(result, target)
    write_pages(result, details, target)
    logging.info("%s", format_metrics(result.metrics))
    logging.info("report: %s and report.html", target / "report.md")
    return result


def score(
    pairs: Sequence[Pair],
    classes: tuple[str, ...],
    preset: presets.Preset,
    config: ml_collections.ConfigDict,
) -> tuple[report.EvalReport, Details]:
    """Scores predictions; returns a report without the facts of the run, and what it
    keeps of the videos."""
    rates = [pair.truth.fps for pair in pairs]
    counts = none = Tally.zero(
        preset, classes, background=config.eval.background, rates=rates
    )
    with_scores = all(pair.prediction.scores is not None for pair in pairs)
    videos, details = {}, {}
    for pair in pairs:
        name, found = pair.truth.name, pair.prediction
        scores = found.scores if with_scores else None
        own = none.add(found.labels, pair.labels, scores, fps=pair.truth.fps)
        counts = counts.merge(own)
        videos[name] = {"num_frames": len(pair.labels), **own.own_metrics()}
        details[name] = details_of(pair.labels, pair.shown, own, fps=pair.truth.fps)
    result = report.EvalReport(
        metrics=counts.compute(),
        videos=videos,
        class_names=classes,
        confusion=counts.segments.confusion,
        run={},
        classes=class_table(counts.segments, classes),
        conventions=counts.conventions(classes),
    )
    return result, Details(classes, counts.segments.background, details)


def _run_facts(config: ml_collections.ConfigDict) -> dict[str, object]:
    return {
        **provenance.run_info(),
        "dataset": config.data.dataset,
        "split": config.data.split,
        "config": {name: config[name].to_dict() for name in ("data", "eval")},
    }


def _make_output(
    folder: pathlib.Path, metrics: str, output: str | os.PathLike | None
) -> pathlib.Path:
    """Creates the folder of the report.

    Raises:
        InputError: if it cannot be written to, or holds a report on something else.
    """
    default = folder.with_name(f"{folder.name}-scores") / metrics
    target = default if output is None else pathlib.Path(output)
    path = target / "report.json"
    if path.is_file() and _predictions_of(path) != str(folder):
        raise InputError(
            f"{path} is a report on something else than {folder}; choose another "
            "--output, or remove it."
        )
    return make_folder(target, option="--output")


def _predictions_of(path: pathlib.Path) -> str | None:
    """Returns which folder a report is about, None if it is of another kind."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["run"]["predictions"]
    except (ValueError, KeyError, TypeError):
        return None


def _write_videos(
    folder: pathlib.Path,
    pairs: Sequence[Pair],
    classes: tuple[str, ...],
    background: tuple[str, ...],
) -> None:
    # OpenCV releases the GIL while it encodes a picture.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(_write_video, folder, pair, classes, background)
            for pair in pairs
        ]
        for job in jobs:
            job.result()


def _write_video(
    folder: pathlib.Path,
    pair: Pair,
    classes: tuple[str, ...],
    background: tuple[str, ...],
) -> None:
    """Writes the predictions that count, as text and as a picture."""
    name = pair.truth.name
    report.write_predictions(folder, name, pair.shown, classes)
    picture = timeline.draw_timeline(
        pair.labels,
        pair.shown,
        classes,
        fps=pair.truth.fps,
        title=name,
        background=background,
    )
    timeline.write_picture(folder, name, picture)
