"""What is to be decoded, and what one pass through a video tells."""

import dataclasses
import fractions
from collections.abc import Callable, Mapping

import numpy as np

from data_pipeline.checking import fingerprints
from data_pipeline.video import VideoInfo
from svtas_jax.structs import VideoRecord

Tick = Callable[[int], None]  # is told of every frame that was decoded, in any thread


@dataclasses.dataclass(frozen=True)
class Job:
    """A video to look at.

    Attributes:
        name: of the video.
        path: of its file.
        num_frames: that it should have, 0 if unknown; tells how far the work is.
        thumbs: frames of which a small picture is wanted.
        record: of a prepared video, which has no file of its own.
    """

    name: str
    path: str
    num_frames: int = 0
    thumbs: tuple[int, ...] = ()
    record: VideoRecord | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """What one pass through a video found.

    Attributes:
        info: its header; None if it could not be opened.
        times: (num_frames,) seconds of the frames that could be read.
        failure: kind and text of what ended the reading, None if nothing did.
        step: frames of the video from one that was looked at to the next.
        num_damaged: packets at the end that were cut off.
        plain: runs of frames of one colour, as first and last + 1 and whether black.
        frozen: runs of equal frames.
        num_repeats: frames that repeat the one before, while others move.
        sizes: (frame, width, height) of the first frame, and wherever they change.
        turn: see `pictures.turn_of`.
        pixel_shape: width to height of a pixel.
        is_interlaced: whether any frame is.
        num_films: streams of pictures that may be the film.
        num_covers: attached pictures.
        num_back: frames whose time stamp is not later than the one before.
        stated_fps: the header's frame rate, 0.0 if it has none.
        prints: (T, 8, 8) uint8, see `fingerprints`.
        thumbs: JPEG files, by frame.
    """

    info: VideoInfo | None = None
    times: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    failure: tuple[str, str] | None = None
    step: int = 1
    num_damaged: int = 0
    plain: tuple[tuple[int, int, bool], ...] = ()
    frozen: tuple[tuple[int, int], ...] = ()
    num_repeats: int = 0
    sizes: tuple[tuple[int, int, int], ...] = ()
    turn: tuple[bool, bool, bool] = (False, False, False)
    pixel_shape: fractions.Fraction = fractions.Fraction(1)
    is_interlaced: bool = False
    num_films: int = 1
    num_covers: int = 0
    num_back: int = 0
    stated_fps: float = 0.0
    prints: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, fingerprints.SIZE, fingerprints.SIZE))
    )
    thumbs: Mapping[int, bytes] = dataclasses.field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Frames that could be read."""
        return len(self.times)

    @property
    def length(self) -> int:
        """Frames of the video up to the last one that could be read."""
        if self.step == 1 or self.info is None:
            return self.num_frames
        return min(self.step * self.num_frames, self.info.num_frames)
