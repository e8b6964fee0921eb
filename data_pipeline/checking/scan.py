"""Decodes videos to their ends, several side by side, each once."""

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from data_pipeline import video
from data_pipeline.checking.facts import Job, Scan, Tick
from data_pipeline.checking.film import scan_film
from data_pipeline.checking.watch import Watch, gray_of
from data_pipeline.decoding import NoFilmError
from data_pipeline.prepared import reader as prepared
from data_pipeline.video import VideoInfo
from svtas_jax.errors import InputError
from svtas_jax.structs import VideoRecord

Scanner = Callable[[Sequence[Job]], Iterable[tuple[Job, Scan]]]


def _no_tick(num_frames: int) -> None:
    """Tells nobody."""


def in_threads(num_threads: int, tick: Tick = _no_tick) -> Scanner:
    """Returns what scans videos side by side: PyAV decodes without Python's lock.

    Args:
        num_threads: videos at a time.
        tick: is called in any thread with the number of frames that were decoded.
    """

    def scan_all(jobs: Sequence[Job]) -> Iterator[tuple[Job, Scan]]:
        stopped = threading.Event()

        def tick_or_stop(num_frames: int) -> None:
            if stopped.is_set():
                raise _StoppedError
            tick(num_frames)

        with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            tasks = {pool.submit(scan, job, tick_or_stop): job for job in jobs}
            try:
                for task in concurrent.futures.as_completed(tasks):
                    yield tasks[task], task.result()
            finally:  # also where the user interrupts: nobody waits for long films
                stopped.set()
                pool.shutdown(cancel_futures=True)

    return scan_all


class _StoppedError(Exception):
    """Nobody wants the result any more."""


def scan(job: Job, tick: Tick = _no_tick) -> Scan:
    """Looks at every frame of a video; what is wrong with it is in the result."""
    if job.record is not None:
        return _scan_prepared(job, job.record, tick)
    try:
        decoder = video.open_film(job.path)
    except NoFilmError as error:
        return Scan(failure=("no_film", str(error)))
    except InputError as error:
        return Scan(failure=("unreadable_video", str(error)))
    with contextlib.closing(decoder):
        return scan_film(job, decoder, tick)


def _scan_prepared(job: Job, record: VideoRecord, tick: Tick) -> Scan:
    assert record.prepared is not None
    step = record.prepared.frame_stride or 1
    watch, info, failure = Watch(), None, None
    wanted = frozenset(job.thumbs)
    fps = record.fps or 25.0  # only for seconds of stretches
    reader = prepared.open_reader(record, record.prepared)
    try:
        for index in range(0, record.num_frames, step):
            picture = reader.frame(index)
            if info is None:
                height, width, _ = picture.shape
                info = VideoInfo(record.num_frames, record.fps, width, height)
            watch.add(gray_of(picture), index / fps)
            tick(step)
            if index in wanted:
                watch.keep(index, picture)
    except InputError as error:
        failure = ("damaged_video", str(error))
    finally:
        reader.close()
    return Scan(
        info=info,
        times=np.asarray(watch.times),
        failure=failure,
        step=step,
        num_repeats=watch.num_repeats,
        prints=watch.prints,
        thumbs=watch.thumbs,
        **watch.long_runs(fps / step),
    )
