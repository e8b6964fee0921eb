"""Reports made of labels alone, for tests of reports and comparisons."""

import numpy as np

from svtas_jax.evaluation import presets
from svtas_jax.evaluation.details import Details, details_of
from svtas_jax.evaluation.online import OnlineCounts, emission_delays
from svtas_jax.evaluation.report import EvalReport
from svtas_jax.evaluation.tally import Tally

NAMES = ("take", "pour", "stir", "background")
BACKGROUND = (3,)
FPS = 10.0


def random_labels(rng, num_frames, num_classes=4):
    """Labels that change every few frames."""
    cuts = np.sort(rng.integers(0, num_frames, max(1, num_frames // 12)))
    labels = rng.integers(0, num_classes, len(cuts) + 1)
    return labels[np.searchsorted(cuts, np.arange(num_frames), side="right")].astype(
        np.int32
    )


def worsened(rng, labels, share, num_classes=4):
    """Labels of which a share is replaced, in stretches of 4 frames."""
    found = labels.copy()
    for start in range(0, len(labels), 4):
        if rng.random() < share:
            found[start : start + 4] = rng.integers(num_classes)
    return found


def evaluated(
    truths,
    predictions,
    *,
    names=NAMES,
    path=None,
    online=True,
    run=None,
    preset="svtas",
):
    """Returns the report and the details of videos, by name.

    Args:
        truths, predictions: name -> (num_frames,) labels.
        names: of the classes; "background" is ignored by segment metrics.
        path: maps a name to the path of its video.
        online: with online metrics, answered in chunks of 16 frames.
        run: facts of the report.
        preset: conventions of the metrics.
    """
    background = tuple(k for k, name in enumerate(names) if name == "background")
    counts = none = Tally.zero(
        presets.preset_of(preset),
        names,
        background=("background",),
        rates=[FPS] * len(truths),
    )
    timed = no_times = OnlineCounts.zero(len(names), background)
    details, rows = {}, {}
    for name, truth in truths.items():
        labels = np.asarray(predictions[name], np.int32)
        scores = np.eye(len(names), dtype=np.float32)[labels]
        alone = none.add(labels, truth, scores, fps=FPS)
        delays_s = emission_delays(len(truth), 16, FPS)
        own = no_times.add(labels, truth, scores, delays_s=delays_s, fps=FPS)
        details[name] = details_of(
            *(truth, labels, alone),
            fps=FPS,
            path=path(name) if path else "",
            confidence=np.linspace(0, 1, len(truth)),
            online=own if online else None,
            delays_s=delays_s if online else None,
        )
        counts, timed = counts.merge(alone), timed.merge(own)
        rows[name] = {"num_frames": len(truth), **alone.own_metrics()}
    report = EvalReport(
        counts.compute(),
        rows,
        names,
        counts.segments.confusion,
        run or {"dataset": "tea", "split": 1, "config": {"seed": 0}},
        {"answers": "every 16 frames", "metrics": timed.compute()} if online else None,
    )
    return report, Details(tuple(names), background, details)


def random_report(num_videos, *, seed=0, share=0.3, truths=None, **options):
    """Returns a report on random videos, its details and the true labels."""
    rng = np.random.default_rng(seed)
    if truths is None:
        truths = {
            f"video {n}": random_labels(rng, int(rng.integers(60, 140)))
            for n in range(num_videos)
        }
    predictions = {name: worsened(rng, t, share) for name, t in truths.items()}
    return *evaluated(truths, predictions, **options), truths
