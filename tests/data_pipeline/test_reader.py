"""A reader's bounded lag, and what it does when its source misbehaves."""

import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from loopback import FPS, plays

from data_pipeline.reader import Reader
from svtas_jax.errors import InputError, MissingInputError

STEP_S = 0.1
TIMEOUT_S = (5.0, 0.5)


def reading(source, **options):
    options = {"step_s": STEP_S, "timeout_s": TIMEOUT_S, **options}
    return Reader(source, **options)


def steps_of(reader):
    return list(iter(lambda: reader.take(10), None))


def take_until(reader, is_last):
    """Returns the steps up to the first for which `is_last` holds."""
    steps = []
    while not steps or not is_last(steps[-1]):
        steps.append(reader.take(10))
    return steps


@pytest.fixture
def film(tmp_path, films):
    return str(films.write(tmp_path / "a.mp4", range(120), rate=FPS))


def test_a_file_is_read_without_loss(film, films):
    with reading(film) as reader:
        steps = []
        while (step := reader.take()) is not None:
            time.sleep(0.01)
            steps.append(step)
        counters = reader.counters
    assert [films.number(step.frame) for step in steps] == list(range(0, 120, 5))
    assert [step.index for step in steps] == list(range(0, 120, 5))
    np.testing.assert_allclose([s.time_s for s in steps], np.arange(24) / 10)
    assert [step.resets for step in steps] == [True] + [False] * 23
    assert not any(step.repeats or step.dropped for step in steps)
    assert (counters.captured, counters.used) == (120, 24)
    assert (counters.dropped, counters.repeated, counters.gaps) == (0, 0, 0)
    assert 0 < counters.lag_s and 0 < counters.lag_p95_s
    assert all(0 < step.decode_s < time.monotonic() for step in steps)


def test_steps_have_the_form_of_the_transform(film):
    with reading(film, transform=lambda frame: frame[:8, :8]) as reader:
        assert {step.frame.shape for step in steps_of(reader)} == {(8, 8, 3)}


def test_a_fault_in_the_transform_reaches_the_consumer(film):
    with reading(film, transform=lambda frame: frame[0, 0, 0, 0]) as reader:
        with pytest.raises(IndexError):
            reader.take()


def test_a_film_with_a_hole_is_filled_or_begun_again(tmp_path, films):
    frames = [*range(50), *range(70, 100), *range(220, 250)]
    path = films.write(tmp_path / "a.mkv", frames, rate=FPS, stamps=frames)
    with reading(str(path), gap_reset_s=1.0) as reader:
        steps = steps_of(reader)
        counters = reader.counters
    assert {s.index: s.repeats for s in steps if s.repeats} == {50: 4}
    assert [step.index for step in steps if step.resets] == [0, 80]
    assert (counters.gaps, counters.repeated) == (2, 4)


def test_a_missing_file_is_an_error(tmp_path):
    with reading(str(tmp_path / "no.mp4")) as reader:
        for _ in range(2):
            with pytest.raises(MissingInputError, match="does not exist"):
                reader.take()


def test_a_damaged_file_does_not_begin_again(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no film" * 1000)
    with reading(str(path)) as reader, pytest.raises(InputError, match="damaged"):
        reader.take()
    assert reader.counters.reconnects == 0


def test_a_slow_consumer_falls_behind_by_no_more_than_a_step(camera, films):
    address, sent = camera(plays(range(250), lambda client: client.stall()))
    lags, steps = [], []
    with reading(address) as reader:
        reader.take(10)
        for _ in range(5):
            time.sleep(4 * STEP_S)
            steps.append(reader.take(10))
            lags.append(time.monotonic() - sent[films.number(steps[-1].frame)])
        counters = reader.counters
    # A step waits for one step at most; the rest is for a busy machine. Without drops,
    # the last lag would be 5 * 3 steps.
    assert max(lags) < 7 * STEP_S and counters.lag_p95_s < 7 * STEP_S
    assert counters.dropped >= 10 and sum(step.dropped for step in steps) >= 10


def test_a_dead_stream_is_connected_again_and_goes_on(camera, films, caplog):
    address, _ = camera(
        plays(range(40)), plays(range(100, 200), lambda client: client.stall())
    )
    with reading(address, gap_reset_s=30.0) as reader:
        steps = take_until(reader, lambda step: films.number(step.frame) > 130)
        counters = reader.counters
    assert [step.resets for step in steps] == [True] + [False] * (len(steps) - 1)
    assert counters.reconnects == 1 and counters.gaps >= 1
    begun = next(s for s in steps if films.number(s.frame) >= 100)
    assert begun.repeats > 0
    total = sum(1 + step.repeats + step.dropped for step in steps)
    # A busy machine drops the first ones: the stream then begins with a later one.
    passed_s = steps[-1].time_s - steps[0].time_s
    assert total == pytest.approx(1 + passed_s / STEP_S, abs=4.5)
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(steps))
    assert all(a.index < b.index for a, b in itertools.pairwise(steps))
    assert "closed the connection. Connecting again in 0.25 s." in caplog.text


@pytest.mark.parametrize("once", [False, True])
def test_a_patient_reader_waits_for_a_camera(camera, films, once):
    def refuses(client):
        client.send(b"HTTP/1.0 404 Not Found\r\n\r\n")

    address, _ = camera(refuses, plays(range(40), lambda client: client.stall()))
    with reading(address, patient=True, once=once) as reader:
        if once:
            with pytest.raises(InputError, match="gives no pictures"):
                reader.take(10)
            return
        step = reader.take(10)
        assert films.number(step.frame) < 40 and step.resets
        assert reader.counters.reconnects == 1 and reader.trouble == ""


def test_a_patient_reader_waits_for_no_file(tmp_path):
    with reading(str(tmp_path / "no.mp4"), patient=True) as reader:
        with pytest.raises(MissingInputError, match="does not exist"):
            reader.take(10)


def test_a_long_outage_begins_a_new_stream(camera, films):
    address, _ = camera(
        plays(range(40)), plays(range(100, 200), lambda client: client.stall())
    )
    with reading(address, gap_reset_s=0.2) as reader:
        steps = take_until(reader, lambda step: films.number(step.frame) > 130)
    first = next(step for step in steps if films.number(step.frame) >= 100)
    assert first.resets and first.repeats == 0 and first.time_s > 1.0


@pytest.mark.parametrize("then", ["stall", "garbage"])
def test_a_stream_without_frames_is_connected_again(camera, films, then):
    ways = {"stall": lambda c: c.stall(), "garbage": lambda c: c.garbage(2000)}
    address, _ = camera(
        plays(range(40), ways[then]), plays(range(100, 200), lambda c: c.stall())
    )
    with reading(address) as reader:
        take_until(reader, lambda step: films.number(step.frame) >= 100)
        assert reader.counters.reconnects == 1


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (None, "broke off after 40 frames: the other side closed"),
        (lambda client: client.stall(), "nothing came for 0.5 s"),
    ],
)
def test_once_ends_in_the_error_after_the_last_step(camera, films, then, message):
    address, _ = camera(plays(range(40), then))
    steps = []
    with reading(address, once=True) as reader:
        with pytest.raises(InputError, match=message):
            steps.extend(iter(lambda: reader.take(10), None))
    assert films.number(steps[-1].frame) >= 35
    assert reader.counters.reconnects == 0


def html(client):
    client.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n")
    client.send(b"<html><body>hello</body></html>" * 500)


def unauthorized(client):
    client.send(b"HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\r\n")


def noise(client):
    client.send(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
    client.send(np.random.default_rng(0).bytes(300_000))


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (html, "no video, but perhaps a web page"),
        (unauthorized, "401"),
        (noise, "no video"),
        (lambda client: client.stall(), "nothing came for 0.5 s"),
    ],
)
def test_what_never_was_a_stream_is_an_error(camera, script, message, once):
    address, _ = camera(script)
    with reading(address, timeout_s=(0.5, 0.5), once=once) as reader:
        with pytest.raises(InputError, match=f"gives no pictures: .*{message}"):
            reader.take(10)


def test_closing_does_not_wait_for_a_stall(camera):
    address, _ = camera(plays(range(40), lambda client: client.stall()))
    with reading(address, timeout_s=(30.0, 30.0)) as reader:
        reader.take(10)
        begin = time.monotonic()
    assert time.monotonic() - begin < 1.0
    assert reader.take() is None


def test_closing_wakes_the_consumer(camera):
    address, _ = camera(lambda client: client.stall())
    reader, taken = reading(address, timeout_s=(30.0, 30.0)), []
    consumer = threading.Thread(target=lambda: taken.append(reader.take()))
    consumer.start()
    reader.close(0)
    consumer.join(10)
    assert taken == [None]


def test_closing_ends_a_reader_that_waits(film):
    reader = reading(film, step_s=1 / FPS)
    reader.take()
    reader.close(10)
    assert not [thread for thread in threading.enumerate() if film in thread.name]


def test_a_program_ends_while_a_source_stalls(camera):
    address, _ = camera(plays(range(40), lambda client: client.stall()))
    code = (
        "from data_pipeline.reader import Reader\n"
        f"with Reader({address!r}, step_s={STEP_S}) as reader:\n"
        "    print(reader.take().index)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=15
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdecimal()
