"""Videos whose pixels say which frame they are, data sets made of them, and models
small enough to compile in seconds."""

import os
import pathlib
import types

import cv2
import filming
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from contract import Kit, System
from loopback import Cameras

from svtas_jax import models
from svtas_jax.config import default_config
from svtas_jax.models import build_model
from svtas_jax.structs import Chunk

# Tests compile much and compute little: leave the compiler's slow passes out, unless
# the caller's flags, which come later and win, ask for them.
QUICK = "--xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}"

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
        subsets: tuple[str, ...] = ("train", "test"),
    ) -> pathlib.Path:
        """Adds a video to subsets of split 1; returns its path."""
        path = self.root / "Videos" / (file or f"{name}.avi")
        write_video(path, num_frames)
        labels = num_frames if num_labels is None else num_labels
        write_labels(self.root / "groundTruth" / f"{name}.txt", labels)
        self.names.append(name)
        for subset in subsets:
            split = self.root / "splits" / f"{subset}.split1.bundle"
            with split.open("a", encoding="utf-8") as lines:
                lines.write(f"{name}.txt\n")
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


@pytest.fixture(scope="session")
def films() -> types.SimpleNamespace:
    """Writes films of numbered frames in many formats, and reads the numbers back."""
    return types.SimpleNamespace(
        write=filming.write_film,
        number=filming.number_of,
        picture=filming.picture,
        silence=filming.write_silence,
        garble_tag=filming.garble_tag,
    )


@pytest.fixture
def camera():
    """Starts cameras that run scripts, see `loopback.Cameras.start`."""
    cameras = Cameras()
    yield cameras.start
    cameras.close()


@pytest.fixture
def folder(tmp_path) -> DataFolder:
    """An empty data set in a folder whose name is not plain ASCII."""
    return DataFolder(tmp_path / "däta set 日本")


@pytest.fixture(scope="session", autouse=True)
def _compile_once(tmp_path_factory):
    """Programs that several tests share are compiled by the first of them."""
    cache = str(tmp_path_factory.mktemp("xla"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def tiny_config(system: str = "sete") -> ml_collections.ConfigDict:
    """A whole system of some thousand weights: 4 steps of 32x32 pixels a chunk."""
    config = default_config()
    config.data.update(clip_frames=8, frame_stride=2, crop=32, resize=(32, 40))
    config.model.update(system=system, image_width=0.125, features=16, num_layers=2)
    config.model.update(joint_features=16, joint_layers=1, joint_heads=2)
    config.model.update(text_width=8, text_layers=1, text_heads=2)
    if system == "mete":
        config.model.update(prompt="fixed", prompt_len=40)
    return config


TINY_STAGES = ((1, 8, 1, 1), (6, 8, 2, 2))


def with_stages(model, stages):
    """Returns the model with another number of stages of MobileNet."""
    backbone = model.image.backbone.clone(stages=stages)
    return model.clone(image=model.image.clone(backbone=backbone))


def tiny_model(system: str = "sete", **fields):
    """Builds it with two stages of MobileNet instead of seven."""
    config = tiny_config(system)
    config.model.update(fields)
    model = build_model(config, CLASSES)
    return with_stages(model, TINY_STAGES)


def random_chunks(
    num_chunks: int, batch_size: int, *, seed: int = 0, clip_frames: int = 8
) -> Chunk:
    """Whole videos of noise, leaves (N, B, ...)."""
    rng = np.random.default_rng(seed)
    shape = (num_chunks, batch_size)
    steps = rng.integers(0, len(CLASSES), (*shape, clip_frames // 2))
    starts = np.zeros(shape, bool)
    starts[0] = True
    return Chunk(
        frames=rng.integers(0, 256, (*shape, clip_frames // 2, 32, 32, 3), np.uint8),
        labels=np.repeat(steps, 2, axis=-1).astype(np.int32),
        valid=np.ones((*shape, clip_frames), bool),
        starts=starts,
        num_chunks=np.full(shape, num_chunks, np.int32),
    )


@pytest.fixture(scope="session")
def tiny() -> types.SimpleNamespace:
    """Small models and chunks for them."""

    def variables(model, seed=0):
        chunk = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), random_chunks(1, 1))
        key, state = jax.random.key(seed), model.initial_state(1)
        variables = jax.jit(lambda: model.init(key, state, chunk))()
        # Fresh weights let little of the image through: pictures must matter here.
        image = jax.tree.map(lambda leaf: 2 * leaf, variables["params"]["image"])
        return {**variables, "params": {**variables["params"], "image": image}}

    return types.SimpleNamespace(
        config=tiny_config,
        model=tiny_model,
        chunks=random_chunks,
        variables=variables,
        classes=CLASSES,
    )


@pytest.fixture(scope="session")
def data_folder():
    """Makes empty data sets in folders."""
    return DataFolder


@pytest.fixture
def tiny_commands(monkeypatch):
    """Lets the commands build models with two stages of MobileNet: quick to compile."""
    _build_tiny(monkeypatch)


@pytest.fixture(scope="module")
def tiny_commands_of_module(tmp_path_factory):
    """The same for all tests of a module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _build_tiny(monkeypatch)
        cache = tmp_path_factory.mktemp("cache")
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        yield


def _build_tiny(monkeypatch):
    def build(config, class_names):
        model = build_model(config, class_names)
        if config.model.backbone == "features":
            return model
        return with_stages(model, TINY_STAGES)

    monkeypatch.setattr(models, "build_model", build)


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)]
)
def transeger_of_features(request):
    """A Transeger that is compiled quickly, two-sided and causal."""
    fields = dict(system="transeger", backbone="features", prompt_len=50)
    with jax.enable_x64(True):
        yield Kit(System("features", fields | dict(causal=request.param)))
