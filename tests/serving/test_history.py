"""What is kept of a stream, and how it is written."""

import csv
import io
import json

import numpy as np
import pytest

from svtas_jax.errors import InputError
from svtas_jax.live.results import StepResult
from svtas_jax.serving import exports
from svtas_jax.serving.history import History

STEP_S = 0.2


def step(frame, label, *, time_s=None, confidence=0.5, starts=False):
    scores = np.array([confidence, 1 - confidence], np.float32)
    time_s = frame / 15 if time_s is None else time_s
    return StepResult(0, frame, time_s, label, 0, scores, chunk=0, starts=starts)


def told(labels, **options):
    history = History(STEP_S, **options)
    done = [history.add(step(3 * n, label)) for n, label in enumerate(labels)]
    return history, [segment for segment in done if segment is not None]


def test_segments_begin_where_the_label_changes():
    history, done = told("aabbb")
    assert [(s.label, s.start_frame, s.end_frame) for s in done] == [("a", 0, 6)]
    running = history.past().segments[-1]
    assert (running.label, running.start_frame, running.end_frame) == ("b", 6, 13)
    assert running.end_s == pytest.approx(12 / 15 + STEP_S)
    history.end(15, 1.0)
    past = history.past()
    assert past.has_ended and past.num_steps == 5
    assert [s.end_frame for s in past.segments] == [6, 15]
    assert [s.end_s for s in past.segments] == pytest.approx([0.4, 1.0])


def test_a_confidence_is_the_mean_over_the_steps():
    history = History(STEP_S)
    for n, confidence in enumerate((0.5, 0.25, 0.75, 1.0)):
        history.add(step(3 * n, "a", confidence=confidence))
    assert history.past().segments[0].confidence == pytest.approx(0.625)


def test_a_gap_ends_a_segment_even_of_the_same_label():
    history, _ = told("aa")
    done = history.add(step(6, "a", time_s=60.0, starts=True))
    assert done.end_frame == 6 and done.end_s == pytest.approx(0.2 + STEP_S)
    assert history.past().segments[-1].start_s == 60.0


def test_memory_is_bounded():
    history, _ = told("ab" * 50, most_segments=10, most_steps=7)
    past = history.past()
    assert (len(past.steps), len(past.segments)) == (7, 11)
    assert (past.num_steps, past.num_forgotten) == (100, 89)
    assert past.segments[0].start_frame == 3 * 89
    with pytest.raises(InputError, match="first 89 segments are not kept"):
        exports.write("txt", past, {})
    assert exports.write("csv", past, {}).count("\n") == 12


def test_the_common_layout_has_a_line_for_every_frame():
    history, _ = told("aab")
    history.end(11, 0.8)
    lines = exports.write("txt", history.past(), {}).splitlines()
    assert lines == ["a"] * 6 + ["b"] * 5


def test_csv_and_json_hold_the_same_segments():
    history, _ = told(["take", "gießen, oben", "=1+1"])
    history.end(9, 0.6)
    rows = list(csv.DictReader(io.StringIO(exports.write("csv", history.past(), {}))))
    assert [row["label"] for row in rows] == ["take", "gießen, oben", "'=1+1"]
    session = json.loads(exports.write("json", history.past(), {"name": "x"}))
    assert session["name"] == "x" and session["ended"]
    for row, segment in zip(rows, session["segments"], strict=True):
        assert [int(row["start_frame"]), int(row["end_frame"])] == segment["frames"]
        assert [float(row["start_s"]), float(row["end_s"])] == segment["time_s"]
    assert [past["label"] for past in session["steps"]][1] == "gießen, oben"
