"""Converts a data set whose videos are slow to read to ArrayRecord files.

    python -m data_pipeline.tfds_builder --config=configs/gtea_sete.py
        --output=FOLDER [--encoding=jpeg|png|video] [--quality=95] [--processes=N]
        [--beam] [--beam_options=--runner=...,--...]

Then --config.data.root=FOLDER trains from the records alone, without the videos and
without TensorFlow. "jpeg" and "png" keep one frame in `config.data.frame_stride`,
resized to `config.data.resize`; "video" keeps the files unchanged.
"""

import os
from collections.abc import Iterator, Sequence

from absl import flags, logging

from data_pipeline.demo import render
from data_pipeline.prepared import builder, workers
from data_pipeline.prepared.index import ENCODINGS
from data_pipeline.prepared.shards import Shard
from svtas_jax.config_rules import validate_config
from svtas_jax.runtime import cli, provenance
from svtas_jax.runtime.progress import Progress


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    data = given.config.data
    validate_config(given.config)
    render.ensure_configured(data)
    if given.beam:
        mapper = workers.with_beam(given.beam_options)
    else:
        mapper = workers.in_processes(given.processes or os.cpu_count() or 1)
    builder.prepare(
        data,
        given.output,
        encoding=builder.make_encoding(data, given.encoding, given.quality),
        mapper=lambda tasks: follow(mapper, tasks),
        versions=provenance.versions(),
        commit=provenance.git_commit(),
    )


def follow(mapper: workers.Mapper, tasks: Sequence[Shard]) -> Iterator[Shard]:
    """Writes all shards and logs the progress."""
    total, done = sum(task.num_frames for task in tasks), 0
    progress = Progress(first=0, last=total)
    logging.info("%d frames go to %d files", total, len(tasks))
    for count, task in enumerate(mapper(tasks), 1):
        done += task.num_frames
        progress.add(task.num_frames)
        logging.info("%s", progress.line(done, f"file {count}/{len(tasks)}"))
        yield task


def define_flags() -> None:
    """Defines the flags of this command alone."""
    flags.DEFINE_string("output", None, "Folder to write; it must be new or empty.")
    flags.DEFINE_enum("encoding", "jpeg", ENCODINGS, "What the records hold.")
    flags.DEFINE_integer("quality", 95, "JPEG quality.", lower_bound=1, upper_bound=100)
    flags.DEFINE_integer("processes", 0, "0: one per core.", lower_bound=0)
    flags.DEFINE_bool("beam", False, "Write by Apache Beam, not by processes.")
    flags.DEFINE_list("beam_options", [], "Pipeline options, comma-separated.")


if __name__ == "__main__":
    cli.define("config")
    define_flags()
    cli.run(main, required=("config", "output"))
