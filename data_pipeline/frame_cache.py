"""Caches decoded and resized frames on disk, so that later epochs only read them.

One file per video, `NAME-IDENTITY.npy` (N, H, W, 3) uint8, holds the N frames that its
windows show, or all of its frames if a window may begin at any. IDENTITY hashes the
identity of the video file, the frame indices and the size, so that an outdated file is
never used. The first reader of a video writes its file, whole or not at all; files may
be deleted at any time.
"""

import hashlib
import math
import os
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np

from data_pipeline import transforms, windows
from data_pipeline.video import FrameReader, file_identity
from svtas_jax.errors import InputError
from svtas_jax.runtime.arrays import read_npy
from svtas_jax.runtime.files import draft_of, make_folder, writing
from svtas_jax.structs import StreamSpec, VideoRecord

_OPTION = "config.data.frame_cache (empty for none)"


class CachedReader:
    """Returns resized frames of one video; the first call decodes them all.

    Attributes:
        path: of the video.
    """

    def __init__(
        self,
        record: VideoRecord,
        spec: StreamSpec,
        resize: tuple[int, int],
        folder: str,
        *,
        every_frame: bool = False,
    ) -> None:
        self.path = record.video_path
        self._record, self._resize = record, resize
        self._indices = _shown_frames(record, spec, every_frame)
        self._file = _file_of(record, self._indices, resize, folder)
        self._frames: np.ndarray | None = None

    def frame(self, index: int) -> np.ndarray:
        """Returns frame `index` of the video as (H, W, 3) uint8 RGB, resized."""
        if self._frames is None:
            self._frames = self._open()
        return self._frames[np.searchsorted(self._indices, index)]

    def close(self) -> None:
        """Closes the file."""
        self._frames = None

    def _open(self) -> np.ndarray:
        if not self._file.exists():
            self._fill()
        try:
            frames = read_npy(self._file, mapped=True)
        except (OSError, ValueError):
            frames = np.empty(0)
        if frames.shape != (len(self._indices), *self._resize, 3):
            raise InputError(
                f"{self._file} does not hold the frames of {self.path}; delete it."
            )
        return frames

    def _fill(self) -> None:
        """Decodes the whole video into a draft, then renames it to the file."""
        draft = draft_of(self._file)
        reader = FrameReader(self.path, self._record.num_frames)
        try:
            with writing(self._file, option=_OPTION):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._write(draft, reader)
                os.replace(draft, self._file)
        finally:
            reader.close()
            draft.unlink(missing_ok=True)

    def _write(self, draft: pathlib.Path, reader: FrameReader) -> None:
        # Not through a memory map, which kills the process when the disk is full.
        shape = (len(self._indices), *self._resize, 3)
        form = dict(shape=shape, fortran_order=False, descr="|u1")
        with draft.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, form)
            for frame in reader.frames(self._indices):
                stream.write(transforms.resize_frame(frame, self._resize).data)


def check_room(
    records: Sequence[VideoRecord],
    spec: StreamSpec,
    resize: tuple[int, int],
    folder: str,
    *,
    every_frame: bool = False,
) -> None:
    """Checks that the missing files fit on the disk.

    Raises:
        InputError: if they do not, or the folder cannot be made.
    """
    missing = 0
    for record in records:
        indices = _shown_frames(record, spec, every_frame)
        if not _file_of(record, indices, resize, folder).exists():
            missing += len(indices) * math.prod(resize) * 3
    free = shutil.disk_usage(make_folder(folder, option=_OPTION)).free
    if missing > free:
        why = " (every frame, for config.data.random_start)" if every_frame else ""
        raise InputError(
            f"the frame cache {folder} needs {missing / 1e9:.1f} GB more{why}, but "
            f"{free / 1e9:.1f} GB are free; choose another {_OPTION}, or a "
            "smaller config.data.resize."
        )


def _shown_frames(
    record: VideoRecord, spec: StreamSpec, every_frame: bool
) -> np.ndarray:
    """Returns the raw indices of the frames that windows show, in order."""
    if every_frame:
        return np.arange(record.num_frames, dtype=np.int32)
    frames = windows.plan_windows(record.num_frames, spec).frames
    return np.unique(frames[frames >= 0])


def _file_of(
    record: VideoRecord, indices: np.ndarray, resize: tuple[int, int], folder: str
) -> pathlib.Path:
    identity = hashlib.sha256(indices.astype("<i8").tobytes())
    identity.update(os.fsencode(f"{tuple(resize)}\n{file_identity(record.video_path)}"))
    name = pathlib.Path(record.video_path).stem
    return pathlib.Path(folder) / f"{name}-{identity.hexdigest()[:16]}.npy"
