"""Kept frames must be what decoding gives, and never those of another file."""

import errno
import pathlib
import shutil

import numpy as np
import pytest

from data_pipeline import annotations, dataset, frame_cache, source, transforms, video
from svtas_jax.errors import InputError, MissingInputError


@pytest.fixture
def cached(folder, tmp_path):
    folder.add("a", 20)
    folder.add("b", 45)
    folder.config.frame_cache = str(tmp_path / "kept frames")
    return folder


def _batches(folder, **options):
    options = {"batch_size": 2, "chunks_per_call": 2, "num_epochs": 2} | options
    records = annotations.read_split(folder.config, "train")
    data = dataset.make_dataset(records, folder.config, train=True, **options)
    return list(data)


def _reader(folder, record=None, *, resize=None):
    record = record or annotations.read_split(folder.config, "train")[0]
    view = source.make_view(folder.config, train=True, seed=0)
    return frame_cache.CachedReader(
        record, view.spec, resize or view.resize, view.frame_cache
    )


def _files(folder):
    return sorted(pathlib.Path(folder.config.frame_cache).iterdir())


@pytest.mark.parametrize("augment", ["none", "video", "frame"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_those_of_the_videos(cached, augment, num_workers):
    cached.config.augment = augment
    with_cache = _batches(cached)
    cached.config.num_workers = num_workers
    again = _batches(cached)
    cached.config.frame_cache, cached.config.num_workers = "", 0
    for ours, same, decoded in zip(with_cache, again, _batches(cached), strict=True):
        np.testing.assert_array_equal(ours.chunks.frames, decoded.chunks.frames)
        np.testing.assert_array_equal(same.chunks.frames, decoded.chunks.frames)
        np.testing.assert_array_equal(ours.chunks.labels, decoded.chunks.labels)


def test_later_epochs_do_not_decode(cached, monkeypatch):
    _batches(cached, num_epochs=1)

    def never(self, index):
        raise AssertionError("decoded again")

    monkeypatch.setattr(video.FrameReader, "frame", never)
    assert _batches(cached)


def test_a_changed_file_or_size_is_read_anew(cached):
    first, second = annotations.read_split(cached.config, "train")
    before = np.array(_reader(cached, first).frame(0))
    shutil.copy(second.video_path, first.video_path)
    after = np.array(_reader(cached, first).frame(4))
    decoded = video.read_frames(first.video_path, [4])[0]
    np.testing.assert_array_equal(after, transforms.resize_frame(decoded, (40, 48)))
    assert (before != after).any()
    assert _reader(cached, first, resize=(40, 40)).frame(0).shape == (40, 40, 3)
    assert len(_files(cached)) == 3


def test_a_file_that_is_not_ours_is_named(cached):
    _reader(cached).frame(0)
    np.save(_files(cached)[0], np.zeros(3, np.uint8))
    with pytest.raises(InputError, match="delete it"):
        _reader(cached).frame(0)
    _files(cached)[0].write_bytes(b"short")
    with pytest.raises(InputError, match="delete it"):
        _reader(cached).frame(0)


def test_a_full_disk_is_told_before_and_leaves_nothing(cached, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(frame_cache.transforms, "resize_frame", full)
        with pytest.raises(InputError, match="No space left.*frame_cache"):
            _reader(cached).frame(0)
    assert not _files(cached)
    usage = shutil.disk_usage(cached.root)._replace(free=1000)
    monkeypatch.setattr(frame_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="GB more"):
        _batches(cached)


def test_a_damaged_video_leaves_no_half_file(cached):
    reader = _reader(cached)
    data = pathlib.Path(reader.path).read_bytes()
    pathlib.Path(reader.path).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged"):
        _reader(cached).frame(0)
    assert not _files(cached)


def test_a_missing_video_is_named(cached):
    reader = _reader(cached)
    record = annotations.read_split(cached.config, "train")[0]
    pathlib.Path(reader.path).unlink()
    for look in (lambda: reader.frame(0), lambda: _reader(cached, record)):
        with pytest.raises(MissingInputError, match="does not exist"):
            look()
