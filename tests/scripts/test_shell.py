"""The shell scripts: the environment that they make, and what they run in it."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LIMIT_S = 900


def program(path, text):
    """Writes a shell script; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)
    return path


def bash(*arguments, cwd=ROOT, code=0, **variables):
    """Runs bash with these variables; the exit code must be as expected."""
    done = subprocess.run(
        ["bash", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {name: str(value) for name, value in variables.items()},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


INSTALL = "source scripts/environment.sh; install_package test"


def test_the_environment_is_made_once(tmp_path):
    """With a Python that only writes down what it is asked for."""
    log, venv = tmp_path / "log", tmp_path / "venv"
    program(venv / "bin" / "python", f'echo "$@" >> {log}')
    said = [bash("-c", INSTALL, VENV=venv).stdout for _ in range(2)]
    assert "Installing svtas_jax[test] into" in said[0] and not said[1]
    (line,) = log.read_text().splitlines()
    assert "-m pip install" in line and line.endswith(f"--editable {ROOT}[test]")
    required = [(ROOT / name).read_text() for name in ("setup.cfg", "pyproject.toml")]
    assert (venv / "installed-test.txt").read_text() == "".join(required)
    (venv / "installed-test.txt").write_text("of yesterday")
    bash("-c", INSTALL, VENV=venv)
    assert len(log.read_text().splitlines()) == 2


def test_a_failed_installation_is_tried_again(tmp_path):
    venv = tmp_path / "venv"
    program(venv / "bin" / "python", "exit 3")
    for _ in range(2):
        bash("-c", f"set -e; {INSTALL}", VENV=venv, code=3)


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (None, "is not installed; install Python 3.11 or 3.12, or name"),
        ("[ $1 = --version ] && echo Python 3.9.1", "is Python 3.9.1, and svtas_jax"),
        ("[ $1 = -c ] || exit 1", "could not make a virtual environment"),
    ],
)
def test_a_python_that_does_not_do_is_named(tmp_path, python, message):
    path = tmp_path / "python"
    if python:
        program(path, python)
    done = bash("-c", INSTALL, VENV=tmp_path / "venv", PYTHON=path, code=1)
    assert message in done.stderr and done.stderr.startswith("error: ")
    assert not (tmp_path / "venv").exists()


def test_an_older_python_beside_a_new_one_is_taken(tmp_path):
    program(tmp_path / "python3", "exit 1")  # too new
    program(tmp_path / "python3.12", "exit 1")
    program(tmp_path / "python3.11", "exit 0")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = bash("-c", "source scripts/environment.sh; first_that_does", PATH=path)
    assert done.stdout.split() == ["python3.11"]


def test_what_is_run_on_a_gpu_is_there(tmp_path):
    """With a Python that only writes down what it is asked for."""
    log = tmp_path / "log"
    python = program(tmp_path / "python", f'echo "$@" >> {log}')
    bash("scripts/benchmark_gpu.sh", tmp_path / "out", PYTHON=python)
    commands = [line.split() for line in log.read_text().splitlines()]
    assert len(commands) == 12
    for command in commands:
        modules = [command[i + 1] for i, part in enumerate(command) if part == "-m"]
        assert all(importlib.util.find_spec(name) for name in modules)
        flags = [part for part in command if part.startswith("--config=")]
        files = [part.removeprefix("--config=") for part in flags]
        files += [part for part in command if part.endswith(".py") and "=" not in part]
        assert all((ROOT / name).is_file() for name in files)


@pytest.fixture
def clone(tmp_path):
    """A copy of the repository, and an environment whose packages are there."""
    root, venv = tmp_path / "clone", tmp_path / "venv"
    folders = ("configs", "data_pipeline", "scripts", "svtas_jax", "tests")
    for name in folders:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    required = [(ROOT / name).read_text() for name in ("setup.cfg", "pyproject.toml")]
    for name, text in zip(("setup.cfg", "pyproject.toml"), required, strict=True):
        (root / name).write_text(text)
    program(venv / "bin" / "python", f'exec {sys.executable} "$@"')
    for name in ("ruff", "pyrefly"):
        program(venv / "bin" / name, f'exec {sys.executable} -m {name} "$@"')
    for stamp in ("installed-serve.txt", "installed-test.txt"):
        (venv / stamp).write_text("".join(required))
    return root, {"VENV": venv, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}


@pytest.mark.slow
def test_the_quick_start_ends_with_what_it_made(clone, tiny_flags):
    root, variables = clone
    smaller = [flag for flag in tiny_flags if "dataset" not in flag]
    smaller += ["--config.data.clip_frames=96", "--config.data.frame_stride=24"]
    smaller += ["--config.train.num_epochs=1", "--config.model.text_layers=1"]
    done = bash("scripts/quickstart.sh", *smaller, cwd=root, **variables)
    for part in ("1/3 Training", "2/3 Evaluating", "3/3 Streaming", "== Done"):
        assert part in done.stdout
    assert '"chunk": 0' in done.stdout
    assert "svtas_jax.serve" in done.stdout and "http://127.0.0.1:8000" in done.stdout
    folder = root / "runs" / "demo_transeger"
    assert (folder / "evaluation" / "report.md").is_file()
    assert len(list((folder / "evaluation" / "pictures").iterdir())) == 14


@pytest.mark.slow
def test_the_gate_runs_ruff_the_type_checker_and_the_tests(clone):
    root, variables = clone
    some = "tests/test_stitching.py"
    done = bash("scripts/test.sh", some, cwd=root, **variables)
    assert "All checks passed!" in done.stdout and " passed in " in done.stdout
    wrong = root / "svtas_jax" / "wrong.py"
    wrong.write_text('NUMBER: int = "one"\n')
    done = bash("scripts/test.sh", some, cwd=root, code=1, **variables)
    assert "bad-assignment" in done.stdout and " passed in " not in done.stdout
    wrong.write_text("import os\n")
    done = bash("scripts/test.sh", some, cwd=root, code=1, **variables)
    assert "F401" in done.stdout and " passed in " not in done.stdout
