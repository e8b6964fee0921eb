"""The seconds of what is found in a stream."""

import io
import json

import numpy as np

from svtas_jax.evaluation.results import ChunkResult


def test_segments_have_the_seconds_of_their_frames():
    labels = np.array([0, 0, 1, 1, 1], np.int32)
    result = ChunkResult(
        class_names=("take", "put"),
        labels=labels,
        scores=np.eye(2, dtype=np.float32)[labels],
        times_s=np.array([3.0, 3.5, 7.25, 9.0]),
        step_frames=np.array([8, 10, 12, 13]),
    )
    line = result.to_json()
    assert line["time_s"] == [3.0, 9.0] and line["frames"] == [8, 13]
    spans = [(s["label"], s["frames"], s["time_s"]) for s in line["segments"]]
    assert spans == [("take", [8, 10], [3.0, 3.5]), ("put", [10, 13], [3.5, 9.0])]
    assert line["latency_ms"]["wait"] == 6000.0
    json.dump(line, io.StringIO())
