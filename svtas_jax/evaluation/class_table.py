"""What a report says about each class."""

from collections.abc import Sequence

import numpy as np

from svtas_jax.evaluation.metrics import SegmentCounts, class_recall_precision


def class_table(
    counts: SegmentCounts, class_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Returns facts of every class by its name: numbers of true and predicted frames
    and segments, and recall, precision and F1 over frames in percent.

    A share is NaN where its class has no frame of the kind; F1 where it has none.
    """
    recall, precision = class_recall_precision(counts.confusion)
    true, predicted = counts.confusion.sum(axis=1), counts.confusion.sum(axis=0)
    f1 = class_f1(counts.confusion)
    return {
        name: {
            "true_frames": int(true[k]),
            "predicted_frames": int(predicted[k]),
            "true_segments": int(counts.true_segments[k]),
            "predicted_segments": int(counts.predicted_segments[k]),
            "recall": float(100.0 * recall[k]),
            "precision": float(100.0 * precision[k]),
            "f1": float(100.0 * f1[k]),
        }
        for k, name in enumerate(class_names)
    }


def class_f1(confusion: np.ndarray) -> np.ndarray:
    """Returns each class's F1 over frames in 0..1, NaN where no frame is or is
    predicted to be of the class; `confusion` as in `class_recall_precision`."""
    frames = confusion.sum(axis=1) + confusion.sum(axis=0)
    right = 2.0 * np.diag(confusion)
    return np.divide(right, frames, out=np.full_like(right, np.nan), where=frames > 0)
