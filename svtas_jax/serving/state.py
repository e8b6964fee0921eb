"""All that a server holds, and the tasks that run beside its requests."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from data_pipeline.reader import GAP_RESET_S
from data_pipeline.sources import TIMEOUT_S
from svtas_jax.live.run import Run
from svtas_jax.live.session import LiveSession
from svtas_jax.pages.colours import css_colours
from svtas_jax.serving.cameras import Camera, Cameras
from svtas_jax.serving.history import History
from svtas_jax.serving.hub import Hub
from svtas_jax.serving.jobs import Jobs
from svtas_jax.serving.pictures import Pictures
from svtas_jax.serving.seats import NUM_SEATS, Seats
from svtas_jax.smoothing import OFF, Smoothing

_COUNT_S = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """What the routes use.

    Attributes:
        run: the trained run.
        cameras, hub, jobs, seats: see their classes.
        most_bytes: of an uploaded video.
        pool: threads that encode pictures.
        began_s: when the server began, in seconds of the monotonic clock.
    """

    run: Run
    cameras: Cameras
    hub: Hub
    jobs: Jobs
    seats: Seats
    most_bytes: int
    pool: concurrent.futures.ThreadPoolExecutor
    began_s: float = dataclasses.field(default_factory=time.monotonic)

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """The model, and what the page needs to know of the server."""
        names = self.run.class_names
        colours = css_colours(names, tuple(self.run.config.eval.background))
        return {
            "model": {
                "system": self.run.config.model.system,
                "causal": self.run.causal,
                "step": self.run.step,
                "engine": self.run.engine,
                "step_s": round(self.seats.session.step_s, 4),
                "steps_per_answer": self.seats.session.steps_per_answer,
                "smoothing": self.seats.session.smoothing.rules,
            },
            "classes": [
                {"name": name, "colour": colour}
                for name, colour in zip(names, colours, strict=True)
            ],
            "max_upload_bytes": self.most_bytes,
        }

    def stop_streams(self) -> None:
        """Ends what clients listen to and look at."""
        self.hub.close()
        for camera in self.cameras.all:
            camera.pictures.close()

    @contextlib.asynccontextmanager
    async def running(self, _app: object) -> AsyncIterator[None]:
        """Runs the server's threads and tasks."""
        self.cameras.start()
        self.jobs.start()
        tasks = [
            asyncio.create_task(self.hub.run()),
            asyncio.create_task(self._count()),
        ]
        try:
            yield
        finally:
            self.stop_streams()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(
                asyncio.to_thread(self.cameras.close),
                asyncio.to_thread(self.jobs.close),
            )
            self.pool.shutdown(wait=False, cancel_futures=True)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_S)
            self.cameras.count()


def open_state(
    run: Run,
    sources: Sequence[str] = (),
    *,
    once: bool = False,
    gap_reset_s: float = GAP_RESET_S,
    max_upload_mb: float = 500.0,
    smoothing: Smoothing = OFF,
    timeout_s: tuple[float, float] = TIMEOUT_S,
) -> State:
    """Compiles the model for a server's sources, uploads and browsers.

    Args:
        run: the trained run.
        sources: see `svtas_jax.Run.stream`.
        once: a live source that breaks off is not opened again.
        gap_reset_s: a new stream begins after so many seconds without a frame.
        max_upload_mb: size of an uploaded video in megabytes.
        smoothing: of the labels of sources, uploads and browsers.
        timeout_s: see `data_pipeline.reader.Reader`.

    Raises:
        InputError: as `Run.open_stream`.
    """
    hub, pool = Hub(), concurrent.futures.ThreadPoolExecutor(2, "pictures")

    def opened(count: int) -> LiveSession:
        return run.open_stream(
            num_sources=count, gap_reset_s=gap_reset_s, smoothing=smoothing
        )

    seats = Seats(opened(NUM_SEATS))
    session = opened(len(sources)) if sources else None
    step_s = seats.session.step_s
    cameras = [
        Camera(number, source, History(step_s), Pictures(pool))
        for number, source in enumerate(sources)
    ]
    return State(
        run=run,
        cameras=Cameras(session, cameras, hub, once=once, timeout_s=timeout_s),
        hub=hub,
        jobs=Jobs(run, pathlib.Path(run.workdir), smoothing),
        seats=seats,
        most_bytes=round(max_upload_mb * 1e6),
        pool=pool,
    )
