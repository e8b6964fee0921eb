"""A small data set without a fault, and copies of it to damage."""

import os
import pathlib

import cv2
import filming
import numpy as np
import pytest

from data_pipeline.checking import examine, scan
from svtas_jax.config import default_config

CLASSES = ("background", "open", "pour", "stir")
NAMES = {"train": ("S1_a", "S1_b", "S2_a", "S2_b"), "test": ("S3_a", "S3_b")}
NUM_FRAMES, RATE, SIZE = 45, 15, (48, 64)
RUN = 9  # frames of a segment


def draw(seed: int, number: int, height: int, width: int) -> np.ndarray:
    """Draws clouds that change with time: every seed has its own."""
    place, between = divmod(number, 5)
    near, far = (
        np.random.default_rng((seed, place + n)).integers(40, 216, (5, 6, 3), np.uint8)
        for n in (0, 1)
    )
    mixed = cv2.addWeighted(near, 1 - between / 5, far, between / 5, 0)
    image = cv2.resize(mixed, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng((seed, number)).integers(-6, 7, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def film(path: pathlib.Path, *, seed: int = 99, numbers=range(NUM_FRAMES), **more):
    """Writes a film of clouds in place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    more = {"size": SIZE, "rate": RATE, "options": {"preset": "ultrafast"}, **more}
    more.setdefault("draw", lambda *args: draw(seed, *args))
    return filming.write_film(path, list(numbers), **more)


def labels_of(index: int, num_frames: int = NUM_FRAMES) -> list[str]:
    """Returns labels that begin with another class in every video."""
    names = [CLASSES[(index + frame // RUN) % 4] for frame in range(num_frames)]
    return names


class CheckedSet:
    """A data set of one split, and its `config.data`."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.config = default_config()
        self.data = self.config.data
        self.data.update(root=str(root), dataset="tiny", clip_frames=16, frame_stride=2)
        self.data.update(resize=SIZE, crop=32)

    def write(self, name: str, lines, encoding: str = "utf-8") -> None:
        """Writes a file of text in place of whatever is there."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))

    def lines(self, name: str) -> list[str]:
        """Returns the lines of a file of text."""
        return (self.root / name).read_text(encoding="utf-8").splitlines()

    def video(self, name: str) -> pathlib.Path:
        """Returns the path of a video."""
        return self.root / "Videos" / f"{name}.mp4"

    def fill(self) -> None:
        """Writes six videos of three people, their labels, and a split."""
        self.write("mapping.txt", (f"{i} {name}" for i, name in enumerate(CLASSES)))
        for subset, names in NAMES.items():
            split = f"splits/{subset}.split1.bundle"
            self.write(split, (f"{name}.txt" for name in names))
        for index, name in enumerate(n for names in NAMES.values() for n in names):
            film(self.video(name), seed=index)
            self.write(f"groundTruth/{name}.txt", labels_of(index))

    def copy(self, root: pathlib.Path) -> "CheckedSet":
        """Returns a copy whose videos are the same files: replace, do not change."""
        for path in self.root.rglob("*"):
            target = root / path.relative_to(self.root)
            if path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        other = CheckedSet(root)
        other.config.update(self.config)
        other.data.root = str(root)
        return other

    def examine(self, **more) -> examine.Examination:
        """Examines it; a file that was decoded before is not decoded again."""
        return examine.examine(self.data, scan_once, **more)


def scan_once(jobs, known={}):  # noqa: B006  it shall last as long as the session
    for job in jobs:
        if job.record is not None:
            yield job, scan.scan(job)
            continue
        status = os.stat(job.path)
        key = status.st_ino, status.st_size, status.st_mtime_ns, job.thumbs
        if key not in known:
            known[key] = scan.scan(job)
        yield job, known[key]


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> CheckedSet:
    """The data set without a fault: only to read."""
    found = CheckedSet(tmp_path_factory.mktemp("good"))
    found.fill()
    return found


@pytest.fixture
def damaged(good, tmp_path) -> CheckedSet:
    """A copy to damage."""
    return good.copy(tmp_path / "data")


@pytest.fixture(scope="session")
def shoot():
    """Films clouds, see `film`."""
    return film


@pytest.fixture(scope="session")
def clouds():
    """Draws clouds, see `draw`."""
    return draw


@pytest.fixture(scope="session")
def checked_set():
    """Makes empty data sets."""
    return CheckedSet
