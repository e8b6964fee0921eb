"""Compares the speed of reading a video file and its prepared encodings.

    python scripts/measure_reading.py --config=configs/gtea_sete.py [--video=FILE]
        [--rounds=5]

By default it renders a video of moving shapes. It prepares the video in every encoding
and reads each to the end as evaluation does, in turns, in one thread, and prints
medians.
"""

import pathlib
import statistics
import tempfile
import time

import ml_collections
from absl import flags

from data_pipeline import annotations, video
from data_pipeline.dataset import make_dataset
from data_pipeline.prepared import builder, workers
from data_pipeline.prepared import index as prepared_index
from svtas_jax.config_rules import validate_config
from svtas_jax.cost import benchmark
from svtas_jax.runtime import cli, provenance

ROUNDS = flags.DEFINE_integer("rounds", 5, "Of reading every encoding.", lower_bound=1)


def main() -> None:
    """Prints a table."""
    config = flags.FLAGS.config
    validate_config(config)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        given = flags.FLAGS.video or benchmark.render(folder / "rendered.mp4", config)
        roots = prepare_all(config.data, pathlib.Path(given), folder)
        paces = {kind: [] for kind in roots}
        for _ in range(ROUNDS.value):
            for kind, root in roots.items():
                paces[kind].append(pace(config.data, root))
        print(f"{provenance.hardware()}; {video.probe_video(given)}")
        for kind, root in roots.items():
            print(
                f"{kind:6} {size_mb(root):8.1f} MB, "
                f"{statistics.median(paces[kind]):6.0f} frames/s "
                f"({min(paces[kind]):.0f} to {max(paces[kind]):.0f})"
            )


def prepare_all(
    data_config: ml_collections.ConfigDict, given: pathlib.Path, folder: pathlib.Path
) -> dict[str, pathlib.Path]:
    """Prepares a data set of one video in every encoding; returns the folders."""
    roots = {"files": folder / "files"}
    for sub in ("Videos", "groundTruth", "splits"):
        (roots["files"] / sub).mkdir(parents=True)
    (roots["files"] / "Videos" / f"v{given.suffix}").symlink_to(given.absolute())
    (roots["files"] / "mapping.txt").write_text("0 any\n")
    labels = "any\n" * video.count_frames(given)
    (roots["files"] / "groundTruth" / "v.txt").write_text(labels)
    for subset in ("train", "test"):
        (roots["files"] / "splits" / f"{subset}.split1.bundle").write_text("v.txt\n")
    for name in prepared_index.ENCODINGS:
        builder.prepare(
            with_root(data_config, roots["files"]),
            folder / name,
            encoding=builder.make_encoding(data_config, name),
            mapper=workers.in_processes(1),
            versions=provenance.versions(),
        )
        roots[name] = folder / name
    return roots


def pace(data_config: ml_collections.ConfigDict, root: pathlib.Path) -> float:
    """Returns the reading speed in frames/s, skipped frames included."""
    data_config = with_root(data_config, root)
    records = annotations.read_split(data_config, "test")
    batches = make_dataset(
        records, data_config, batch_size=1, chunks_per_call=1, train=False
    )
    began = time.perf_counter()
    for _ in batches:
        pass
    return sum(r.num_frames for r in records) / (time.perf_counter() - began)


def with_root(
    data_config: ml_collections.ConfigDict, root: pathlib.Path
) -> ml_collections.ConfigDict:
    """Returns the config with another data folder."""
    data_config = data_config.copy_and_resolve_references()
    data_config.update(root=str(root), layout="flat", split=1)
    return data_config


def size_mb(root: pathlib.Path) -> float:
    """Returns the size of the videos or records in MB."""
    paths = [*root.glob("Videos/*"), *root.glob("*.array_record*")]
    return sum(path.stat().st_size for path in paths) / 1e6


if __name__ == "__main__":
    cli.define("config")
    flags.DEFINE_string("video", None, "Video to read instead of a rendered one.")
    cli.run(main, required=("config",))
