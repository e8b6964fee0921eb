"""Scripts are run as a user runs them: a process, a command line, what it prints."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[2]
LIMIT_S = 300
TINY = {  # 4 steps of 32x32 pixels a chunk, one stage of MobileNet
    "data.clip_frames": 8,
    "data.frame_stride": 2,
    "data.resize": (32, 40),
    "data.crop": 32,
    "data.dataset": "tiny",
    "model.image_width": 0.125,
    "model.image_stages": 1,
    "model.features": 16,
    "model.num_layers": 2,
}


@pytest.fixture
def tiny_flags() -> list[str]:
    """The command line's way to a model that compiles in seconds."""
    return [f"--config.{name}={value}" for name, value in TINY.items()]


@pytest.fixture
def environment() -> dict[str, str]:
    """What a process needs to find the packages and what was compiled before."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {
        "PYTHONPATH": paths,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture
def run_command(environment) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python ...` in the repository; the exit code must be as expected."""

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
        return done

    return run
