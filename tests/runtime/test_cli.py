"""A user's mistake: one message, the right exit code, no traceback."""

import os
import shutil
import subprocess
import sys

import pytest

import svtas_jax

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(svtas_jax.__file__)))


def run(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def test_a_reader_that_goes_away_gets_no_traceback():
    code = (
        "from svtas_jax.runtime import cli\n"
        "cli.run(lambda: [print(n, flush=True) for n in range(100000)], required=())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141 and said == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["svtas_jax.train", "--workdir={tmp}"], "--config is missing"),
        (
            ["svtas_jax.train", "--config=configs/gtea_sete.py", "--workdir={tmp}"],
            "demo_sete",
        ),
        (
            [
                "svtas_jax.train",
                "--config=configs/gtea_sete.py",
                "--config.data.splt=2",
                "--workdir={tmp}",
            ],
            "splt",
        ),
        (
            [
                "svtas_jax.train",
                "--config=configs/gtea_sete.py",
                "--config.data.split=two",
                "--workdir={tmp}",
            ],
            "split",
        ),
        (
            [
                "svtas_jax.train",
                "--config=configs/gtea_sete.py",
                "--config.data.clip_frames=130",
                "--workdir={tmp}",
            ],
            "not a multiple",
        ),
        (
            ["svtas_jax.train", "--config=configs/no_such.py", "--workdir={tmp}"],
            "no_such.py",
        ),
        (["svtas_jax.evaluate", "--workdir={tmp}"], "holds no checkpoints"),
        (
            ["svtas_jax.evaluate", "--workdir={tmp}", "--clip_frames=64,x"],
            "'x' is not a whole number",
        ),
        (
            [
                "svtas_jax.train",
                "--config=configs/gtea_sete.py",
                "--workdir={tmp}",
                "--clip_frames=64",  # a flag of other commands
            ],
            "Unknown command line flag 'clip_frames'",
        ),
        (["svtas_jax.stream", "--workdir={tmp}", "--source=x.mp4"], "no checkpoints"),
    ],
)
def test_mistake_gets_one_message(arguments, said, tmp_path):
    result = run(*[argument.format(tmp=tmp_path) for argument in arguments])
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert sum(line.startswith("error:") for line in result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import numpy as np
import orbax.checkpoint as ocp
from absl import flags
from svtas_jax.checkpoints import store
from svtas_jax.runtime import cli
from absl import flags

def main():
    with store.open_manager(flags.FLAGS.workdir) as manager:
        arrays = {"params": {str(i): np.random.rand(300_000) for i in range(8)}}
        manager.save(1, args=ocp.args.Composite(model=ocp.args.StandardSave(arrays)))
        manager.wait_until_finished()

cli.define("workdir")
cli.run(main)
"""


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="no small disk can be mounted here")
def test_a_full_disk_gets_one_message(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f'mount -t tmpfs -o size=2m tmpfs {disk} && exec "$@"'
    result = subprocess.run(
        [
            *("unshare", "-rm", "sh", "-c", command, "sh"),
            *(sys.executable, "-c", FULL_DISK, f"--workdir={disk}/run"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert result.returncode == 1
    assert f"error: no space left for {disk}/run" in result.stderr
    assert "Traceback" not in result.stderr
