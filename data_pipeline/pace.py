"""Whether the frames of a video come at an even pace."""

import contextlib
import os

import numpy as np

from data_pipeline import video

_DRIFT_S = 0.5  # that a mean rate may be wrong by at any frame


def uneven_times(path: str | os.PathLike) -> np.ndarray | None:
    """Returns when the frames of a video of variable rate are shown.

    Nothing is decoded for a video of constant rate.

    Returns:
        (num_frames,) seconds since the first frame; None if a mean rate describes the
        video, or if its header does not say and its frames were never counted.
    """
    times = _indexed_times(path)
    if times is None and video.is_counted(path):
        times = video.frame_times(path)
    if times is None or len(times) < 2:
        return None
    even = np.linspace(times[0], times[-1], len(times))
    if np.abs(times - even).max() < _DRIFT_S:
        return None
    return video.frame_times(path)


def _indexed_times(path: str | os.PathLike) -> np.ndarray | None:
    """Returns the times in the header's index of all frames, None without one."""
    with contextlib.closing(video.open_film(path)) as decoder:
        stream, unit = decoder.stream, decoder.stream.time_base
        entries = [e for e in stream.index_entries if e.size and not e.is_discard]
        if not unit or not 0 < stream.frames <= len(stream.index_entries):
            return None
        stamps = np.sort([entry.timestamp for entry in entries])
        return (stamps - stamps[0]) * float(unit)
