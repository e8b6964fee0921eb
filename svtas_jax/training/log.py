"""The training log: lines, TensorBoard curves, and the time spent waiting for input."""

import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from data_pipeline.dataset import StreamBatch
from svtas_jax.errors import InputError
from svtas_jax.evaluation.metrics import format_metrics
from svtas_jax.runtime import hosts, tensorboard
from svtas_jax.runtime.progress import Progress
from svtas_jax.training.validation import Selection


class TrainLog:
    """Averages metrics between log lines; fetches them from the device only then."""

    def __init__(
        self,
        workdir: str,
        config: ml_collections.ConfigDict,
        *,
        first: int,
        last: int,
        state: Mapping[str, Any] = types.MappingProxyType({}),
        shown: Callable[[int, int | None], str] = lambda step, chunk: "",
    ) -> None:
        """Opens the log.

        Args:
            workdir: folder of the run.
            config: of the run.
            first: steps done before, by a run that is resumed.
            last: steps of the whole run.
            state: what `get_state` returned before the run was stopped.
            shown: names the videos of a chunk, or of all chunks (None), in a step.
        """
        pending = state.get("pending", ())
        self._shown, self._max_bad = shown, config.train.max_bad_chunks
        self._num_bad = state.get("num_bad", 0)  # before the pending steps
        self._writer = tensorboard.make_writer(
            workdir,
            first_step=first + 1 if first else 0,
            just_logging=not hosts.is_first(),
        )
        if not first:
            self._writer.write_hparams(flat_config(config))
        self._progress = Progress(first=first, last=last, unit="frames")
        self._pending: list[Mapping[str, jax.Array | np.float32]] = [
            {name: np.float32(value) for name, value in row.items()} for row in pending
        ]
        self._since = first - len(pending)
        self._marked, self._waited_s = time.perf_counter(), 0.0
        self._watched: jax.Array | None = None

    def timed(self, batches: Iterator[StreamBatch]) -> Iterator[StreamBatch]:
        """Yields the batches; measures the time spent waiting for them while the device
        has no work."""
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            # pyrefly: ignore[missing-attribute]  JAX has it, and its types do not
            if self._watched is not None and self._watched.is_ready():
                self._waited_s += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

    def watch(self, result: jax.Array) -> None:
        """Takes a result of the device's latest work: when it is ready, the device has
        no work left."""
        self._watched = result

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of one step, still on the device.

        Waits for the step before the previous one, so that the host runs ahead of the
        device, but batches do not pile up in its memory.
        """
        self._pending.append(metrics)
        jax.block_until_ready(self._pending[-3:-2])

    def get_state(self) -> dict[str, Any]:
        """Returns the metrics that are not yet written, for a checkpoint; flushes the
        ones that are.

        Raises:
            InputError: if more losses or gradients are not finite than
                `config.train.max_bad_chunks` allows.
        """
        rows = self._checked_rows()
        self._writer.flush()
        pending = [{name: float(row[name]) for name in row} for row in rows]
        return {"pending": pending, "num_bad": self._num_bad}

    def _checked_rows(self) -> list[dict[str, np.ndarray]]:
        rows, num_bad = jax.device_get(self._pending), self._num_bad
        for index, row in enumerate(rows):
            finite = np.isfinite(row["loss"]) and np.isfinite(row["grad_norm"])
            num_bad += int(row["num_bad"])
            if finite and num_bad <= self._max_bad:
                continue
            what, shown = self._name_bad(index, row)
            raise InputError(
                f"{what} is not finite in step {self._since + index + 1}, which shows "
                f"{shown}. {self._describe_limit(num_bad)}The last checkpoint is "
                "intact; check these videos, or try a smaller "
                "--config.train.learning_rate, or --config.model.dtype=float32."
            )
        return rows

    def _name_bad(self, index: int, row: dict[str, np.ndarray]) -> tuple[str, str]:
        chunk = int(row["bad_chunk"])
        what = "the gradient" if chunk < 0 else f"the loss of chunk {chunk}"
        return what, self._shown(self._since + index, None if chunk < 0 else chunk)

    def _describe_limit(self, num_bad: int) -> str:
        if not self._max_bad:
            return ""
        return (
            f"There are {num_bad} such chunks so far, more than "
            f"config.train.max_bad_chunks={self._max_bad} allows. "
        )

    def _warn_of_bad(self, rows: list[dict[str, np.ndarray]]) -> None:
        for index, row in enumerate(rows):
            if not row["num_bad"]:
                continue
            self._num_bad += int(row["num_bad"])
            logging.warning(
                "%s is not finite in step %d, which shows %s: skipped (%d such chunks "
                "so far, of at most %d)",
                *(self._name_bad(index, row)[0], self._since + index + 1),
                *(self._name_bad(index, row)[1], self._num_bad, self._max_bad),
            )

    def write(self, step: int) -> None:
        """Writes the averages since the last call.

        Raises:
            InputError: as `get_state`.
        """
        rows = self._checked_rows()
        self._warn_of_bad(rows)
        names = [name for name in rows[0] if name not in ("bad_chunk", "num_bad")]
        means = {name: float(np.mean([row[name] for row in rows])) for name in names}
        correct, valid = means.pop("correct_steps"), means.pop("valid_steps")
        means["acc"] = 100 * correct / max(valid, 1)
        means["input_wait"] = self._share_waited()
        self._progress.add(round(valid * len(rows)))
        text = f"loss {means['loss']:.4f} acc {means['acc']:.1f}"
        text += f" input wait {means['input_wait']:.0%}"
        logging.info("%s", self._progress.line(step, text))
        self._writer.write_scalars(
            step, {f"train/{name}": value for name, value in means.items()}
        )
        self._pending, self._since = [], step

    def _share_waited(self) -> float:
        """Returns the share of the time since the last call that was spent waiting for
        frames."""
        now = time.perf_counter()
        share = self._waited_s / (now - self._marked)
        self._marked, self._waited_s = now, 0.0
        return share

    def write_selection(self, step: int, found: Selection) -> None:
        """Writes the metrics on the selection videos, and pictures of some."""
        logging.info("step %d selection %s", step, format_metrics(found.metrics))
        self._writer.write_scalars(
            step, {f"selection/{name}": value for name, value in found.metrics.items()}
        )
        if found.pictures:
            self._writer.write_images(
                step, {f"selection/{n}": image for n, image in found.pictures.items()}
            )
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        self._writer.close()


def flat_config(config: ml_collections.ConfigDict) -> dict[str, object]:
    """Maps "section.field" to the field's value, with tuples as text."""
    flat = {"seed": config.seed}
    for name, section in config.items():
        if isinstance(section, ml_collections.ConfigDict):
            for field, value in section.items():
                flat[f"{name}.{field}"] = (
                    str(value) if isinstance(value, tuple) else value
                )
    return flat
