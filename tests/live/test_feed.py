"""Sources of a session: computed together, each with an end of its own."""

import threading
import time

import numpy as np
import pytest
from loopback import plays

from data_pipeline.step_queue import Policy
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.live import feed as feed_module
from svtas_jax.live.feed import Feed
from svtas_jax.live.results import SourceEnd, StepResult
from svtas_jax.live.session import LiveSession

CLASSES = tuple("abcdefgh")
STEP_S = 0.1


class Counting:
    """An engine whose scores say which picture it saw, and how often it ran."""

    def __init__(self, films, *, steps_per_call=1, pause_s=0.0):
        self.steps_per_call, self.size = steps_per_call, 64
        self.batches, self.films, self._pause_s = [], films, pause_s

    def run(self, rows, frames, valid, starts):
        self.batches.append(tuple(rows))
        time.sleep(self._pause_s)
        numbers = [[self.films.number(f) // 10 % 8 for f in row] for row in frames]
        return np.eye(8, dtype=np.float32)[numbers] * 9


def square_of(films):
    """Draws the number of a wide picture again as a square one."""
    return lambda frame: films.picture(films.number(frame), 64, 64)


def session_of(engine, num_sources=1):
    return LiveSession(
        engine,
        square_of(engine.films),
        class_names=CLASSES,
        clip_steps=4,
        step_s=STEP_S,
        num_sources=num_sources,
        fps=10.0,
        gap_reset_s=2.0,
    )


def film(tmp_path, films, name, numbers):
    return str(films.write(tmp_path / name, numbers, rate=50, size=(64, 64)))


def by_source(events, source):
    own = [event for event in events if event.source == source]
    assert all(isinstance(event, StepResult) for event in own[:-1])
    assert isinstance(own[-1], SourceEnd)
    return own[:-1], own[-1]


def test_files_are_answered_to_their_ends(tmp_path, films):
    paths = [
        film(tmp_path, films, "a.mp4", range(100)),
        film(tmp_path, films, "b.mp4", range(40, 90)),
    ]
    engine = Counting(films, pause_s=0.01)  # both films wait for it
    events = list(Feed(session_of(engine, 2), paths))
    steps, end = by_source(events, 0)
    assert [step.frame for step in steps] == list(range(0, 100, 5))
    assert [step.class_index for step in steps] == [
        n // 10 % 8 for n in range(0, 100, 5)
    ]
    assert (end.num_frames, end.error) == (100, None)
    assert end.end_s == pytest.approx(2.0)
    assert (end.counters.captured, end.counters.used) == (100, 20)
    steps, end = by_source(events, 1)
    assert len(steps) == 10 and end.num_frames == 50
    assert (0, 1) in engine.batches  # both had a step at a time


def test_a_source_that_fails_leaves_the_others_alone(tmp_path, films):
    paths = [str(tmp_path / "no.mp4"), film(tmp_path, films, "a.mp4", range(50))]
    events = list(Feed(session_of(Counting(films), 2), paths))
    steps, end = by_source(events, 0)
    assert not steps and isinstance(end.error, MissingInputError)
    steps, end = by_source(events, 1)
    assert len(steps) == 10 and end.error is None


def test_what_came_before_a_source_broke_off_is_answered(camera, films):
    address, _ = camera(plays(range(50)))
    session = session_of(Counting(films, steps_per_call=4))
    # Without drops, which a busy machine decides on.
    events = list(Feed(session, [address], once=True, policy=Policy.WAIT))
    steps, end = by_source(events, 0)
    assert isinstance(end.error, InputError) and end.num_frames == 50
    assert steps[-1].frame >= 40 and len(steps) % 4 != 0  # the short chunk, too


def test_a_slow_model_is_said_once_and_stays_in_step(
    camera, films, caplog, monkeypatch
):
    monkeypatch.setattr(feed_module, "_SETTLING_S", 0.5)
    address, sent = camera(plays(range(150), lambda client: client.stall()))
    session = session_of(Counting(films, pause_s=3 * STEP_S))
    feed, lags, dropped = Feed(session, [address]), [], 0
    for event in feed:
        lags.append(time.monotonic() - sent[event.frame])
        dropped += event.dropped
        if len(lags) == 7:
            break
    # One call is 3 steps, and a step waits for one; the rest is for a busy machine. The
    # first pictures also wait for the rate of the connection.
    assert max(lags[2:]) < 10 * STEP_S and dropped >= 6
    assert caplog.text.count("come faster than the model answers") == 1
    assert "a new stream begins" not in caplog.text


def test_a_new_stream_after_a_gap_is_said(tmp_path, films, caplog):
    stamps = [*range(30), *range(200, 230)]
    path = films.write(
        tmp_path / "a.mkv", range(60), rate=50, stamps=stamps, size=(64, 64)
    )
    steps, _ = by_source(list(Feed(session_of(Counting(films)), [str(path)])), 0)
    assert [step.frame for step in steps if step.starts] == [0, 30]
    said = "no frame came for more than 2 s before 4.0 s; a new stream begins"
    assert caplog.text.count(said) == 1


def test_files_are_never_dropped(tmp_path, films):
    path = film(tmp_path, films, "a.mp4", range(60))
    engine = Counting(films, pause_s=0.02)
    steps, end = by_source(list(Feed(session_of(engine), [path])), 0)
    assert len(steps) == 12 and end.counters.dropped == 0
    dropping = Feed(session_of(engine), [path], policy=Policy.DROP_OLDEST)
    assert by_source(list(dropping), 0)[1].counters.dropped > 0


def test_closing_answers_what_is_in_hand_while_the_source_stalls(camera, films):
    address, _ = camera(plays(range(51), lambda client: client.stall()))
    session = session_of(Counting(films, steps_per_call=4))
    # Without drops, which a busy machine decides on.
    feed = Feed(session, [address], policy=Policy.WAIT, timeout_s=(30.0, 30.0))
    events, closed_s = [], []

    def close():
        closed_s.append(time.monotonic())
        feed.close()

    for event in feed:
        events.append(event)
        if len(events) == 8:  # those that follow wait for their chunk
            threading.Timer(1.0, close).start()
    assert time.monotonic() - closed_s[0] < 1.0
    steps, end = by_source(events, 0)
    assert len(steps) > 8 and end.error is None


def test_pictures_are_kept_on_demand(tmp_path, films):
    path = film(tmp_path, films, "a.mp4", range(20))
    session = session_of(Counting(films))
    for keeps in (False, True):
        steps, _ = by_source(list(Feed(session, [path], keeps_pictures=keeps)), 0)
        shapes = {None if s.picture is None else s.picture.shape for s in steps}
        assert shapes == ({(64, 64, 3)} if keeps else {None})
