"""Turns a data set into ArrayRecord files: for sets whose videos are slow to read.

    python -m data_pipeline.tfds_builder --config=configs/gtea_sete.py
        --output=FOLDER [--encoding=jpeg|png|video] [--quality=95] [--processes=N]
        [--beam] [--beam_options=--runner=...,--...]

Then --config.data.root=FOLDER trains from the records alone: neither the videos nor
TensorFlow are needed. "jpeg" and "png" keep the frames that `config.data.frame_stride`
shows, resized to `config.data.resize`; "video" keeps the files as they are.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import multiprocessing
import os
import pathlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections
import tensorflow_datasets as tfds
from absl import flags, logging

from data_pipeline import annotations, prepared, shards, synthetic
from data_pipeline.checks import check_records
from data_pipeline.shards import OPTION, Encoding, Shard
from svtas_jax import cli, provenance
from svtas_jax.config import validate_config
from svtas_jax.errors import InputError
from svtas_jax.files import make_folder, write_atomic, writing
from svtas_jax.progress import Progress
from svtas_jax.structs import VideoRecord

# Writes all shards, in any order; yields each when it is done.
Mapper = Callable[[Sequence[Shard]], Iterator[Shard]]


class SvtasVideos(tfds.core.ShardBasedBuilder):
    """Writes all videos of a data set in order, as one split of TFDS.

    The files come from `shards.write_shard`, not from TFDS's own loops: those of its
    generator-based builder need TensorFlow as soon as there is more than a gigabyte,
    and those of this base class hold a whole file in memory.

    Args:
        records: the videos, in order.
        encoding: of the records.
        mapper: writes the files; see `in_processes`, `with_beam`.
        **kwargs: of the base class.
    """

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # TFDS would look for lists of downloads beside this file

    def __init__(
        self,
        *,
        records: Sequence[VideoRecord],
        encoding: Encoding,
        mapper: Mapper,
        **kwargs: Any,
    ) -> None:
        self._records, self._encoding, self._mapper = records, encoding, mapper
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Videos for action segmentation; see {prepared.INDEX_FILE}.",
            features=shards.features_of(self._encoding),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager):
        raise NotImplementedError("_download_and_prepare writes the shards.")

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        names = self._get_filename_template(split_name=prepared.SPLIT)
        tasks = self._shards(names)
        _follow(self._mapper, tasks)
        split = tfds.core.SplitInfo(
            name=prepared.SPLIT,
            shard_lengths=[task.num_records for task in tasks],
            num_bytes=sum(os.path.getsize(task.path) for task in tasks),
            filename_template=names,
        )
        self.info.set_splits(tfds.core.SplitDict([split]))

    def _shards(self, names: tfds.core.ShardedFileTemplate) -> list[Shard]:
        parts = shards.cut_into_shards(self._records, self._encoding)
        return [
            Shard(
                videos,
                first,
                os.fspath(names.sharded_filepath(shard_index=i, num_shards=len(parts))),
                self._encoding,
            )
            for i, (first, videos) in enumerate(parts)
        ]


def prepare(
    data_config: ml_collections.ConfigDict,
    output: str | os.PathLike,
    *,
    encoding: Encoding,
    mapper: Mapper,
) -> None:
    """Writes a prepared folder, whole or not at all.

    Args:
        data_config: `config.data`, of videos in a layout of `annotations`.
        output: the folder; it is left alone if it holds the same already.
        encoding: of the records.
        mapper: writes the files.

    Raises:
        InputError: if a video or label is wrong, or the folder cannot be written.
    """
    output = pathlib.Path(output).absolute()
    _check_source(data_config)
    splits = annotations.all_split_names(data_config)
    names = {
        name for split in splits.values() for part in split.values() for name in part
    }
    records = annotations.read_videos(data_config, sorted(names))
    classes = annotations.class_names(data_config)
    index = prepared.Index(
        encoding=encoding.name,
        quality=encoding.quality,
        resize=encoding.resize,
        frame_stride=encoding.frame_stride,
        classes=classes,
        splits=splits,
        videos=shards.index_entries(records, encoding),
    )
    if _is_done(output, index):
        logging.info("%s is prepared already, with the same settings", output)
        return
    check_records(records, classes)
    with _new_folder(output) as folder:
        builder = SvtasVideos(
            records=records, encoding=encoding, mapper=mapper, data_dir=folder
        )
        # TFDS prints where it writes, which is not where the data will be.
        with contextlib.redirect_stdout(io.StringIO()), writing(output, option=OPTION):
            builder.download_and_prepare(download_dir=folder / "downloads")
        written = pathlib.Path(builder.data_dir)
        files = sorted(written.glob("*.array_record*"))
        sizes = {path.name: path.stat().st_size for path in files}
        versions = provenance.versions()
        index = dataclasses.replace(index, shards=sizes, versions=versions)
        prepared.write_index(written, index)
        with writing(output, option=OPTION):
            os.replace(written, output)
    logging.info(
        "prepared %d videos, %.1f MB: %s",
        *(len(records), sum(sizes.values()) / 1e6, output),
    )


def in_processes(num_processes: int) -> Mapper:
    """Writes shards in this process, or several at a time in others."""

    def run(tasks: Sequence[Shard]) -> Iterator[Shard]:
        num = min(num_processes, len(tasks))
        if num > 1:
            yield from _in_pool(tasks, num)
            return
        for task in tasks:
            shards.write_shard(task)
            yield task

    return run


def with_beam(options: Sequence[str]) -> Mapper:
    """Writes shards by Apache Beam, with these options of its pipelines.

    Its workers must see the videos and the output folder under the same paths.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            "--beam needs Apache Beam, which is not installed here: "
            "pip install 'svtas_jax[beam]'. Without it, --processes=N uses the cores "
            "of this machine."
        ) from error

    def write(tasks: Sequence[Shard]) -> None:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            spread = pipeline | beam.Create(tasks) | beam.Reshuffle()
            _ = spread | beam.Map(_write_or_leave_word)

    return functools.partial(_in_background, write)


def main() -> None:
    """Runs the command."""
    config, values = cli.CONFIG.value, flags.FLAGS
    validate_config(config)
    if config.data.dataset == "demo":
        synthetic.ensure_dataset(config.data.root)
    if values.beam:
        mapper = with_beam(values.beam_options)
    else:
        mapper = in_processes(values.processes or os.cpu_count())
    encoding = make_encoding(config.data, values.encoding, values.quality)
    prepare(config.data, values.output, encoding=encoding, mapper=mapper)


def make_encoding(
    data_config: ml_collections.ConfigDict, name: str, quality: int = 95
) -> Encoding:
    """Returns how `config.data` wants its pictures; a video file stays as it is."""
    if name == "video":
        return Encoding(name, quality=0, resize=(0, 0), frame_stride=0)
    return Encoding(
        name,
        quality=quality if name == "jpeg" else 0,
        resize=tuple(data_config.resize),
        frame_stride=data_config.frame_stride,
    )


def define_flags() -> None:
    """Gives the command its flags."""
    flags.DEFINE_string("output", None, "Folder to write; it must be new or empty.")
    flags.DEFINE_enum("encoding", "jpeg", prepared.ENCODINGS, "Of the records.")
    flags.DEFINE_integer("quality", 95, "Of JPEG.", lower_bound=1, upper_bound=100)
    flags.DEFINE_integer("processes", 0, "0: one a core.", lower_bound=0)
    flags.DEFINE_bool("beam", False, "Let Apache Beam write, instead of processes.")
    flags.DEFINE_list("beam_options", [], "Of its pipeline, with commas between them.")


def _check_source(data_config: ml_collections.ConfigDict) -> None:
    if prepared.is_prepared(data_config.root):
        raise InputError(
            f"config.data.root={data_config.root} is prepared already; name the folder "
            "that holds Videos/."
        )
    if data_config.features:
        raise InputError(
            f"config.data.features={data_config.features!r}: videos are prepared, "
            "not features; use --config.data.features="
        )


def _is_done(output: pathlib.Path, index: prepared.Index) -> bool:
    """Says whether the folder holds what is wanted; raises if it holds else."""
    if not prepared.is_prepared(output):
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(
                f"{output} holds other files; choose another {OPTION}, or empty it."
            )
        return False
    found = prepared.read_index(output)
    for field in dataclasses.fields(index):
        if field.name in ("shards", "versions"):
            continue
        if getattr(found, field.name) != getattr(index, field.name):
            raise InputError(
                f"{output} was prepared with other data or settings ({field.name} "
                f"differs); choose another {OPTION}, or delete it."
            )
    return True


@contextlib.contextmanager
def _new_folder(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder beside `output`, on the same disk, that is gone afterwards."""
    parent = make_folder(output.parent, option=OPTION)
    for leftover in sorted(parent.glob(f"{output.name}.preparing-*")):
        logging.warning(
            "%s was left by a preparation that was killed, unless it is still going "
            "on; delete it.",
            leftover,
        )
    with writing(output, option=OPTION):
        folder = tempfile.mkdtemp(prefix=f"{output.name}.preparing-", dir=parent)
    try:
        yield pathlib.Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(mapper: Mapper, tasks: Sequence[Shard]) -> None:
    """Writes all shards and logs how far they are."""
    total, done = sum(task.num_frames for task in tasks), 0
    progress = Progress(first=0, last=total)
    logging.info("%d frames go to %d files", total, len(tasks))
    for count, task in enumerate(mapper(tasks), 1):
        done += task.num_frames
        progress.add(task.num_frames)
        logging.info("%s", progress.line(done, f"file {count}/{len(tasks)}"))


def _in_pool(tasks: Sequence[Shard], num_processes: int) -> Iterator[Shard]:
    others = set(multiprocessing.active_children())
    with concurrent.futures.ProcessPoolExecutor(
        num_processes, multiprocessing.get_context("spawn"), _end_with_parent
    ) as pool:
        try:
            futures = {pool.submit(shards.write_shard, task): task for task in tasks}
            for future in concurrent.futures.as_completed(futures):
                future.result()
                yield futures[future]
        except BaseException as error:  # nobody waits for the other files any more
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            if isinstance(error, concurrent.futures.process.BrokenProcessPool):
                raise InputError(
                    "a process that wrote a file was ended from outside, as the "
                    "system does when memory is short; try fewer --processes."
                ) from error
            raise


def _end_with_parent() -> None:
    """Leaves Ctrl-C to the parent, and nothing running when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _in_background(
    write: Callable[[Sequence[Shard]], None], tasks: Sequence[Shard]
) -> Iterator[Shard]:
    """Calls `write`, which tells nothing before its end, and watches the files."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        future, waiting = thread.submit(write, tasks), list(tasks)
        while waiting:
            ended = bool(concurrent.futures.wait([future], timeout=1.0).done)
            if ended:
                _raise_failure(future, tasks)
            done = [task for task in waiting if os.path.exists(task.path)]
            waiting = [task for task in waiting if not os.path.exists(task.path)]
            yield from done
            if ended and waiting:
                raise InputError(
                    f"Beam's workers are done, but {waiting[0].path} is not there: "
                    "they must see this folder under the same path."
                )
        future.result()


def _raise_failure(future: concurrent.futures.Future, tasks: Sequence[Shard]) -> None:
    error = future.exception()
    if error is None:
        return
    for word in map(_word_of, tasks):
        if word.is_file():
            raise InputError(word.read_text(encoding="utf-8")) from error
    raise error


def _write_or_leave_word(task: Shard) -> None:
    """Beam reports errors as text inside others: ours would not be found there."""
    try:
        shards.write_shard(task)
    except InputError as error:
        write_atomic(_word_of(task), str(error))
        raise


def _word_of(task: Shard) -> pathlib.Path:
    return pathlib.Path(f"{task.path}.error")


if __name__ == "__main__":
    define_flags()
    cli.run(main, required=("config", "output"))
