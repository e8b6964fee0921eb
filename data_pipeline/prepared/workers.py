"""Who writes the files of a data set: this process, several, or Apache Beam."""

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
        parent = multiprocessing.parent_process()
        assert parent is not None  # a pool calls this in its processes
        parent.join()
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
            there = [os.path.exists(task.path) for task in waiting]
            yield from itertools.compress(waiting, there)
            waiting = [t for t, done in zip(waiting, there, strict=True) if not done]
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
