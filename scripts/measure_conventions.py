"""Prints by how many points each convention of the field moves the same predictions.

    python scripts/measure_conventions.py --config=gtea_sete --splits=1,2
        --predictions=results/gtea/split_{} [--config.data.root=data/gtea]
    python scripts/measure_conventions.py --config=50salads_sete --corrupt=0

{} stands for the number of the split. Without --predictions, true labels are corrupted:
borders move by half a second (standard deviation), a tenth of the segments get another
class, and a sixth of them short segments inside. The first row has the metrics by
MS-TCN's eval.py, the mean over splits; the others what changes, in points.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np
from absl import flags

from data_pipeline import annotations
from data_pipeline.truth import read_truth
from svtas_jax.errors import InputError
from svtas_jax.evaluation import presets
from svtas_jax.evaluation.pairing import read_pairs
from svtas_jax.evaluation.report import markdown_table
from svtas_jax.evaluation.tally import Tally
from svtas_jax.runtime import cli
from svtas_jax.structs import labels_to_segments

METRICS = ("acc", "edit", "f1_10", "f1_25", "f1_50")
BASE = presets.PRESETS["ms-tcn"]
CORRUPTED_FPS = 30.0  # of 50Salads: half a second is 15 frames

Videos = list[tuple[np.ndarray, np.ndarray]]  # prediction and truth of each
Row = dict[str, float]
Scorer = Callable[[Videos], Row]


def main() -> None:
    """Prints a table."""
    given, config = flags.FLAGS, flags.FLAGS.config
    if (given.predictions is None) == (given.corrupt is None):
        raise InputError("give --predictions or --corrupt, and not both.")
    classes = annotations.class_names(config.data)
    splits = []
    for number in cli.integers("splits") or annotations.split_numbers(config.data):
        config.data.split = number
        if given.predictions is None:
            rng = np.random.default_rng([given.corrupt, number])
            truths = read_truth(config.data, "test")
            pairs = [(corrupted(t.labels, len(classes), rng), t.labels) for t in truths]
        else:
            folder = given.predictions.replace("{}", str(number))
            pairs = read_videos(folder, classes, config)
        splits.append(pairs)
    print(table(splits, classes, tuple(config.eval.background)))


def read_videos(
    folder: str, classes: tuple[str, ...], config: ml_collections.ConfigDict
) -> Videos:
    """Reads the predictions for a split; both are cut to the shorter one."""
    truths = read_truth(config.data, "test")
    cut = presets.PRESETS["svtas"]
    pairs = read_pairs(pathlib.Path(folder), truths, classes, cut, config.data)
    return [(pair.shown, pair.labels) for pair in pairs]


def corrupted(
    truth: np.ndarray, num_classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns labels with mistakes as models make them."""
    segments = labels_to_segments(truth)
    found = np.empty_like(truth)
    moved = [s.start + round(rng.normal(0, CORRUPTED_FPS / 2)) for s in segments[1:]]
    borders = [0, *np.clip(np.sort(moved), 0, len(truth)).astype(int), len(truth)]
    for segment, start, end in zip(segments, borders[:-1], borders[1:], strict=True):
        wrong = rng.random() < 0.1
        found[start:end] = rng.integers(num_classes) if wrong else segment.label
        if rng.random() < 1 / 6 and end - start > 80:
            at, size = rng.integers(start, end - 60), rng.integers(10, 60)
            found[at : at + size] = rng.integers(num_classes)
    return found


def table(
    splits: Sequence[Videos], classes: Sequence[str], background: tuple[str, ...]
) -> str:
    """Returns the table in Markdown.

    Args:
        splits: the videos of each split.
        classes: names in the order of the class indices.
        background: `config.eval.background`.
    """
    base = mean_of([scored(videos, classes) for videos in splits])
    rows = [("`--metrics=ms-tcn`", *(f"{base[name]:.2f}" for name in METRICS))]
    for title, scorer in conventions(classes, background).items():
        row = mean_of([scorer(videos) for videos in splits])
        rows.append((title, *(_change(row[name] - base[name]) for name in METRICS)))
    if len(splits) > 1:
        pooled = scored([video for videos in splits for video in videos], classes)
        changes = [_change(pooled[name] - base[name]) for name in METRICS]
        rows.append(("all videos at once, not the mean over splits", *changes))
    return markdown_table(("", "Acc", "Edit", "F1@10", "F1@25", "F1@50"), rows)


def conventions(
    classes: Sequence[str], background: tuple[str, ...]
) -> dict[str, Scorer]:
    """Returns how to score by each convention, by its name."""

    def by(**changes) -> Scorer:
        preset = dataclasses.replace(BASE, **changes)
        return lambda videos: scored(videos, classes, preset)

    def of(change: Callable[[np.ndarray, np.ndarray], tuple]) -> Scorer:
        return lambda videos: scored([change(p, t) for p, t in videos], classes)

    return {
        "`--metrics=svtas`": by(rules=presets.PRESETS["svtas"].rules),
        "`--metrics=asformer`": by(rules=presets.PRESETS["asformer"].rules),
        "every class is an action": by(background=()),
        f"background is {', '.join(background) or 'none'}": by(background=background),
        "Acc without background": lambda videos: _of_actions(videos, classes),
        "mean over videos": lambda videos: mean_of(
            [scored([video], classes) for video in videos]
        ),
        "every 2nd frame of both": of(lambda p, t: (p[::2], t[::2])),
        "predictions of every 4th frame, repeated": of(
            lambda p, t: (np.repeat(p[::4], 4)[: len(t)], t)
        ),
        "last 1 % of the frames cut off": of(
            lambda p, t: (p[: _most(t)], t[: _most(t)])
        ),
        "last 1 % not predicted, counted wrong": lambda videos: _with_wrong_end(
            videos, classes
        ),
        "predictions 1 % too long": of(
            lambda p, t: (np.append(p, np.repeat(p[-1:], len(t) - _most(t))), t)
        ),
    }


def scored(
    videos: Videos, classes: Sequence[str], preset: presets.Preset = BASE
) -> Row:
    """Returns the metrics of some videos."""
    return _tally(videos, classes, preset).compute()


def mean_of(rows: Sequence[Row]) -> Row:
    """Returns the mean of each metric."""
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}


def _tally(videos: Videos, classes: Sequence[str], preset: presets.Preset) -> Tally:
    names = preset.background or ()
    counts = Tally.zero(preset, classes, background=names, rates=[0.0])
    for prediction, truth in videos:
        counts = counts.add(prediction, truth, None, fps=0.0)
    return counts


def _of_actions(videos: Videos, classes: Sequence[str]) -> Row:
    counts = _tally(videos, classes, BASE)
    confusion = np.delete(
        counts.segments.confusion, list(counts.segments.background), axis=0
    )
    right = sum(
        confusion[row, k]
        for row, k in enumerate(
            k for k in range(len(classes)) if k not in counts.segments.background
        )
    )
    return {**counts.compute(), "acc": 100.0 * right / confusion.sum()}


def _with_wrong_end(videos: Videos, classes: Sequence[str]) -> Row:
    """Scores predictions whose end is a class of its own, which is never true."""
    ended = []
    for prediction, truth in videos:
        prediction = prediction.copy()
        prediction[_most(truth) :] = len(classes)
        ended.append((prediction, truth))
    preset = dataclasses.replace(BASE, background=("background", "(none)"))
    return scored(ended, (*classes, "(none)"), preset)


def _most(truth: np.ndarray) -> int:
    return len(truth) - max(1, len(truth) // 100)


def _change(points: float) -> str:
    if abs(points) < 1e-9:
        return "0"
    return f"{points:+.2f}" if abs(points) >= 0.005 else f"{points:+.0e}"


if __name__ == "__main__":
    cli.define("config")
    flags.DEFINE_string("predictions", None, "Folder of files; {} is the split.")
    flags.DEFINE_integer("corrupt", None, "Seed of mistakes to make in true labels.")
    flags.DEFINE_list("splits", [], "Splits to use, such as 1,2; all by default.")
    cli.run(main, required=("config",))
