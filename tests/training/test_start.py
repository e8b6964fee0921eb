"""Where a training starts: a run, a file or ImageNet; it is kept, and resumed."""

import hashlib

import jax
import mobilenets
import numpy as np
import pytest

from svtas_jax import models
from svtas_jax.checkpoints import store
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.training import loop, start
from svtas_jax.training.data import read_training_data, sample_chunks
from svtas_jax.weights import folded_mobilenet

NARROW = 0.125


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(folder, tiny):
    """Five short training videos, for a tiny model of the stages that it can take."""
    config = tiny.config()
    config.model.update(image_stages=2, image_width=NARROW)
    for index, num_frames in enumerate((40, 17, 33, 24, 29)):
        folder.add(f"train {index}", num_frames, subsets=("train",))
    folder.add("test", 24, subsets=("test",))
    config.data.root = str(folder.root)
    config.data.dataset = "tiny"
    config.train.num_epochs = 1
    return config


@pytest.fixture
def folded(tmp_path):
    """A file of folded weights of the model's width and stages."""
    path = tmp_path / "folded.npz"
    np.savez(path, **mobilenets.folded_arrays(stages=STAGES[:2], width=NARROW))
    return path


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_a_run_from_a_file_says_so_and_resumes_without_it(
    config, folded, tmp_path, monkeypatch
):
    config.train.init_from = str(folded)
    digest = hashlib.sha256(folded.read_bytes()).hexdigest()
    state = loop.train(config, str(tmp_path / "run"))
    folded.unlink()
    monkeypatch.setattr(folded_mobilenet, "calibrate", None)
    assert_equal(loop.train(config, str(tmp_path / "run")), state)
    meta = store.read_meta(str(tmp_path / "run"), "latest")
    assert meta.started_from == f"file {folded}, SHA-256 {digest}"
    with pytest.raises(MissingInputError, match="folded.npz does not exist; give the"):
        loop.train(config, str(tmp_path / "another"))
    assert not (tmp_path / "another" / store.FOLDER).exists()


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(
    config, folded, tmp_path, monkeypatch
):
    config.train.init_from = str(folded)
    loop.train(config, str(tmp_path / "parts"))
    first = store.read_meta(str(tmp_path / "parts"), "latest")
    config.train.num_epochs = 2
    whole = loop.train(config, str(tmp_path / "whole"))
    monkeypatch.setattr(folded_mobilenet, "calibrate", None)
    assert_equal(loop.train(config, str(tmp_path / "parts")), whole)
    last = store.read_meta(str(tmp_path / "parts"), "latest")
    assert first.step < last.step and first.started_from == last.started_from != ""


def started(config, **changes):
    config = config.copy_and_resolve_references()
    config.train.update(changes)
    data = read_training_data(config)
    model = models.build_model(config, data.class_names)
    tx = loop.optimizer_of(config, 1)
    return start.first_state(
        config, model, tx, chunks=lambda: sample_chunks(config, data)
    )


def test_what_is_measured_depends_on_data_and_seed_alone(config):
    data = read_training_data(config)
    first = list(sample_chunks(config, data))
    assert_equal(first, list(sample_chunks(config, data)))
    config.train.update(batch_size=1, chunks_per_step=4, num_epochs=9)
    config.data.num_workers = 3
    assert_equal(first, list(sample_chunks(config, data)))
    config.seed = 1
    other = list(sample_chunks(config, data))
    assert any(
        not np.array_equal(a.frames, b.frames)
        for a, b in zip(first, other, strict=True)
    )


def test_every_video_is_sampled(config):
    data = read_training_data(config)
    chunks = list(sample_chunks(config, data))
    assert len(chunks) == 2 * len(data.train)
    assert all(chunk.frames.shape == (1, 4, 32, 32, 3) for chunk in chunks)
    assert all(chunk.valid.any() for chunk in chunks[: len(data.train)])
    assert len({chunk.frames.tobytes() for chunk in chunks[: len(data.train)]}) == 4


def test_imagenet_is_looked_for_before_any_video(config, tmp_path):
    config.train.init_from = "imagenet"
    config.data.root = str(tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match="curl -L --create-dirs -o"):
        loop.train(config, str(tmp_path / "run"))


def test_imagenet_needs_a_mobilenet(config):
    config.train.init_from = "imagenet"
    validate_config(config)
    config.model.backbone = "vit"
    with pytest.raises(InputError, match="does not fit config.model.backbone='vit'"):
        validate_config(config)


def test_imagenet_is_a_file_of_the_cache(config, tmp_path):
    folder = tmp_path / "cache" / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    path = folder / "mobilenet_v2-7ebf99e0.pth"
    arrays = mobilenets.torch_arrays(
        mobilenets.torchvision_module, stages=STAGES[:2], width=NARROW
    )
    with path.open("wb") as file:  # the reader looks at the content, not at the name
        np.savez(file, **arrays)
    state = started(config, init_from="imagenet")
    config.train.init_from = "imagenet"
    said = start.read(config).said
    assert said.startswith(f"file {path}, SHA-256 ")
    where = state.params["image"]["backbone"]["conv2"]["bn"]["bias"]
    np.testing.assert_array_equal(where, arrays["features.18.1.bias"])


def test_processes_must_find_the_same_file(config, folded, monkeypatch):
    monkeypatch.setattr(start.hosts, "gather", lambda said: [said, "another"])
    assert start.read(config) == start.Start()
    config.train.init_from = str(folded)
    with pytest.raises(InputError, match="is not the same for all processes"):
        start.read(config)


@pytest.fixture
def earlier(config, tmp_path, monkeypatch):
    """The workdir of a run that knows the videos of `videos`."""
    videos = ["train 0"]

    def read_meta(folder, which):
        return store.Meta(
            config=config.to_dict(),
            class_names=(),
            fps=25.0,
            step=7,
            epoch=1,
            versions={},
            train_videos=tuple(videos),
            seen_videos=("older",),
        )

    monkeypatch.setattr(store, "read_meta", read_meta)
    folder = tmp_path / "earlier"
    (folder / store.FOLDER).mkdir(parents=True)
    return folder, videos


def test_a_start_that_knows_videos_hands_them_on(config, earlier):
    folder, videos = earlier
    config.train.init_from = str(folder)
    began = start.read(config)
    assert began == start.Start(f"run {folder}, step 7", ("train 0", "older"))
    data = read_training_data(_fresh(config))
    meta = loop.describe_run(config, data, step=1, epoch=0, began=began)
    assert {"train 0", "older"} <= set(meta.known_videos)
    assert len(meta.known_videos) == len(set(meta.known_videos))
    other = config.copy_and_resolve_references()
    other.data.dataset = "another"  # whose videos may have the same names
    assert start.read(other).seen_videos == ()


def _fresh(config):
    config = config.copy_and_resolve_references()
    config.train.init_from = ""
    return config


def test_a_start_that_knows_what_shall_be_new_is_said(config, earlier, caplog):
    folder, videos = earlier
    config.train.init_from = str(folder)
    data = read_training_data(_fresh(config))
    held_out = {record.name for record in data.selection}
    videos[:] = [record.name for record in data.train]
    start.warn_of_seen(config, start.read(config), data.selection)
    assert not caplog.text
    videos += held_out
    start.warn_of_seen(config, start.read(config), data.selection)
    assert (
        f"on {len(held_out)} of the {len(held_out)} videos that choose" in caplog.text
    )
    assert "of the test videos" not in caplog.text
    caplog.clear()
    videos[:] = ["test"]
    start.warn_of_seen(config, start.read(config), data.selection)
    assert "on 1 of the test videos of split 1, such as test" in caplog.text
    assert "that choose" not in caplog.text


def test_a_folder_of_runs_is_no_run(config, tmp_path):
    (tmp_path / "many" / "seed1" / "split2" / store.FOLDER).mkdir(parents=True)
    config.train.init_from = str(tmp_path / "many")
    with pytest.raises(MissingInputError, match=r"such as .*many/seed1/split2\.$"):
        start.read(config)
    config.train.init_from = str(tmp_path)
    with pytest.raises(MissingInputError, match=r"holds no checkpoints of its own\.$"):
        start.read(config)
