"""Where the answers of a live stream go: lines, predictions, a video, a window."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging

from svtas_jax.live.lines import Line, Lines, lines_of
from svtas_jax.live.overlay import History, draw_overlay
from svtas_jax.live.overlay_output import FORMATS, OPTION, OverlayWindow, OverlayWriter
from svtas_jax.live.results import SourceEnd, StepResult
from svtas_jax.live.writing import PredictionWriter, paths_for
from svtas_jax.pages.colours import class_colours
from svtas_jax.runtime.files import writing


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is made of the answers.

    Attributes:
        every: what has a line, see `svtas_jax.live.lines.EVERY`.
        output: a file, or a folder for several sources, for the labels of all frames.
        overlay: a video with the labels drawn on it, or a folder of them for several
            sources.
        window: whether pictures with labels are shown.
    """

    every: str
    output: str | None = None
    overlay: str | None = None
    window: bool = False

    @property
    def needs_pictures(self) -> bool:
        """Whether answers must hold their pictures."""
        return self.overlay is not None or self.window


class SourceOutput:
    """Where the answers of one source go.

    Args:
        name: of the source.
        lines: makes its lines.
        predictions, overlay, window: None where they are not wanted.
    """

    def __init__(
        self,
        name: str,
        lines: Lines,
        *,
        predictions: PredictionWriter | None,
        overlay: OverlayWriter | None,
        window: "_Window | None",
    ) -> None:
        self.name, self._lines = name, lines
        self._predictions, self._overlay, self._window = predictions, overlay, window

    @property
    def is_closed_by_user(self) -> bool:
        """Whether its window was there and is closed."""
        return self._window is not None and not self._window.is_open

    def add(self, step: StepResult) -> list[Line]:
        """Takes the next answer, and returns the lines that it completes."""
        if self._predictions is not None:
            self._predictions.add(step)
        drawn = None if self._overlay is None else self._overlay.add(step)
        if self._window is not None:
            self._window.add(step, drawn)
        return self._lines.add(step)

    def end(self, end: SourceEnd) -> list[Line]:
        """Completes everything, and returns the last lines."""
        if self._predictions is not None:
            logging.info("predictions: %s", self._predictions.close(end.num_frames))
        if self._overlay is not None and (path := self._overlay.close()):
            logging.info("video: %s", path)
        return self._lines.end(end)

    def discard(self) -> None:
        """Removes what is not complete; does nothing after `end`."""
        for writer in (self._predictions, self._overlay):
            if writer is not None:
                writer.discard()
        if self._window is not None:
            self._window.close()


class _Window:
    """A window that shows the steps of one source."""

    def __init__(self, name: str, colours: np.ndarray) -> None:
        self._colours, self._history = colours, History()
        self._window = OverlayWindow(name)
        self.close = self._window.close

    @property
    def is_open(self) -> bool:
        return self._window.is_open

    def add(self, step: StepResult, drawn: np.ndarray | None) -> None:
        """Shows a step; `drawn` is its picture with labels if there is one already."""
        if drawn is None:
            self._history.add(step)
            assert step.picture is not None  # `Wanted.needs_pictures`
            drawn = draw_overlay(step.picture, step, self._history, self._colours)
        self._window.show(drawn)


def open_outputs(
    sources: Sequence[str],
    wanted: Wanted,
    *,
    class_names: tuple[str, ...],
    background: tuple[str, ...],
    step_s: float,
) -> list[SourceOutput]:
    """Opens the outputs of all sources.

    Args:
        sources: as the user names them.
        wanted: see there.
        class_names: in the order of the class indices.
        background: names of classes that are drawn in grey.
        step_s: seconds of a step.

    Raises:
        InputError: if something cannot be written or shown; nothing is left behind.
    """
    make = lines_of(wanted.every, class_names=class_names, step_s=step_s)
    colours = class_colours(class_names, background)
    files = paths_for(wanted.output, sources) if wanted.output else ()
    videos = _videos_for(wanted.overlay, sources) if wanted.overlay else ()
    opened = []
    with contextlib.ExitStack() as undo:
        for n, name in enumerate(sources):
            predictions = PredictionWriter(files[n]) if files else None
            if predictions is not None:
                undo.callback(predictions.discard)
            overlay = OverlayWriter(videos[n], colours) if videos else None
            if overlay is not None:
                undo.callback(overlay.discard)
            window = _Window(name, colours) if wanted.window else None
            if window is not None:
                undo.callback(window.close)
            opened.append(
                SourceOutput(
                    *(name, make()),
                    predictions=predictions,
                    overlay=overlay,
                    window=window,
                )
            )
        undo.pop_all()
    return opened


def _videos_for(overlay: str, sources: Sequence[str]) -> Sequence[pathlib.Path]:
    path = pathlib.Path(overlay)
    if len(sources) == 1 and path.suffix and not path.is_dir():
        # Of any ending: the writer says which ones there are.
        endings = [path.suffix.lower()]
    else:
        endings = list(FORMATS)
    paths = paths_for(overlay, sources, endings=endings, option=OPTION)
    if paths[0] != path:
        with writing(path, option=OPTION):
            path.mkdir(parents=True, exist_ok=True)
    return paths
