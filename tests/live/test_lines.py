"""The lines of a stream, made of its answers."""

import json

import numpy as np

from svtas_jax.live.lines import lines_of
from svtas_jax.live.results import Latency, SourceEnd, StepResult

CLASSES = ("take", "stir")


def steps(labels, *, stride=2, starts=(0,), clip_steps=4):
    """Answers at 0.5 s a step, sure of themselves by 0.8."""
    for n, label in enumerate(labels):
        scores = np.full(2, 0.2, np.float32)
        scores[label] = 0.8
        yield StepResult(
            source=0,
            frame=n * stride,
            time_s=n / 2,
            label=CLASSES[label],
            class_index=label,
            scores=scores,
            chunk=n // clip_steps,
            call=n // clip_steps,
            starts=n in starts,
            latency=Latency(0.001, 0.002, 0.004),
        )


END = SourceEnd(0, 11, 2.75)


def lines(every, answers, end=END):
    maker = lines_of(every, class_names=CLASSES, step_s=0.5)()
    found = [line for step in answers for line in maker.add(step)] + maker.end(end)
    json.dumps(found)
    return found


def test_every_step_has_a_line():
    found = lines("step", steps([0, 1, 1]))
    assert [line["frame"] for line in found] == [0, 2, 4]
    assert [line["label"] for line in found] == ["take", "stir", "stir"]
    assert found[0]["latency_ms"] == {
        "decode": 1.0,
        "wait": 2.0,
        "compute": 4.0,
        "total": 7.0,
    }


def test_every_change_has_a_line_with_what_ended():
    found = lines("segment", steps([0, 0, 1, 1, 1, 0]))
    assert [line["label"] for line in found] == ["take", "stir", "take", None]
    assert "ended" not in found[0]
    ended = [line["ended"] for line in found[1:]]
    assert [e["label"] for e in ended] == ["take", "stir", "take"]
    assert [e["frames"] for e in ended] == [[0, 4], [4, 10], [10, 11]]
    assert [e["time_s"] for e in ended] == [[0, 1], [1, 2.5], [2.5, 2.75]]
    assert all(e["confidence"] == 0.8 for e in ended)


def test_a_segment_does_not_reach_over_a_gap():
    answers = list(steps([0, 0, 0], starts=(0, 2)))
    object.__setattr__(answers[2], "time_s", 60.0)
    found = lines("segment", answers)
    assert [line["label"] for line in found] == ["take", "take", None]
    assert found[1]["ended"]["time_s"] == [0, 1.0]  # a step after its last frame


def test_every_chunk_has_a_line_when_the_next_one_begins():
    found = lines("chunk", steps([0, 0, 1, 1, 1, 0]))
    assert [line["frames"] for line in found] == [[0, 8], [8, 11]]
    assert [line["chunk"] for line in found] == [0, 1]
    spans = [[s["frames"] for s in line["segments"]] for line in found]
    assert spans == [[[0, 4], [4, 8]], [[8, 10], [10, 11]]]
    assert found[0]["latency_ms"] == {"wait": 2000.0, "decode": 4.0, "compute": 4.0}


def test_a_source_without_a_frame_has_no_line():
    for every in ("step", "segment", "chunk"):
        assert lines(every, [], SourceEnd(0, 0, 0.0)) == []
