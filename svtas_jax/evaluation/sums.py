"""What metrics over videos are made of: each is a sum over a sum.

For a video, `sums_of` gives a numerator and a denominator of every metric that is a
ratio of sums over videos: acc is 100 x right frames / frames, edit 100 x the video's
score / 1, f1 200 TP / (2 TP + FP + FN). The metric over any videos is the sum of their
numerators over that of their denominators, so that it can be computed again for drawn
videos (`svtas_jax.evaluation.bootstrap`) without labels.

acc_balanced and the medians and percentiles of delays are no such ratios; map_50,
map_avg and frame_map rank what all videos hold together.
"""

from collections.abc import Mapping

import numpy as np

from svtas_jax.evaluation.borders import WINDOWS_S
from svtas_jax.evaluation.boundaries import BoundaryCounts
from svtas_jax.evaluation.matching import F1_OVERLAPS
from svtas_jax.evaluation.metrics import SegmentCounts
from svtas_jax.evaluation.online import OnlineCounts
from svtas_jax.evaluation.tally import Tally

Sums = Mapping[str, tuple[float, float]]  # metric -> numerator, denominator


def sums_of(
    counts: Tally, online: OnlineCounts | None = None
) -> dict[str, tuple[float, float]]:
    """Returns the sums of one video; none if it has no labelled frame.

    Args:
        counts: of this video alone.
        online: of this video alone, if asked for.
    """
    segments = counts.segments
    if not segments.num_videos:
        return {}
    sums = {
        "acc": (100 * np.trace(segments.confusion), segments.confusion.sum()),
        "edit": (100 * segments.edit_sum, segments.num_videos),
        **_f1_sums(segments),
        "segment_ratio": _num_segments(segments),
        **_recall_sums(segments),
        **_boundary_sums(counts.boundaries),
    }
    if online is not None:
        sums |= _online_sums(online)
    return {name: (float(top), float(bottom)) for name, (top, bottom) in sums.items()}


def _num_segments(counts: SegmentCounts) -> tuple[float, float]:
    return counts.predicted_segments.sum(), counts.true_segments.sum()


def _boundary_sums(counts: BoundaryCounts) -> dict[str, tuple[float, float]]:
    borders = counts.num_predicted + counts.num_true
    return {
        name: (200 * matched, borders)
        for name, matched in zip(counts.compute(), counts.matched, strict=True)
    }


def _f1_sums(counts: SegmentCounts) -> dict[str, tuple[float, float]]:
    found = 2 * counts.true_positives
    total = found + counts.false_positives + counts.false_negatives
    return {
        f"f1_{100 * overlap:.0f}": (100 * found[n], total[n])
        for n, overlap in enumerate(F1_OVERLAPS)
    }


def _recall_sums(counts: SegmentCounts) -> dict[str, tuple[float, float]]:
    ranked = counts.ranked
    if not ranked.num_videos:
        return {}
    recall = 100 * ranked.recall_sum
    tops = {"auc": recall.mean(), "ar_1": recall[0], "ar_5": recall[4]}
    tops["ar_15"] = recall[14]
    return {name: (top, ranked.num_videos) for name, top in tops.items()}


def _online_sums(online: OnlineCounts) -> dict[str, tuple[float, float]]:
    borders = online.borders
    predicted, true = _num_segments(online.segments)
    missed = borders.num_segments - borders.num_found
    missed_ends = borders.num_ends - len(borders.end_delays_s)
    instants = {
        f"instant_{window_s:g}s": (100 * right, frames)
        for window_s, right, frames in zip(
            WINDOWS_S, borders.instant_right, borders.instant_frames, strict=True
        )
    }
    return {
        "emission_delay_s": (online.delay_sum_s, online.segments.confusion.sum()),
        "start_missed": (100 * missed, borders.num_segments),
        "end_missed": (100 * missed_ends, borders.num_ends),
        **instants,
        "flicker_per_min": (60 * (predicted - true), online.seconds),
    }
