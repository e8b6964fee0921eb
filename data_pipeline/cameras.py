"""What a source of frames is, and the cameras of this machine as one."""

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from data_pipeline.stamps import MAX_FPS
from svtas_jax.errors import InputError

_OPEN_LOCK = threading.Lock()  # OpenCV's log level is one for the whole process


@dataclasses.dataclass(frozen=True)
class Shot:
    """A frame of a source.

    Attributes:
        index: of the frame, skipped ones counted.
        time_s: seconds since the first frame.
        frame: (H, W, 3) uint8 RGB.
    """

    index: int
    time_s: float
    frame: np.ndarray


# Whether a frame of this index and these seconds is to be converted.
Wanted = Callable[[int, float], bool]


class Source:
    """An open source of frames, which can be read once.

    Attributes:
        name: for messages.
        fps: frame rate, 0.0 if unknown; without time stamps, that of the arrivals.
        num_frames: how many have come so far.
        end_s: when the last one of them ends, in seconds since the first one.
        arrived_s: when the last one came, in seconds of the monotonic clock.
        is_live: whether it goes on until something breaks it off.
    """

    def __init__(self, name: str, fps: float, *, is_live: bool = False) -> None:
        self.name, self.fps, self.is_live = name, fps, is_live
        self.num_frames, self.end_s, self.arrived_s = 0, 0.0, 0.0

    def shots(self, wanted: Wanted | None = None) -> Iterator[Shot]:
        """Yields the frames that are wanted; the others are not converted.

        Args:
            wanted: is asked about each frame, in order; by default all are.

        Raises:
            InputError: if there is no frame, or the source breaks off: a live one never
                ends like a file.
        """
        raise NotImplementedError

    def interrupt(self) -> None:
        """Ends `shots` when something comes next; from any thread."""

    def close(self) -> None:
        """Lets go of the source."""
        raise NotImplementedError


class CameraSource(Source):
    """A camera of this machine, through OpenCV: PyAV's wheels know none."""

    def __init__(self, source: str) -> None:
        device = int(source) if source.isdecimal() else source
        self._capture = _quiet_open(device)
        if not self._capture.isOpened():
            raise no_signal("Camera", source, "it cannot be opened")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        super().__init__(source, fps if 0 < fps <= MAX_FPS else 0.0, is_live=True)

    def shots(self, wanted: Wanted | None = None) -> Iterator[Shot]:
        began_s = None
        while self._capture.grab():
            self.arrived_s = now_s = time.monotonic()
            began_s = now_s if began_s is None else began_s
            index, time_s = self.num_frames, now_s - began_s
            self.num_frames = index + 1
            self.end_s = time_s + (1 / self.fps if self.fps else 0.0)
            if wanted is None or wanted(index, time_s):
                ok, image = self._capture.retrieve()
                if not ok or image is None:
                    break
                yield Shot(index, time_s, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if not self.num_frames:
            raise no_signal("Camera", self.name, "no picture came")
        raise InputError(
            f"Camera {self.name} broke off after {self.num_frames} frames. Check that "
            "it is still connected."
        )

    def close(self) -> None:
        self._capture.release()


def no_signal(kind: str, source: str, reason: str) -> InputError:
    """Returns the error for a source from which nothing came.

    `kind` is Camera or Stream.
    """
    return InputError(
        f"{kind} {source} gives no pictures: {reason}. Check that it is connected, not "
        "in use by another program, and that its number or address is right."
    )


def _quiet_open(device: int | str) -> cv2.VideoCapture:
    """Opens without OpenCV's own messages: ours says what is wrong."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, by FFmpeg
    with _OPEN_LOCK:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            return cv2.VideoCapture(device, cv2.CAP_ANY)
        finally:
            cv2.utils.logging.setLogLevel(level)
