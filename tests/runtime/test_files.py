import os
import stat

import pytest

from svtas_jax.errors import InputError
from svtas_jax.runtime import files


def test_write_atomic_makes_folders_and_replaces(tmp_path):
    path = files.write_atomic(tmp_path / "a" / "b.txt", "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["b.txt"]


def test_write_atomic_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = files.write_atomic(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_write_atomic_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = files.write_atomic(tmp_path / "a.txt", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"a\.txt cannot be written: No space left"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_write_durable_waits_for_the_disk_before_it_replaces(tmp_path, monkeypatch):
    path = files.write_atomic(tmp_path / "a" / "b.txt", "old")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.read_text()))
    files.write_durable(path, "größer")
    assert seen == ["old", "größer"]  # the file, then the folder
    assert os.listdir(path.parent) == ["b.txt"]


def test_write_atomic_names_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken.*cannot be written.*--workdir"):
        files.write_atomic(tmp_path / "taken" / "a.txt", "x")


def test_write_atomic_names_the_flag_that_sets_the_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="another --output"):
        files.write_atomic(tmp_path / "taken" / "a.txt", "x", option="--output")


def test_a_folder_is_made_or_the_reason_said(tmp_path):
    folder = tmp_path / "new" / "run"
    assert files.make_folder(folder) == folder and not list(folder.iterdir())
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        files.make_folder(tmp_path / "file" / "run")
