"""What waits between the thread that reads and the one that computes."""

import contextlib
import itertools
import threading
import time

import numpy as np
import pytest

from data_pipeline import reader as reader_module
from data_pipeline.cameras import Shot, Source
from data_pipeline.reader import Reader
from data_pipeline.step_queue import Policy, Step, StepQueue


class Played(Source):
    """Shows frames 10 ms apart, as far as the test lets it."""

    def __init__(self):
        super().__init__("played", 100.0, is_live=True)
        self.allowed = threading.Semaphore(0)
        self.limit = 0
        self.shown = threading.Event()

    def show(self, limit):
        self.limit = limit
        self.shown.clear()
        self.allowed.release()
        assert self.shown.wait(10)

    def shots(self, stride=1, wanted=None):
        for index in itertools.count():
            if index == self.limit:
                self.shown.set()
                self.allowed.acquire()
            self.arrived_s = time.monotonic()
            if wanted(index, index / 100):
                yield Shot(index, index / 100, np.full((2, 2, 3), index, np.uint8))

    def close(self):
        pass


@pytest.fixture
def played(monkeypatch):
    source = Played()
    monkeypatch.setattr(
        reader_module, "open_source", lambda *_, **__: contextlib.nullcontext(source)
    )
    yield source
    source.allowed.release()


def test_only_the_newest_step_waits(played):
    with Reader("rtsp://played", step_s=0.05, timeout_s=(60, 60)) as reader:
        played.show(33)
        first = reader.take()
        with pytest.raises(TimeoutError, match="No step came within 0.01 s"):
            reader.take(0.01)
        played.show(56)
        second = reader.take()
        counters = reader.counters
        played.limit = -1
    assert (first.index, first.resets, first.dropped, first.repeats) == (30, True, 0, 0)
    assert (second.index, second.resets, second.dropped) == (55, False, 4)
    assert (counters.captured, counters.used, counters.dropped) == (56, 2, 10)


def a_step(**options):
    usual = {"repeats": 0, "dropped": 0, "resets": False, "decode_s": 0.0}
    return Step(np.zeros((2, 2, 3)), 0, 0.0, captured_s=0.0, **usual | options)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([a_step(), a_step(repeats=2), a_step(repeats=3)], (5, 2, False)),
        ([a_step(resets=True), a_step(repeats=3), a_step()], (0, 0, True)),
        ([a_step(repeats=4), a_step(resets=True)], (0, 0, True)),
    ],
)
def test_a_step_knows_what_it_replaced(steps, expected):
    queue = StepQueue(8)
    for step in steps:
        assert queue.put(step, Policy.DROP_OLDEST)
    step = queue.take(0)
    assert (step.repeats, step.dropped, step.resets) == expected
    assert queue.counters().dropped == len(steps) - 1


def test_a_live_source_can_be_made_to_wait(played):
    options = {"step_s": 0.01, "timeout_s": (60, 60)}
    with Reader("rtsp://played", policy=Policy.WAIT, **options) as reader:
        played.limit = 40
        played.allowed.release()
        assert [reader.take().index for _ in range(40)] == list(range(40))
        played.limit = -1
