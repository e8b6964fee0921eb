"""Prepared data must give the batches of the videos that they were made from."""

import builtins
import dataclasses
import errno
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import types

import grain
import jax
import numpy as np
import pytest

from data_pipeline import annotations, checks, dataset, source, video
from data_pipeline.demo import render
from data_pipeline.prepared import builder, shards, workers
from data_pipeline.prepared import index as prepared_index
from data_pipeline.prepared import reader as prepared
from svtas_jax.errors import DamagedVideoError, InputError, MissingInputError
from svtas_jax.structs import VideoRecord

# TFDS reads its own description through a call that newer protobuf warns of.
pytestmark = pytest.mark.filterwarnings("ignore:label:DeprecationWarning")

ROOT = pathlib.Path(__file__).parents[2]
JPEG_LEVELS = 8.0  # mean difference of grey values: half of a picture is white noise


@pytest.fixture
def filled(folder):
    """Videos that are as long as their labels, longer, and shorter."""
    folder.add("größe 1", 45)
    folder.config.max_length_gap = 0.3
    folder.add("b", 33, num_labels=30)
    folder.add("c", 20, num_labels=26, subsets=("train",))
    return folder


def _prepare(folder, encoding="png", *, output=None, mapper=None):
    """Prepares the folder; returns the config that reads what was prepared."""
    output = output or folder.root.parent / f"prepared {encoding} 日本"
    builder.prepare(
        folder.config,
        output,
        encoding=builder.make_encoding(folder.config, encoding),
        mapper=mapper or workers.in_processes(1),
        versions={"svtas_jax": "0"},
    )
    config = folder.config.copy_and_resolve_references()
    config.root = str(output)
    return config


def _batches(config, *, subset="train", train=True):
    records = annotations.read_split(config, subset)
    batches = dataset.make_dataset(
        records,
        config,
        batch_size=2,
        chunks_per_call=2,
        num_epochs=2 if train else 1,
        seed=3,
        train=train,
    )
    return [(batch.chunks, batch.videos) for batch in batches]


def _assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def _files(config):
    return sorted(pathlib.Path(config.root).glob("*.array_record*"))


@pytest.mark.parametrize("encoding", ["png", "video"])
def test_batches_are_those_of_the_videos(filled, encoding, monkeypatch):
    monkeypatch.setattr(shards, "_PART_BYTES", 50_000)  # a video has several
    config = _prepare(filled, encoding)
    for augment in ("video", "frame"):
        config.augment = filled.config.augment = augment
        _assert_same(_batches(config), _batches(filled.config))
    ours, theirs = (
        _batches(data, subset="test", train=False) for data in (config, filled.config)
    )
    _assert_same(ours, theirs)


def test_worker_processes_read_the_same(filled):
    config = _prepare(filled)
    alone = _batches(config)
    config.num_workers = 2
    _assert_same(_batches(config), alone)


def test_records_are_those_of_the_folder_without_its_videos(filled):
    known = {
        subset: annotations.read_split(filled.config, subset) for subset in SUBSETS
    }
    names = annotations.class_names(filled.config)
    config = _prepare(filled)
    shutil.rmtree(filled.root)
    assert annotations.class_names(config) == names
    assert annotations.split_numbers(config) == (1,)
    for subset in SUBSETS:
        records = annotations.read_split(config, subset)
        checks.check_records(records, names)
        for ours, theirs in zip(records, known[subset], strict=True):
            assert (ours.name, ours.fps) == (theirs.name, theirs.fps)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
            assert ours.labels.dtype == theirs.labels.dtype


SUBSETS = ("train", "test")


def test_jpeg_is_close(filled):
    config = _prepare(filled, "jpeg")
    for (ours, _), (theirs, _) in zip(
        _batches(config), _batches(filled.config), strict=True
    ):
        distance = np.abs(ours.frames.astype(int) - theirs.frames).mean()
        assert 0 < distance < JPEG_LEVELS
        np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("encoding", ["png", "video"])
def test_frames_come_in_any_order_and_in_a_copy(filled, encoding):
    config = _prepare(filled, encoding)
    record = annotations.read_split(config, "train")[0]
    path = filled.root / "Videos" / "größe 1.avi"
    view = source.make_view(config, train=True, seed=0)
    reader = source.open_reader(pickle.loads(pickle.dumps(record)), view)
    assert reader.path == record.video_path
    for index in (44, 0, 20, 20, 8):
        (frame,) = video.read_frames(path, [index])
        if encoding == "png":
            frame = shards.transforms.resize_frame(frame, view.resize)
        np.testing.assert_array_equal(reader.frame(index), frame)
    reader.close()
    np.testing.assert_array_equal(reader.frame(8), frame)
    reader.close()


def test_every_kept_frame_is_one_record_for_grain_and_tfds(filled):
    config = _prepare(filled)
    records = grain.MapDataset.source(prepared._open_folder(config.root, 0))
    assert len(records) == 8 + 5 + 12  # b, c, größe 1: sorted, every 4th frame
    assert [int(records[i]["video"]) for i in (7, 8, 12, 13)] == [0, 1, 1, 2]
    assert [int(records[i]["frame"]) for i in (7, 8, 12, 13)] == [28, 0, 16, 0]
    assert records[24]["image"].shape == (40, 48, 3)


def test_a_folder_that_was_prepared_anew_is_read_anew(filled):
    _batches(config := _prepare(filled))
    shutil.rmtree(config.root)
    (filled.root / "Videos" / "b.avi").unlink()
    filled.add("b", 33, subsets=())
    filled.config.frame_stride = 2
    config.frame_stride = 2
    _prepare(filled)
    _assert_same(_batches(config), _batches(filled.config))


def test_a_random_start_shows_only_prepared_frames(filled, caplog):
    config = _prepare(filled)
    config.random_start = filled.config.random_start = True
    records = annotations.read_split(config, "train")
    view = source.make_view(config, train=True, seed=3)
    starts = {view.first_frame(records[0], epoch, 0) for epoch in range(40)}
    assert starts == {0, 4, 8, 12}
    assert _batches(config)
    checks.warn_of_fixed_steps(records, config)
    assert "only at every 4-th frame" in caplog.text
    filled.config.frame_stride = 1
    whole = _prepare(filled, output=filled.root.parent / "whole")
    whole.frame_stride = filled.config.frame_stride = 4
    _assert_same(_batches(whole), _batches(filled.config))


def test_multiples_of_the_prepared_stride_are_read(filled):
    config = _prepare(filled)
    config.frame_stride = filled.config.frame_stride = 8
    _assert_same(_batches(config), _batches(filled.config))


def test_layout_breakfast_and_several_splits(folder):
    names = [f"P{person:02}_cam01_P{person:02}_tea" for person in (3, 4, 5)]
    folder.config.layout = "breakfast"
    for name in names:
        folder.add(name, 12, file=f"{name[:3]}/cam01/{name[10:]}.avi")
    for subset in SUBSETS:
        text = "".join(f"{name}.txt\n" for name in names[:2])
        (folder.root / "splits" / f"{subset}.split2.bundle").write_text(text)
    config = _prepare(folder)
    config.layout = "flat"  # that of the videos does not matter any more
    assert annotations.split_numbers(config) == (1, 2)
    for split, count in ((1, 3), (2, 2)):
        config.split = split
        found = annotations.read_split(config, "test")
        assert [record.name for record in found] == names[:count]
    config.split = 3
    with pytest.raises(MissingInputError, match="Split 3 is missing.*splits 1, 2"):
        annotations.read_split(config, "test")


def test_several_processes_write_the_same_files(filled):
    alone = _prepare(filled, "jpeg")
    output = filled.root.parent / "by two"
    mapper = workers.in_processes(2)
    together = _prepare(filled, "jpeg", output=output, mapper=mapper)
    assert len(_files(alone)) == 3
    for name in sorted(os.listdir(alone.root)):
        paths = (pathlib.Path(config.root) / name for config in (alone, together))
        first, second = (path.read_bytes() for path in paths)
        assert first == second, name


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [([100] * 3, [1, 1, 1]), ([100] * 64, [2] * 32), ([1, 10**8, 1], None)],
)
def test_files_share_the_videos_in_order(lengths, counts):
    records = [
        VideoRecord(f"{i}", "", np.zeros(length, np.int8), 15.0)
        for i, length in enumerate(lengths)
    ]
    encoding = shards.Encoding("jpeg", 95, (32, 32), 4)
    parts = shards.cut_into_shards(records, encoding)
    assert [record for _, videos in parts for record in videos] == records
    assert all(records[first] is videos[0] for first, videos in parts)
    if counts:
        assert [len(videos) for _, videos in parts] == counts


def test_the_command_prepares_and_nothing_needs_tensorflow(filled, tmp_path):
    hidden = tmp_path / "hidden" / "tensorflow"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()  # may be found, but must not be imported
    config = tmp_path / "config.py"
    config.write_text(
        "from svtas_jax.config import default_config\n"
        "def get_config():\n"
        "    config = default_config()\n"
        f"    config.data.update({filled.config.to_dict()!r})\n"
        "    return config\n"
    )
    output = tmp_path / "out"
    python = f"{hidden.parent}{os.pathsep}{ROOT}"
    run = lambda *arguments: subprocess.run(  # noqa: E731
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": python},
        capture_output=True,
        text=True,
        timeout=120,
    )
    command = ("-m", "data_pipeline.tfds_builder", f"--config={config}")
    made = run(*command, f"--output={output}", "--encoding=png", "--processes=1")
    assert made.returncode == 0, made.stderr
    assert "step 95/95 (100%)" in made.stderr  # frames with a label
    assert made.stdout == ""
    used = run("-c", _READ_ALL, str(config), str(output))
    assert used.returncode == 0, used.stderr
    assert used.stdout.split() == ["4", "[]"]


_READ_ALL = """
import importlib.util, sys
from data_pipeline import annotations, dataset
from data_pipeline.prepared import builder
spec = importlib.util.spec_from_file_location("config", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
config = module.get_config().data
config.root = sys.argv[2]
records = annotations.read_split(config, "train")
batches = dataset.make_dataset(
    records, config, batch_size=1, chunks_per_call=2, train=True)
print(sum(1 for _ in batches))
print([name for name in sys.modules if name.split(".")[0] == "tensorflow"])
"""


def test_mismatches_are_told(filled):
    config = _prepare(filled)
    wrong = {
        "resize": ((40, 50), r"resize=\(40, 50\).*are \(40, 48\)"),
        "frame_stride": (2, "frame_stride=2 is not a multiple of 4"),
        "frame_cache": ("kept", "config.data.frame_cache='kept'.*leave it empty"),
        "features": ("features", "config.data.features='features'.*leave it empty"),
    }
    for name, (value, message) in wrong.items():
        other = config.copy_and_resolve_references()
        other[name] = value
        with pytest.raises(InputError, match=message):
            annotations.read_split(other, "train")


def test_a_video_setting_is_free_where_files_are_kept(filled):
    config = _prepare(filled, "video")
    for data in (config, filled.config):
        data.update(resize=(36, 40), frame_stride=2)
    _assert_same(_batches(config), _batches(filled.config))


def test_files_that_are_not_whole_are_told_at_once(filled):
    config = _prepare(filled)
    path = _files(config)[1]
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=f"{path.name} has .* bytes instead of"):
        annotations.read_split(config, "train")
    path.unlink()
    with pytest.raises(MissingInputError, match=f"{path.name} is missing"):
        annotations.read_split(config, "train")


def test_damaged_records_name_the_video(filled):
    config = _prepare(filled)
    path = _files(config)[2]  # of größe 1
    content = bytearray(path.read_bytes())
    content[100:] = bytes(len(content) - 100)
    path.write_bytes(content)
    records = annotations.read_split(config, "train")
    with pytest.raises(DamagedVideoError, match="größe 1 cannot be read"):
        checks.check_records(records, annotations.class_names(config))
    with pytest.raises(DamagedVideoError, match="größe 1 cannot be read"):
        _batches(config)


def test_a_damaged_file_inside_records_is_named_by_its_video(filled):
    path = filled.root / "Videos" / "b.avi"
    config = _prepare(filled, "video")
    record = annotations.read_split(config, "test")[1]
    longer = dataclasses.replace(record, labels=np.zeros(99, np.int32))
    reader = prepared.open_reader(longer, longer.prepared)
    with pytest.raises(
        DamagedVideoError, match="Video .*/b is damaged.*33 frames of 99"
    ):
        reader.frame(40)
    reader.close()
    assert path.exists()


@pytest.mark.parametrize("text", ["{", '{"format": 0}', '{"format": 1}', "[]"])
def test_index_of_another_version_or_damaged(filled, text):
    config = _prepare(filled)
    (pathlib.Path(config.root) / prepared_index.INDEX_FILE).write_text(text)
    with pytest.raises(InputError, match="damaged|another version"):
        annotations.read_split(config, "train")


def test_preparing_again_says_so_or_refuses(filled, caplog):
    config = _prepare(filled)
    before = {path: path.stat().st_mtime_ns for path in _files(config)}
    caplog.set_level("INFO")
    _prepare(filled)
    assert "prepared already" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in _files(config)} == before
    with pytest.raises(InputError, match="other data or settings .encoding differs"):
        _prepare(filled, "jpeg", output=config.root)
    with pytest.raises(InputError, match="holds other files.*--output"):
        _prepare(filled, output=filled.root)
    filled.config.root = config.root
    with pytest.raises(InputError, match="is prepared already; name the folder"):
        _prepare(filled, output=filled.root.parent / "new")


def test_an_interruption_leaves_nothing(filled):
    def interrupted(tasks):
        shards.write_shard(tasks[0])
        yield tasks[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _prepare(filled, mapper=interrupted)
    assert not list(filled.root.parent.glob("prepared*"))


def test_damaged_and_missing_videos_are_named(filled):
    path = filled.root / "Videos" / "b.avi"
    path.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"Video .*b\.avi is damaged"):
        _prepare(filled)
    path.unlink()
    with pytest.raises(MissingInputError, match="video of 'b' is missing"):
        _prepare(filled)
    filled.config.features = "features"
    with pytest.raises(InputError, match="only videos can be prepared, not features"):
        _prepare(filled)
    assert not list(filled.root.parent.glob("prepared*"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("write() failed: No space left on device; writing ..."),
    ],
)
def test_a_full_disk_is_told(filled, monkeypatch, error):
    def full(path, records):
        raise error

    monkeypatch.setattr(shards, "_write_records", full)
    with pytest.raises(InputError, match="No space left on device; .*--output"):
        _prepare(filled)


def test_a_place_that_cannot_be_written_is_told(filled):
    with pytest.raises(InputError, match="cannot be written.*--output"):
        _prepare(filled, output="/proc/prepared/out")


def test_the_demo_data_are_not_rendered_over_prepared_ones(filled):
    config = _prepare(filled)
    before = sorted(os.listdir(config.root))
    render.ensure_dataset(config.root)
    assert sorted(os.listdir(config.root)) == before


def test_without_beam_the_message_says_how_to_get_it(monkeypatch):
    known = builtins.__import__

    def absent(name, *arguments, **options):
        if name.startswith("apache_beam"):
            raise ImportError(name)
        return known(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install 'svtas_jax\[beam\]'"):
        workers.with_beam([])


def test_beam_that_writes_elsewhere_is_told():
    tasks = [types.SimpleNamespace(path="/absent/file", num_frames=1)]
    with pytest.raises(InputError, match="/absent/file is missing: .*same path"):
        list(workers._in_background(lambda tasks: None, tasks))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Beam's own, of many kinds
@pytest.mark.parametrize(
    "options", [[], ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]]
)
def test_beam_writes_the_same_files(filled, options):
    pytest.importorskip("apache_beam")
    alone = _prepare(filled, "jpeg")
    mapper = workers.with_beam(options)
    output = filled.root.parent / "by beam"
    together = _prepare(filled, "jpeg", output=output, mapper=mapper)
    for name in sorted(os.listdir(alone.root)):
        paths = (pathlib.Path(config.root) / name for config in (alone, together))
        first, second = (path.read_bytes() for path in paths)
        assert first == second, name
    assert (
        json.loads((output / prepared_index.INDEX_FILE).read_text())["encoding"]
        == "jpeg"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_beam_names_a_damaged_video(filled):
    pytest.importorskip("apache_beam")
    path = filled.root / "Videos" / "b.avi"
    content = path.read_bytes()
    (records,) = [annotations.read_split(filled.config, "train")]
    encoding = builder.make_encoding(filled.config, "png")
    path.write_bytes(content[: len(content) // 2])
    task = shards.Shard(records, 0, str(filled.root.parent / "shard"), encoding)
    with pytest.raises(InputError, match=r"^Video .*b\.avi is damaged"):
        list(workers.with_beam([])([task]))
