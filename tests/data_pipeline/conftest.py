"""Videos whose pixels say which frame they are, and data sets made of them."""

import pathlib
import types

import cv2
import ml_collections
import numpy as np
import pytest

from svtas_jax.config import default_config

HEIGHT, WIDTH, NUM_BITS = 64, 96, 12
CLASSES = ("take", "open jar", "gießen", "background")


def frame_number(frame: np.ndarray) -> int:
    """Reads the bar code in the upper half of a frame (H, W, 3)."""
    width = frame.shape[1] // NUM_BITS
    middle = frame[4 : frame.shape[0] // 2 - 4]
    bars = [middle[:, b * width + 2 : (b + 1) * width - 2] for b in range(NUM_BITS)]
    return sum(int(bar.mean() > 127) << b for b, bar in enumerate(bars))


def write_video(path: pathlib.Path, num_frames: int, *, fps: float = 15.0) -> None:
    """Encodes `num_frames` numbered frames: MJPG for .avi, else MPEG-4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*codec), fps, (WIDTH, HEIGHT)
    )
    assert writer.isOpened()
    for number in range(num_frames):
        noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3))
        frame = noise.astype(np.uint8)
        frame[: HEIGHT // 2] = 0
        for bit in range(NUM_BITS):
            if number >> bit & 1:
                left = bit * WIDTH // NUM_BITS
                frame[: HEIGHT // 2, left : left + WIDTH // NUM_BITS] = 255
        writer.write(frame)
    writer.release()


def write_labels(path: pathlib.Path, num_labels: int, *, run: int = 7) -> None:
    """Writes labels that change every `run` frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [CLASSES[i // run % len(CLASSES)] for i in range(num_labels)]
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


class DataFolder:
    """A data set in the common layout, and the `config.data` that finds it."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.config: ml_collections.ConfigDict = default_config().data
        self.config.update(root=str(root), clip_frames=16, frame_stride=4)
        self.config.update(resize=(40, 48), crop=32)
        root.mkdir(parents=True)
        mapping = "".join(f"{i} {name}\n" for i, name in enumerate(CLASSES))
        (root / "mapping.txt").write_text(mapping, encoding="utf-8")
        (root / "splits").mkdir()

    def add(
        self,
        name: str,
        num_frames: int,
        *,
        num_labels: int | None = None,
        file: str | None = None,
    ) -> pathlib.Path:
        """Adds a video to both subsets of split 1; returns its path."""
        path = self.root / "Videos" / (file or f"{name}.avi")
        write_video(path, num_frames)
        labels = num_frames if num_labels is None else num_labels
        write_labels(self.root / "groundTruth" / f"{name}.txt", labels)
        self.names.append(name)
        for subset in ("train", "test"):
            text = "".join(f"{name}.txt\n" for name in self.names)
            split = self.root / "splits" / f"{subset}.split1.bundle"
            split.write_text(text, encoding="utf-8")
        return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def numbered() -> types.SimpleNamespace:
    """Writes videos of numbered frames and reads the numbers back."""
    return types.SimpleNamespace(
        write=write_video, number=frame_number, height=HEIGHT, width=WIDTH
    )


@pytest.fixture
def folder(tmp_path) -> DataFolder:
    """An empty data set in a folder whose name is not plain ASCII."""
    return DataFolder(tmp_path / "däta set 日本")
