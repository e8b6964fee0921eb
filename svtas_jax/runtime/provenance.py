"""Where a result comes from: code, packages, machine."""

import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

import cv2
import jax

import svtas_jax

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "ml-collections",
    "clu",
    "numpy",
    "av",
)


def run_info() -> dict[str, Any]:
    """Returns the code, the packages and the machine of this process."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "versions": versions(),
        "device": _device(),
        "host": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu_name(),
            "num_cores": os.cpu_count(),
        },
    }


def versions() -> dict[str, str]:
    """Returns the versions of this package, of Python and of what both stand on."""
    found = {name: _version(name) for name in PACKAGES}
    return {
        "svtas_jax": svtas_jax.__version__,
        "python": platform.python_version(),
        **{name: version for name, version in found.items() if version},
        "opencv": cv2.__version__,
    }


def hardware() -> str:
    """Returns the name of the accelerator, or of the processor and its cores."""
    if jax.default_backend() == "cpu":
        return f"{_cpu_name()}, {os.cpu_count()} cores"
    return jax.devices()[0].device_kind


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
    }


def _cpu_name() -> str:
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    name = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return name[1] if name else platform.processor()


@functools.cache
def git_commit() -> str | None:
    """Returns the commit of the checkout that this program began to run from, "-dirty"
    if files differed from it; None if it is no checkout."""
    return _git_commit(pathlib.Path(svtas_jax.__file__).resolve().parents[1])


def _git_commit(root: pathlib.Path) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(root: pathlib.Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    )
    return result.stdout.strip()
