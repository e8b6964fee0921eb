"""The window: a process of its own that ends by q, its cross, or with the stream."""

import io
import sys
import time

import cv2
import numpy as np
import pytest

from svtas_jax.errors import InputError
from svtas_jax.live import overlay_output, screen
from svtas_jax.live.overlay_output import OverlayWindow

PICTURE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def stand_in(monkeypatch, tmp_path, *lines):
    """Lets a script of these lines stand in for the window's process."""
    script = tmp_path / "script.py"
    script.write_text("\n".join(["import pathlib, sys, time", *lines]))
    monkeypatch.setattr(overlay_output, "_SCREEN", str(script))


OPENS = "sys.stdout.buffer.write(b'open\\n'); sys.stdout.flush()"


def test_pictures_reach_the_process_whole_and_in_bgr(monkeypatch, tmp_path):
    seen = tmp_path / "seen"
    stand_in(
        monkeypatch,
        tmp_path,
        OPENS,
        f"pathlib.Path({str(seen)!r}).write_bytes(sys.stdin.buffer.read())",
    )
    window = OverlayWindow("live")
    assert window.is_open
    for picture in (PICTURE, PICTURE[:1, ::2]):
        window.show(picture)
    window.close()
    assert not window.is_open
    first, second = screen.read_pictures(io.BytesIO(seen.read_bytes()))
    assert (first == PICTURE[..., ::-1]).all()
    assert (second == PICTURE[:1, ::2, ::-1]).all()


def test_a_window_that_the_user_closed_takes_pictures_and_shows_nothing(
    monkeypatch, tmp_path
):
    stand_in(monkeypatch, tmp_path, OPENS)
    window = OverlayWindow("live")
    window._process.wait(30)
    for _ in range(3):
        window.show(np.zeros((400, 400, 3), np.uint8))
        assert not window.is_open
    window.close()


def test_a_process_that_does_not_end_is_ended(monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, OPENS, "time.sleep(600)")
    monkeypatch.setattr(overlay_output, "_CLOSES_WITHIN_S", 0.1)
    window = OverlayWindow("live")
    window.close()
    assert not window.is_open


@pytest.mark.parametrize("line", ["sys.exit(1)", "time.sleep(600)"])
def test_a_window_that_does_not_open_is_one_message(monkeypatch, tmp_path, line):
    stand_in(monkeypatch, tmp_path, line)
    monkeypatch.setattr(overlay_output, "_OPENS_WITHIN_S", 0.5)
    with pytest.raises(InputError, match="--window needs a display"):
        OverlayWindow("live")


@pytest.mark.skipif(sys.platform != "linux", reason="others have a display always")
@pytest.mark.parametrize("display", ["", ":987"])
def test_without_a_display_nothing_aborts(monkeypatch, tmp_path, display):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="--window needs a display"):
        OverlayWindow("live")


def test_the_process_does_not_load_what_makes_windows_hang():
    source = screen.__file__
    with open(source, encoding="utf-8") as lines:
        imports = [line for line in lines if line.startswith(("import", "from"))]
    assert not [line for line in imports if "av" in line]


def sent(*pictures):
    return b"".join(
        screen.HEADER.pack(*picture.shape[:2]) + picture.tobytes()
        for picture in pictures
    )


def show(monkeypatch, stream, *, keys=(), visible=1.0):
    """Runs the window's process with stand-ins; returns the pictures shown."""
    shown, pressed = [], iter(keys)
    for name, call in {
        "namedWindow": lambda *_: None,
        "waitKey": lambda _: next(pressed, -1),
        "imshow": lambda _, picture: shown.append(picture),
        "getWindowProperty": lambda *_: visible,
    }.items():
        monkeypatch.setattr(cv2, name, call)
    out = io.BytesIO()
    screen.show("live", stream, out)
    assert out.getvalue() == screen.READY
    return shown


class _Steady(io.BytesIO):
    """The same picture every millisecond, until it is closed."""

    def read(self, size=-1):
        time.sleep(1e-3)
        if self.closed:
            return b""
        return sent(PICTURE)[:8] if size == 8 else PICTURE.tobytes()


def test_the_process_ends_with_the_pictures(monkeypatch):
    assert len(show(monkeypatch, io.BytesIO(sent(PICTURE)))) <= 1


@pytest.mark.parametrize("key", [ord("q"), ord("Q")])
def test_q_closes_the_window(monkeypatch, key):
    with _Steady() as pictures:
        shown = show(monkeypatch, pictures, keys=[-1] * 50 + [key])
    assert all((picture == PICTURE).all() for picture in shown)


def test_the_cross_closes_the_window(monkeypatch):
    with _Steady() as pictures:
        assert len(show(monkeypatch, pictures, visible=0.0)) == 1


def test_a_picture_that_is_cut_off_is_left_out():
    stream = io.BytesIO(sent(PICTURE, PICTURE)[:-1])
    assert len(list(screen.read_pictures(stream))) == 1
