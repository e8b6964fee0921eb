"""The command: what it writes, and with which code it exits."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import logging

from data_pipeline import check, video
from svtas_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[3]


def run(data, output, **more):
    return check.check(data.config, check.followed(2), output=output, **more)


def test_a_good_set_is_written_down(good, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run(good, tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    assert facts["counts"] == {"error": 0, "warning": 0, "note": 0}
    assert {video["frames"] for video in facts["videos"]} == {45}
    assert {name["segments"] for name in facts["classes"]} == {7, 8}
    assert facts["splits"]["1"]["test"] == ["S3_a", "S3_b"]
    text = (tmp_path / "out" / "check.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 2 * 6 * 4
    assert "step 270/270 (100%) 6 of 6 videos decoded | " in caplog.text
    assert "6 videos, 270 frames at 15 fps, 30 segments" in caplog.text


def test_the_background_is_a_class(good, tmp_path):
    good.config.eval.background = ("backgroud",)
    found = run(good, tmp_path).findings
    ignored = run(good, tmp_path, ignore=["unknown_background"]).findings
    good.config.eval.background = ("background", "None")
    assert [f.kind for f in found] == ["unknown_background"] and not ignored
    assert "did you mean 'background'" in found[0].what


def test_the_frames_need_not_be_counted_again(good, tmp_path, monkeypatch):
    path = good.video("S1_a")
    expected = video.frame_times(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert not video.is_counted(path)
    run(good, tmp_path)
    assert video.is_counted(path)
    np.testing.assert_array_equal(video.frame_times(path), expected)


def test_a_name_may_be_any_bytes(damaged, tmp_path, shoot):
    name = os.fsdecode(b"caf\xe9.mp4")
    shoot(damaged.root / "Videos" / "c.mp4").rename(damaged.root / "Videos" / name)
    (damaged.root / "Videos" / "._S1_a.mp4").write_bytes(b"hidden")
    (found,) = run(damaged, tmp_path / "out").findings
    assert found.kind == "unlabelled_video"
    text = (tmp_path / "out" / "check.html").read_text(encoding="utf-8")
    assert "caf\\udce9.mp4" in text


def test_kinds_can_be_left_out(damaged, tmp_path):
    (damaged.root / "groundTruth" / "S1_a.txt").unlink()
    assert {f.kind for f in run(damaged, tmp_path).findings} >= {"no_labels"}
    kinds = ["no_labels", "unlabelled_video", "rare_class"]
    assert not run(damaged, tmp_path, ignore=kinds).findings
    check.check_kinds(kinds)
    with pytest.raises(InputError, match="--ignore=nothing: there is no such kind"):
        check.check_kinds(["nothing"])


@pytest.mark.slow
def test_exit_codes(damaged, tmp_path):
    """0 for notes, 1 for errors, with --strict for warnings, and 2 for the usage."""
    config = tmp_path / "tiny.py"
    config.write_text(
        "from svtas_jax import default_config\n"
        "def get_config():\n"
        "    config = default_config()\n"
        f"    config.data.update({damaged.data.to_dict()!r})\n"
        "    return config\n",
        encoding="utf-8",
    )
    lines = damaged.lines("groundTruth/S1_a.txt")
    damaged.write("groundTruth/S1_a.txt", ["stir", *lines[1:]])

    def code_of(*more):
        command = (sys.executable, "-m", "data_pipeline.check", f"--config={config}")
        command = (*command, f"--output={tmp_path / 'out'}", *more)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    code, said = code_of()
    assert code == 0 and "0 errors, 1 warning, 0 notes." in said
    assert "groundTruth/S1_a.txt, line 1  'stir' has one frame" in said
    assert code_of("--strict")[0] == 1
    damaged.write("groundTruth/S1_a.txt", ["sitr", *lines[1:]])
    code, said = code_of()
    assert code == 1 and "is it 'stir'?" in said
    assert code_of("--config.data.root=/nowhere")[0] == 2
    assert code_of("--ignore=nothing")[0] == 2
