r"""Prints how far a data set's next action follows from the actions before it.

    python scripts/measure_order.py --annotations=data/gtea [--group="(S\d+)"]
        [--clip_frames=128]

It tells whether a model can gain from labels that it gave before, as Transeger does: no
picture is looked at. Each person's videos are predicted from those of the others
(--group finds the person in a video's name), segment by segment, given

*   the last N actions: counts of what followed them, those of shorter contexts where
    there are few (Witten, Bell: The zero-frequency problem, 1991);
*   the last action and which actions were done at all: the same, weighted by how far
    the sets of actions agree.

"Right" is the share of next actions that come out as the most likely; perplexity is the
number of equally likely ones that would be as hard to guess.
"""

import collections
import itertools
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from absl import flags

from data_pipeline.rendered.source import Source, read_source
from svtas_jax.evaluation.report import markdown_table
from svtas_jax.runtime import cli

CONTEXTS = (0, 1, 2, 3, 4, 6)  # actions
SHARPNESS = 8.0  # of the weight of a set of actions, in its overlap (Jaccard index)
UNKNOWN = 0.05  # probability of what never followed

Runs = tuple[str, ...]  # the actions of a video, in order
# An action's probability by its name, given the actions before.
Predictor = Callable[[Runs], dict[str, float]]


def main() -> None:
    """Prints two tables."""
    given = flags.FLAGS
    source = read_source(pathlib.Path(given.annotations), group=given.group)
    print(markdown_table(["", "frames", "segments in a chunk"], lengths(source, given)))
    print()
    rows = [
        (name, f"{100 * right:.1f}", f"{perplexity:.2f}")
        for name, right, perplexity in measured(source)
    ]
    print(markdown_table(["known before", "right, %", "perplexity"], rows))


def lengths(source: Source, given: flags.FlagValues) -> list[tuple[str, ...]]:
    """Returns the median and mean length of a segment, and how many a chunk shows."""
    groups = (itertools.groupby(labels) for labels in source.labels.values())
    segments = [len(list(own)) for group in groups for _, own in group]
    values = {"median": np.median(segments), "mean": np.mean(segments)}
    return [
        (f"{name} segment", f"{value:.0f}", f"{given.clip_frames / value:.1f}")
        for name, value in values.items()
    ]


def measured(source: Source) -> Iterable[tuple[str, float, float]]:
    """Yields for each kind of knowledge its name, the share that is right (0..1) and
    the perplexity, over the videos of all people."""
    runs = {
        name: tuple(label for label, _ in itertools.groupby(labels))
        for name, labels in source.labels.items()
    }
    kinds = [(f"the last {n} actions", after_last(n)) for n in CONTEXTS]
    kinds[:2] = [("nothing", kinds[0][1]), ("the last action", kinds[1][1])]
    kinds.append(("the last action and all that was done", after_set))
    for name, fit in kinds:
        scores = []
        for person in sorted(set(source.people.values())):
            others = [r for n, r in runs.items() if source.people[n] != person]
            predict = fit(others, source.classes)
            own = [r for n, r in runs.items() if source.people[n] == person]
            scores += [score for video in own for score in score_video(video, predict)]
        right, surprise = np.mean(scores, axis=0)
        yield name, float(right), math.exp(surprise)


def score_video(video: Runs, predict: Predictor) -> list[tuple[bool, float]]:
    """Returns for every action but the first whether it was the likeliest, and the
    negative logarithm of its probability."""
    scores = []
    for place in range(1, len(video)):
        chances = predict(video[:place])
        likeliest = max(chances, key=lambda name: chances[name])
        scores.append((likeliest == video[place], -math.log(chances[video[place]])))
    return scores


def after_last(size: int) -> Callable[[Sequence[Runs], Sequence[str]], Predictor]:
    """Returns a function that learns what follows the last `size` actions."""

    def fit(videos: Sequence[Runs], classes: Sequence[str]) -> Predictor:
        counts = collections.defaultdict(collections.Counter)
        for video, length in itertools.product(videos, range(size + 1)):
            for place in range(max(1, length), len(video)):
                counts[video[place - length : place]][video[place]] += 1

        def predict(before: Runs) -> dict[str, float]:
            chances = {name: 1 / len(classes) for name in classes}
            for length in range(min(size, len(before)) + 1):
                seen = counts.get(before[len(before) - length :])
                if not seen:
                    break
                kinds, total = len(seen), seen.total()
                chances = {
                    name: (seen[name] + kinds * chance) / (total + kinds)
                    for name, chance in chances.items()
                }
            return chances

        return predict

    return fit


def after_set(videos: Sequence[Runs], classes: Sequence[str]) -> Predictor:
    """Learns what follows an action, given which ones were done before."""
    seen = [
        (frozenset(video[:place]), video[place - 1], video[place])
        for video in videos
        for place in range(1, len(video))
    ]

    def predict(before: Runs) -> dict[str, float]:
        done = frozenset(before)
        weights: dict[str, float] = collections.defaultdict(float)
        for earlier, last, following in seen:
            if last == before[-1]:
                overlap = len(earlier & done) / len(earlier | done)
                weights[following] += math.exp(SHARPNESS * overlap)
        if not (total := sum(weights.values())):
            return {name: 1 / len(classes) for name in classes}
        return {
            name: (1 - UNKNOWN) * weights[name] / total + UNKNOWN / len(classes)
            for name in classes
        }

    return predict


if __name__ == "__main__":
    flags.DEFINE_string(
        "annotations", None, "Folder with groundTruth/, mapping.txt and splits/."
    )
    flags.DEFINE_string("group", "", "Regular expression that finds the person.")
    flags.DEFINE_integer("clip_frames", 128, "Frames in a chunk.", lower_bound=1)
    cli.run(main, required=("annotations",))
