"""Makes CLU's metric writers write TensorBoard files without TensorFlow.

`clu.metric_writers` imports TensorFlow in one module, which writes event files. This
module replaces that one by a writer that uses the tensorboard package; the rest of CLU
works unchanged. Import `clu.metric_writers` and `clu.periodic_actions` only after
`import_metric_writers()` has run.
"""

import importlib
import os
import pathlib
import re
import socket
import sys
import time
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from absl import logging
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from svtas_jax.runtime.files import writing

if TYPE_CHECKING:
    from clu.metric_writers import MetricWriter

_FLUSH_S = 10  # TensorBoard shows a running training with this delay


def make_writer(
    workdir: str | os.PathLike, *, first_step: int = 0, just_logging: bool = False
) -> "MetricWriter":
    """Returns a writer to the log and to event files.

    Args:
        workdir: folder of the event files; TensorBoard's --logdir.
        first_step: first step that will be written. TensorBoard hides what an
            interrupted run wrote from this step on, so a resumed curve does not overlap
            itself.
        just_logging: write no event files; for all processes but the first.

    Raises:
        InputError: if the folder cannot be written to.
    """
    clu_writers = import_metric_writers()
    writers = [clu_writers.LoggingWriter()]
    if not just_logging:
        writers.append(EventWriter(os.fspath(workdir), first_step=first_step))
    return clu_writers.MultiWriter(writers)


def import_metric_writers() -> types.ModuleType:
    """Imports `clu.metric_writers`, with `EventWriter` in place of its own writer."""
    name = "clu.metric_writers.summary_writer"
    if "clu.metric_writers" not in sys.modules and name not in sys.modules:
        stand_in: Any = types.ModuleType(name, "Writes event files without TensorFlow.")
        stand_in.SummaryWriter = EventWriter
        sys.modules[name] = stand_in
    module = importlib.import_module("clu.metric_writers")
    module.MetricWriter.register(EventWriter)
    return module


class EventWriter:
    """Writes scalars, images, texts, histograms and hyperparameters to event files.

    It is a `clu.metric_writers.MetricWriter`.
    """

    def __init__(self, logdir: str, *, first_step: int = 0):
        folder = pathlib.Path(logdir)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            path, others = _next_file(folder)
            self._file = RecordWriter(path.open("wb"))
        self._flushed = time.monotonic()
        self._add(0, file_version="brain.Event:2")
        if others:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(first_step, session_log=start)
        self.flush()

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes numbers, or arrays of one element."""
        for name, value in scalars.items():
            number = np.asarray(value, np.float64).item()
            self._add_value(step, tag=name, simple_value=number)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Writes images (H, W, C) or (N, H, W, C), uint8 or float in 0..1, RGB."""
        for name, array in images.items():
            array = np.asarray(array)
            batch = array if array.ndim == 4 else array[None]
            for index, image in enumerate(batch):
                tag = name if len(batch) == 1 else f"{name}/{index}"
                self._add_value(step, tag=tag, image=_encode_image(image))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown texts."""
        for name, text in texts.items():
            tensor = tensor_pb2.TensorProto(
                dtype=types_pb2.DT_STRING, string_val=[text.encode()]
            )
            metadata = text_metadata.create_summary_metadata(name, "")
            self._add_value(step, tag=name, tensor=tensor, metadata=metadata)

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, Any],
        num_buckets: Mapping[str, int | None] | None = None,
    ) -> None:
        """Writes the distributions of arrays."""
        for name, array in arrays.items():
            histogram = _histogram(array, (num_buckets or {}).get(name) or 30)
            self._add_value(step, tag=name, histo=histogram)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes a flat mapping; values that are no number, bool or string as text."""
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in hparams.items()
        }
        self._add(0, summary=hparams_summary.hparams_pb(plain))

    def write_summaries(
        self, step: int, values: Mapping[str, Any], metadata: Any = None
    ) -> None:
        """Only warns: raw summaries need TensorFlow."""
        self._refuse("summaries", values)

    def write_videos(self, step: int, videos: Mapping[str, Any]) -> None:
        """Only warns: event files hold no videos."""
        self._refuse("videos", videos)

    def write_audios(
        self, step: int, audios: Mapping[str, Any], *, sample_rate: int
    ) -> None:
        """Only warns: this writer supports no sound."""
        self._refuse("audios", audios)

    def flush(self) -> None:
        """Hands all events to the operating system."""
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()

    def _add(self, step: int, **fields: Any) -> None:
        event = event_pb2.Event(wall_time=time.time(), step=int(step), **fields)
        self._file.write(event.SerializeToString())
        if time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def _add_value(self, step: int, **fields: Any) -> None:
        value = summary_pb2.Summary.Value(**fields)
        self._add(step, summary=summary_pb2.Summary(value=[value]))

    def _refuse(self, kind: str, values: Mapping[str, Any]) -> None:
        logging.log_first_n(
            logging.WARNING, "Event files hold no %s: %s.", 1, kind, sorted(values)
        )


def _next_file(folder: pathlib.Path) -> tuple[pathlib.Path, bool]:
    """Returns the path of a new event file, and whether there are others.

    TensorBoard reads files in the order of the times in their names, so the new one
    must have the latest time, even if the clock was set back.
    """
    found = [
        re.match(r"events\.out\.tfevents\.(\d+)", p.name) for p in folder.iterdir()
    ]
    times = [int(match[1]) for match in found if match]
    now = max([int(time.time()), *(known + 1 for known in times)])
    name = f"events.out.tfevents.{now:010d}.{socket.gethostname()}.{os.getpid()}"
    return folder / name, bool(times)


def _encode_image(image: np.ndarray) -> summary_pb2.Summary.Image:
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    height, width, channels = image.shape
    _, png = cv2.imencode(".png", image[..., ::-1])  # OpenCV's order is BGR
    return summary_pb2.Summary.Image(
        height=height,
        width=width,
        colorspace=channels,
        encoded_image_string=png.tobytes(),
    )


def _histogram(array: Any, num_buckets: int) -> summary_pb2.HistogramProto:
    values = np.asarray(array, np.float64).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return summary_pb2.HistogramProto()
    counts, edges = np.histogram(values, bins=num_buckets)
    return summary_pb2.HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )
