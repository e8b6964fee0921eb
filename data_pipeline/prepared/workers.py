"""Runs the writers of a data set: in this process, in several, or by Apache Beam."""

import concurrent.futures
import functools
import itertools
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

from data_pipeline.prepared import shards
from data_pipeline.prepared.shards import Shard
from svtas_jax.errors import InputError
from svtas_jax.runtime.files import write_atomic

# Writes all shards, in any order; yields each when it is done.
Mapper = Callable[[Sequence[Shard]], Iterator[Shard]]


def in_processes(num_processes: int) -> Mapper:
    """Returns a mapper that writes shards in this process, or several in parallel."""

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
    """Returns a mapper that writes shards by Apache Beam, with these pipeline options.

    Its workers must see the videos and the output folder under the same paths.

    Raises:
        InputError: if Apache Beam is not installed.
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
            _ = spread | beam.Map(_write_or_save_error)

    return functools.partial(_in_background, write)


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
        except BaseException as error:  # the other files are not needed any more
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            if isinstance(error, concurrent.futures.process.BrokenProcessPool):
                raise InputError(
                    "a process that wrote a file was killed from outside, as the "
                    "system does when memory is short; use fewer --processes."
                ) from error
            raise


def _end_with_parent() -> None:
    """Leaves Ctrl-C to the parent, and exits when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        parent = multiprocessing.parent_process()
        assert parent is not None  # a pool calls this in its processes
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _in_background(
    write: Callable[[Sequence[Shard]], None], tasks: Sequence[Shard]
) -> Iterator[Shard]:
    """Calls `write`, which reports nothing until it ends, and polls for the files."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        future, waiting = thread.submit(write, tasks), list(tasks)
        while waiting:
            ended = bool(concurrent.futures.wait([future], timeout=1.0).done)
            if ended:
                _raise_failure(future, tasks)
            written = [os.path.exists(task.path) for task in waiting]
            yield from itertools.compress(waiting, written)
            waiting = [t for t, done in zip(waiting, written, strict=True) if not done]
            if ended and waiting:
                raise InputError(
                    f"Beam's workers are done, but {waiting[0].path} is missing: "
                    "they must see this folder under the same path."
                )
        future.result()


def _raise_failure(future: concurrent.futures.Future, tasks: Sequence[Shard]) -> None:
    error = future.exception()
    if error is None:
        return
    for file in map(_error_file, tasks):
        if file.is_file():
            raise InputError(file.read_text(encoding="utf-8")) from error
    raise error


def _write_or_save_error(task: Shard) -> None:
    """Also saves an error to a file: Beam would hide its text inside other errors."""
    try:
        shards.write_shard(task)
    except InputError as error:
        write_atomic(_error_file(task), str(error))
        raise


def _error_file(task: Shard) -> pathlib.Path:
    return pathlib.Path(f"{task.path}.error")
