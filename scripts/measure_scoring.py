"""Times `evaluate --predictions` on files as large as Breakfast's.

    python scripts/measure_scoring.py --folder=/tmp/breakfast [--metrics=svtas]

It writes 1,712 videos' labels (3.6 million frames, 48 classes) and two kinds of
predictions into the folder, unless they are there, and scores each by the command:
"smooth" ones have 4 times as many segments as the truth, "rough" ones 39 times.
"""

import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
from absl import flags

from data_pipeline.known import class_names_of
from svtas_jax.config import default_config
from svtas_jax.evaluation import presets
from svtas_jax.runtime import cli, provenance

NUM_VIDEOS, MEAN_FRAMES, MEAN_SEGMENTS = 1712, 2103, 6.9  # Breakfast's
KINDS = {"smooth": 50, "rough": 4}  # frames in a stretch, of which a quarter is wrong

CONFIG = """
from svtas_jax import default_config

def get_config():
    config = default_config()
    config.data.dataset, config.data.root = "breakfast", {root!r}
    config.eval.background = ()
    return config
"""


def main() -> None:
    """Prints seconds."""
    folder = pathlib.Path(flags.FLAGS.folder)
    if not (folder / "config.py").exists():
        write_data(folder)
    print(provenance.hardware())
    for kind in KINDS:
        wall_s, cpu_s = time_command(folder, kind, flags.FLAGS.metrics)
        print(f"{kind:6} {wall_s:5.1f} s, {cpu_s:5.1f} s of one core")


def write_data(folder: pathlib.Path) -> None:
    """Writes labels, predictions and a config."""
    config = default_config()
    config.data.update(dataset="breakfast", root=str(folder / "none"))
    names = np.array(class_names_of(config.data))
    rng = np.random.default_rng(0)
    for name in ("groundTruth", "splits", *KINDS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sizes = rng.gamma(1.3, MEAN_FRAMES / 1.3, NUM_VIDEOS).astype(int) + 100
    for index, size in enumerate(sizes):
        truth = labels(rng, size, max(2, rng.poisson(MEAN_SEGMENTS)), len(names))
        write(folder / "groundTruth", index, names[truth])
        for kind, length in KINDS.items():
            found = with_mistakes(rng, truth, length, len(names))
            write(folder / kind, index, names[found])
    mapping = "".join(f"{k} {name}\n" for k, name in enumerate(names))
    (folder / "mapping.txt").write_text(mapping)
    split = "".join(f"video{index:04d}.txt\n" for index in range(NUM_VIDEOS))
    (folder / "splits" / "test.split1.bundle").write_text(split)
    (folder / "config.py").write_text(CONFIG.format(root=str(folder)))


def labels(
    rng: np.random.Generator, size: int, num_segments: int, num_classes: int
) -> np.ndarray:
    """Returns segments of random classes and lengths."""
    borders = np.sort(rng.choice(np.arange(1, size), num_segments - 1, replace=False))
    classes = rng.integers(0, num_classes, num_segments)
    return np.repeat(classes, np.diff([0, *borders, size]))


def with_mistakes(
    rng: np.random.Generator, truth: np.ndarray, length: int, num_classes: int
) -> np.ndarray:
    """Returns the truth with a quarter of its stretches of some length wrong."""
    count = len(truth) // length + 1
    wrong = np.repeat(rng.random(count) < 0.25, length)[: len(truth)]
    other = np.repeat(rng.integers(0, num_classes, count), length)[: len(truth)]
    return np.where(wrong, other, truth)


def write(folder: pathlib.Path, index: int, names: np.ndarray) -> None:
    """Writes one name a line."""
    (folder / f"video{index:04d}.txt").write_text("\n".join(names) + "\n")


def time_command(folder: pathlib.Path, kind: str, metrics: str) -> tuple[float, float]:
    """Returns the seconds that the command takes, and those of processor time."""
    command = [
        *(sys.executable, "-m", "svtas_jax.evaluate"),
        *(f"--predictions={folder / kind}", f"--config={folder / 'config.py'}"),
        f"--metrics={metrics}",
    ]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=os.environ, stderr=subprocess.DEVNULL)
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, cpu_s


if __name__ == "__main__":
    flags.DEFINE_string("folder", None, "For labels, predictions and reports.")
    flags.DEFINE_string("metrics", presets.DEFAULT, "As of `evaluate`.")
    cli.run(main, required=("folder",))
