"""Copies are found whatever their encoding, and other films are not copies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.checking import facts, fingerprints, scan
from data_pipeline.checking.fingerprints import matches


def print_of(path):
    found = scan.scan(facts.Job("a", str(path)))
    assert found.failure is None
    return found.prints


@pytest.fixture(scope="module")
def original(shoot, tmp_path_factory):
    return print_of(shoot(tmp_path_factory.mktemp("a") / "a.mp4", seed=3))


@pytest.mark.parametrize(
    "more",
    [
        dict(options={"crf": "40"}),
        dict(size=(120, 160)),
        dict(size=(30, 60)),
        dict(codec="mpeg4", options={"b": "100000"}),
        dict(codec="mjpeg", pix_fmt="yuvj420p", options={}),
        dict(rate=30, numbers=[n // 2 for n in range(90)]),
        dict(numbers=range(9, 45)),
    ],
    ids=["strongly", "larger", "squeezed", "MPEG-4", "MJPEG", "faster", "shorter"],
)
def test_a_copy_is_found(original, shoot, tmp_path, more):
    copy = print_of(shoot(tmp_path / "a.mkv", seed=3, **more))
    (match,) = matches({"a": original, "b": copy})
    assert set(match.names) == {"a", "b"} and match.likeness >= fingerprints.SAME


def test_a_turned_copy_is_found(original, shoot, clouds, tmp_path):
    """The file holds the pictures on their side, and says so."""

    def aside(number, height, width):
        return np.rot90(clouds(3, number, width, height), -1)

    path = shoot(tmp_path / "a.mp4", size=(64, 48), turn=(90, 0, 0), draw=aside)
    assert matches({"a": original, "b": print_of(path)})


def test_other_films_are_not_copies(original, shoot, tmp_path):
    others = {str(n): print_of(shoot(tmp_path / f"{n}.mp4", seed=n)) for n in (4, 5)}
    assert not matches({"a": original, **others})


def films(seed, count, *, length=30):
    """Fingerprints of things that move in front of one bright room."""
    rng = np.random.default_rng(seed)
    room = rng.integers(0, 200, (8, 8))
    steps = rng.normal(0, 12, (count, length, 8, 8))
    moving = np.cumsum(steps, axis=1) * 0.3 + steps
    return np.clip(room + moving, 0, 255).astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    first=st.integers(0, 12),
    light=st.integers(-20, 20),
    noise=st.floats(0, 2),
)
def test_what_is_cut_lighter_and_noisy_is_a_copy(seed, first, light, noise):
    film, other = films(seed, 2)
    rng = np.random.default_rng(seed + 1)
    copy = film[first:].astype(int) + light
    copy = copy + rng.normal(0, noise, copy.shape)
    copy = np.clip(copy.round(), 0, 255).astype(np.uint8)
    found = matches({"a": film, "b": copy, "c": other})
    assert [set(match.names) for match in found] == [{"a", "b"}]
    (match,) = found
    assert abs(match.delay_s) == pytest.approx(first * fingerprints.STEP_S)


def test_what_cannot_be_compared_is_left_out():
    film = films(0, 1)[0]
    still = np.repeat(film[:1], 30, axis=0)
    assert not matches({"a": still, "b": still.copy()})
    assert not matches({"a": film[:5], "b": film[:5]})
    assert not matches({}) and not matches({"a": film})


def test_long_films_are_thinned(monkeypatch):
    monkeypatch.setattr(fingerprints, "_TYPICAL", 64)
    monkeypatch.setattr(fingerprints, "_MOST", 128)
    one, other = films(1, 2, length=400)
    found = matches({"a": one, "b": other, "c": one[::-1].copy(), "d": one[41:370]})
    assert [set(match.names) for match in found] == [{"a", "d"}]
    assert abs(found[0].delay_s) == pytest.approx(41 * fingerprints.STEP_S)
