"""The data set must give the same batches however it is read."""

import contextlib
import dataclasses
import json
import multiprocessing.util
import os
import signal

import grain
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import annotations, dataset, schedule, source, windows
from svtas_jax.errors import InputError
from svtas_jax.structs import IGNORE_LABEL, Chunk

FIELDS = [field.name for field in dataclasses.fields(Chunk)]


@pytest.fixture
def records(folder):
    for name, num_frames in (("a", 20), ("b", 70), ("c", 33)):
        folder.add(name, num_frames)
    return annotations.read_split(folder.config, "train")


def _make(folder, records, **options):
    options = {"batch_size": 2, "chunks_per_call": 2, "train": True} | options
    return dataset.make_dataset(records, folder.config, **options)


def _spec(folder):
    return source.make_view(folder.config, train=False, seed=0).spec


def _assert_same(first, second):
    for name in FIELDS:
        np.testing.assert_array_equal(
            getattr(first.chunks, name), getattr(second.chunks, name)
        )
    np.testing.assert_array_equal(first.videos, second.videos)
    assert first.is_last == second.is_last


def _video(batches, index):
    """Puts the chunks of one video together again: a Chunk with leaves (N, ...)."""
    return Chunk(
        **{
            name: np.concatenate(
                [getattr(b.chunks, name)[b.videos == index] for b in batches]
            )
            for name in FIELDS
        }
    )


def test_evaluation_gives_every_video_in_order_with_all_labels(folder, records):
    batches = list(_make(folder, records, train=False))
    shown = [batch.videos.T.tolist() for batch in batches]
    assert shown == [[[0, 0], [1, 1]], [[-1, -1], [1, 1]], [[-1, -1], [1, -1]]] + [
        [[2, 2], [-1, -1]],
        [[2, -1], [-1, -1]],
    ]
    assert [batch.is_last for batch in batches] == [False, False, True, False, True]
    for index, record in enumerate(records):
        chunk = _video(batches, index)
        np.testing.assert_array_equal(chunk.labels[chunk.valid], record.labels)
        alone = dataset.load_video(record, folder.config)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(chunk, name), getattr(alone, name))


def test_packed_slots_never_wait(folder, records):
    batches = list(_make(folder, records, train=False, chunks_per_step=4))
    shown = [batch.videos.T.tolist() for batch in batches]
    assert shown == [[[0, 0], [1, 1]], [[2, 2], [1, 1]], [[2, -1], [1, -1]]]
    assert [batch.is_last for batch in batches] == [False, True, True]
    for index, record in enumerate(records):
        alone = dataset.load_video(record, folder.config)
        for name in FIELDS:
            np.testing.assert_array_equal(
                getattr(_video(batches, index), name), getattr(alone, name)
            )


def test_a_call_may_show_the_end_of_one_video_and_the_next(folder, records):
    options = dict(train=False, batch_size=1, chunks_per_call=4, chunks_per_step=4)
    batches = list(_make(folder, records, **options))
    assert [b.videos[:, 0].tolist() for b in batches] == [
        [0, 0, 1, 1],
        [1, 1, 1, 2],
        [2, 2, -1, -1],
    ]
    assert [b.chunks.starts[:, 0].tolist() for b in batches] == [
        [True, False, True, False],
        [False, False, False, True],
        [False] * 4,
    ]


def test_batches_have_the_promised_shapes(folder, records):
    batch = next(iter(_make(folder, records, train=False)))
    shapes = {name: getattr(batch.chunks, name).shape for name in FIELDS}
    assert shapes["frames"] == (2, 2, 4, 32, 32, 3)
    assert shapes["labels"] == shapes["valid"] == (2, 2, 16)
    assert shapes["starts"] == shapes["num_chunks"] == (2, 2)
    dtypes = [getattr(batch.chunks, name).dtype for name in FIELDS]
    assert dtypes == [np.uint8, np.int32, bool, bool, np.int32]
    assert all(type(getattr(batch.chunks, name)) is np.ndarray for name in FIELDS)


def test_padding_is_empty(folder, records):
    for batch in _make(folder, records, train=False):
        empty = batch.videos == -1
        chunks = batch.chunks
        assert not chunks.frames[empty].any() and not chunks.valid[empty].any()
        assert (chunks.labels[empty] == IGNORE_LABEL).all()
        assert (chunks.num_chunks[empty] == 1).all()
        assert (chunks.labels[~chunks.valid] == IGNORE_LABEL).all()


def test_the_last_steps_are_black_past_the_end(folder, records):
    frames = dataset.load_video(records[0], folder.config).frames  # 20 = 16 + 4
    assert frames[1, 0].any() and not frames[1, 1:].any()


def test_training_repeats_the_labels_of_decoded_steps(folder, records):
    chunk = dataset.load_video(records[2], folder.config, train=True)  # 33 frames
    assert chunk.valid.sum() == 36  # the last step is real as a whole
    steps = records[2].labels[::4]
    np.testing.assert_array_equal(chunk.labels[chunk.valid], np.repeat(steps, 4))


def test_pictures_belong_to_their_labels(folder, records, numbered):
    folder.config.update(resize=(64, 96), crop=64)
    frames = dataset.load_video(records[1], folder.config).frames
    # The centre crop shows the columns 16 to 80: bars 2 to 9.
    for step, frame in enumerate(frames.reshape(-1, 64, 64, 3)[:18]):
        bars = [frame[4:28, b * 8 + 2 : b * 8 + 6].mean() > 127 for b in range(8)]
        assert sum(int(bar) << b for b, bar in enumerate(bars)) == (4 * step >> 2) % 256


def test_training_shows_every_video_once_an_epoch(folder, records):
    data = _make(folder, records, num_epochs=3)
    begins = [batch.videos[0][batch.chunks.starts[0]] for batch in data]
    shown = [video for videos in begins for video in videos.tolist()]
    orders = [tuple(shown[i : i + 3]) for i in (0, 3, 6)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(set(orders)) > 1
    assert sum(b.is_last for b in data) == data.schedule.num_steps == 6


def test_same_seed_same_batches_other_seed_others(folder, records):
    first = list(_make(folder, records, seed=1))
    second = list(_make(folder, records, seed=1))
    for one, other in zip(first, second, strict=True):
        _assert_same(one, other)
    assert not np.array_equal(
        first[0].chunks.frames, next(iter(_make(folder, records, seed=2))).chunks.frames
    )


def test_one_crop_and_flip_a_video(folder, records):
    folder.config.augment = "video"
    view = source.make_view(folder.config, train=True, seed=0)
    assert len({view.crop_and_flip(0, 1, frame) for frame in range(20)}) == 1
    assert len({view.crop_and_flip(epoch, 1, 0) for epoch in range(20)}) > 10
    assert len({view.crop_and_flip(0, video, 0) for video in range(20)}) > 10


def test_one_crop_and_flip_a_frame(folder, records):
    folder.config.augment = "frame"
    view = source.make_view(folder.config, train=True, seed=0)
    places = [view.crop_and_flip(0, 1, frame) for frame in range(20)]
    assert len(set(places)) > 10
    assert places == [view.crop_and_flip(0, 1, frame) for frame in range(20)]


@pytest.mark.parametrize(("augment", "train"), [("none", True), ("video", False)])
def test_centre_crop_without_augmentation(folder, records, augment, train):
    folder.config.augment = augment
    view = source.make_view(folder.config, train=train, seed=0)
    assert {view.crop_and_flip(e, v, 0) for e in range(9) for v in range(9)} == {
        ((32, 4, 8), False)
    }


def test_how_chunks_are_grouped_changes_nothing(folder, records):
    singly = list(_make(folder, records, chunks_per_call=1, seed=5))
    grouped = list(_make(folder, records, chunks_per_call=4, seed=5))
    for index, record in enumerate(records):
        count = windows.num_windows(record.num_frames, _spec(folder))
        one, other = _video(singly, index), _video(grouped, index)
        for name in FIELDS:
            np.testing.assert_array_equal(
                getattr(one, name)[:count], getattr(other, name)[:count]
            )


def test_a_restored_iterator_goes_on_in_the_middle_of_a_video(folder, records):
    stream = _make(folder, records, num_epochs=2)
    batches = list(stream)
    iterator = iter(stream)
    for _ in range(3):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    assert len(json.dumps(state)) < 100
    iterator.close()
    restored = iter(_make(folder, records, num_epochs=2))
    restored.set_state(state)
    rest = list(restored)
    assert len(rest) == len(batches) - 3
    for one, other in zip(rest, batches[3:], strict=True):
        _assert_same(one, other)


def test_grain_agrees_that_checkpoints_are_exact(folder, records):
    leaves = _make(folder, records).map(jax.tree.leaves)
    grain.experimental.assert_equal_output_after_checkpoint(leaves)


def test_a_state_can_be_set_back_while_reading(folder, records):
    iterator = iter(_make(folder, records))
    start = iterator.get_state()
    first = next(iterator)
    next(iterator)
    iterator.set_state(start)
    _assert_same(next(iterator), first)
    iterator.close()


def test_a_finished_iterator_stays_finished(folder, records):
    iterator = iter(_make(folder, records))
    count = len(list(iterator))
    with pytest.raises(StopIteration):
        next(iterator)
    restored = iter(_make(folder, records))
    restored.set_state({"step": 0, "calls": count})
    assert list(restored) == []


def test_a_state_of_another_version_is_told(folder, records):
    with pytest.raises(InputError, match="another version"):
        iter(_make(folder, records)).set_state({"next_call": 3})


@pytest.mark.slow
def test_worker_processes_change_nothing(folder, records):
    alone = list(_make(folder, records, num_epochs=2))
    for num_workers in (1, 2):
        folder.config.num_workers = num_workers
        iterator = iter(_make(folder, records, num_epochs=2))
        batches = list(iterator)
        for one, other in zip(alone, batches, strict=True):
            _assert_same(one, other)
            assert type(other.chunks.frames) is np.ndarray
        iterator.set_state({"step": 1, "calls": 0})  # of any number of workers
        first = next(i for i, batch in enumerate(alone) if batch.is_last) + 1
        _assert_same(next(iterator), alone[first])
        iterator.close()


@pytest.mark.slow
def test_an_error_in_a_worker_reaches_the_user(folder, records):
    (folder.root / "Videos" / "b.avi").write_bytes(b"")
    folder.config.num_workers = 2
    iterator = iter(_make(folder, records, train=False))
    with pytest.raises(InputError, match="b.avi is empty"):
        list(iterator)
    iterator.close()


def test_a_video_cut_after_the_check_is_named(folder, records):
    path = folder.root / "Videos" / "b.avi"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="b.avi is damaged.*of 70 expected"):
        list(_make(folder, records, train=False))


def test_workers_must_divide_the_batch(folder, records):
    folder.config.num_workers = 3
    with pytest.raises(InputError, match="num_workers=3.*batch size 4.*num_workers=2"):
        _make(folder, records, batch_size=4)


def test_no_videos_is_an_input_error(folder):
    with pytest.raises(InputError, match="no videos"):
        _make(folder, ())


def test_memory_does_not_depend_on_the_length_of_a_video(folder, records):
    long = dataclasses.replace(records[1], labels=np.zeros(10**6, np.int32))
    one = next(iter(_make(folder, [records[1]], batch_size=1, train=False)))
    other = next(iter(_make(folder, [long], batch_size=1, train=False)))
    np.testing.assert_array_equal(one.chunks.frames, other.chunks.frames)
    assert other.chunks.frames.shape == one.chunks.frames.shape


@given(
    num_chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    batch_size=st.integers(1, 4),
    chunks_per_call=st.integers(1, 4),
    calls_per_step=st.integers(0, 3),
)
def test_the_schedule_covers_every_chunk_once(
    num_chunks, batch_size, chunks_per_call, calls_per_step
):
    plan = schedule.make_schedule(
        num_chunks,
        batch_size=batch_size,
        chunks_per_call=chunks_per_call,
        num_epochs=2,
        shuffle_seed=0,
        chunks_per_step=calls_per_step * chunks_per_call,
    )
    seen = {}
    for call in range(plan.num_calls):
        for slot in range(batch_size):
            filled = 0
            for piece in plan.pieces(call, slot):
                assert piece.offset >= filled
                filled = piece.offset + piece.count
                for chunk in range(piece.count):
                    key = (piece.epoch, piece.video, piece.first_chunk + chunk)
                    assert key not in seen
                    # A video is shown by one slot, in order and without a gap.
                    before = seen.get((*key[:2], key[2] - 1))
                    place = call * chunks_per_call + piece.offset + chunk
                    assert key[2] == 0 or before == (slot, place - 1)
                    seen[key] = slot, place
            assert filled <= chunks_per_call
    assert len(seen) == 2 * sum(num_chunks)
    computed = plan.num_calls * chunks_per_call * batch_size
    assert plan.filled == pytest.approx(len(seen) / computed)
    if calls_per_step:  # packed: a slot is empty only where nothing is left to show
        longest = max(num_chunks)
        assert computed - len(seen) <= batch_size * (longest + chunks_per_call)


def test_more_epochs_do_not_change_those_before():
    options = dict(batch_size=2, chunks_per_call=2, shuffle_seed=0, chunks_per_step=4)
    short = schedule.make_schedule([3, 1, 8], num_epochs=2, **options)
    long = schedule.make_schedule([3, 1, 8], num_epochs=5, **options)
    for one, other in zip(short.slots, long.slots, strict=True):
        np.testing.assert_array_equal(one.starts, other.starts[: len(one.starts)])
        np.testing.assert_array_equal(one.videos, other.videos[: len(one.videos)])


def _cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_damaged_video_is_left_out(folder, records, caplog, num_workers):
    whole = list(_make(folder, records))
    path = folder.root / "Videos" / "b.avi"
    _cut(path)
    with pytest.raises(InputError, match="b.avi is damaged"):
        list(_make(folder, records))
    folder.config.num_workers = num_workers
    batches = list(_make(folder, records, max_damaged_share=0.2))
    if not num_workers:
        assert "1 damaged videos of at most 1" in caplog.text
    assert len(batches) == len(whole)
    for ours, expected in zip(batches, whole, strict=True):
        others = ours.videos != 1
        for name in FIELDS:
            np.testing.assert_array_equal(
                getattr(ours.chunks, name)[others],
                getattr(expected.chunks, name)[others],
            )
    own = _video(batches, 1)
    read = own.valid.any(axis=-1)
    assert 0 < read.sum() < len(read)
    assert (own.labels[~read] == IGNORE_LABEL).all()


def test_too_many_damaged_videos_are_listed(folder, records):
    _cut(folder.root / "Videos" / "b.avi")
    (folder.root / "Videos" / "c.avi").unlink()
    with pytest.raises(InputError, match="2 videos are damaged") as told:
        list(_make(folder, records, max_damaged_share=0.2))
    assert "b.avi" in str(told.value) and "c.avi" in str(told.value)


@pytest.mark.parametrize("chunks_per_step", [0, 4])
def test_the_schedule_knows_what_a_step_shows(folder, records, chunks_per_step):
    data = _make(folder, records, chunks_per_step=chunks_per_step, num_epochs=2)
    step, chunk, seen = 0, 0, {}
    for batch in data:
        for videos, starts in zip(batch.videos, batch.chunks.starts, strict=True):
            shown = dict(data.schedule.shown_at(step, chunk))
            assert sorted(shown) == sorted(videos[videos >= 0].tolist())
            for video, start in zip(videos.tolist(), starts, strict=True):
                seen[video] = 0 if start else seen.get(video, -1) + 1
                assert video < 0 or shown[video] == seen[video]
            assert set(shown) <= {v for v, _ in data.schedule.shown_at(step)}
            chunk += 1
        if batch.is_last:
            step, chunk = step + 1, 0


def test_processes_that_share_the_slots_read_what_one_reads(folder, records):
    whole = list(_make(folder, records, batch_size=3))
    parts = [
        list(_make(folder, records, batch_size=3, slots=slots))
        for slots in ((0,), (1, 2))
    ]
    for one, *others in zip(whole, *parts, strict=True):
        joined = [jax.tree.leaves((part.chunks, part.videos)) for part in others]
        joined = [np.concatenate(pair, axis=1) for pair in zip(*joined, strict=True)]
        for ours, expected in zip(
            joined, jax.tree.leaves((one.chunks, one.videos)), strict=True
        ):
            np.testing.assert_array_equal(ours, expected)


def test_lost_worker_processes_are_replaced(folder, records, monkeypatch, caplog):
    expected = list(_make(folder, records))
    data = _make(folder, records)
    lost, opened = [0, 1, 1, 3], data.open

    def open_until_lost(call):
        number = call
        for batch in opened(call):
            if number in lost:
                lost.remove(number)
                raise RuntimeError("Worker process was terminated unexpectedly")
            yield batch
            number += 1

    monkeypatch.setattr(data, "open", open_until_lost)
    for ours, theirs in zip(data, expected, strict=True):
        _assert_same(ours, theirs)
    assert not lost and caplog.text.count("starting anew") == 4
    lost += [1, 1, 1]
    with pytest.raises(InputError, match="lost 3 times"):
        list(data)


@pytest.mark.slow
def test_a_killed_worker_process_is_replaced(folder, records):
    expected = list(_make(folder, records, num_epochs=8))
    folder.config.num_workers = 2
    with contextlib.closing(iter(_make(folder, records, num_epochs=8))) as batches:
        for number, (ours, theirs) in enumerate(zip(batches, expected, strict=True)):
            _assert_same(ours, theirs)
            if number == 1:
                multiprocessing.active_children()[0].kill()


def test_a_process_killed_as_it_starts_is_replaced(
    folder, records, monkeypatch, caplog
):
    """Also where it would be told more than a pipe holds."""
    many = tuple(
        dataclasses.replace(record, labels=record.labels.copy())
        for record in records * 400
    )
    assert sum(record.labels.nbytes for record in many) > 2**16
    expected = next(iter(_make(folder, many)))
    start, killed = multiprocessing.util.spawnv_passfds, []

    def start_and_kill(path, arguments, pipes):
        process = start(path, arguments, pipes)
        if not killed and any("spawn_main" in str(word) for word in arguments):
            killed.append(process)
            os.kill(process, signal.SIGKILL)
        return process

    def give_up(*_):
        raise TimeoutError

    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", start_and_kill)
    folder.config.num_workers = 1
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 60, 5)  # closing a pipe may hang again
    try:
        with contextlib.closing(iter(_make(folder, many))) as batches:
            _assert_same(next(batches), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert killed and "starting anew" in caplog.text


@pytest.mark.parametrize("frame_cache", ["", "cache"])
def test_linked_data_are_read_like_any(folder, records, tmp_path, frame_cache):
    expected = list(_make(folder, records))
    linked = tmp_path / "linked data"
    linked.mkdir()
    for path in folder.root.iterdir():  # its folders and files, and the videos again
        (linked / path.name).symlink_to(path)
    (linked / "Videos").unlink()
    (linked / "Videos").mkdir()
    for path in (folder.root / "Videos").iterdir():
        (linked / "Videos" / path.name).symlink_to(path)
    folder.config.root = str(linked)
    if frame_cache:
        folder.config.frame_cache = str(tmp_path / frame_cache)
    found = annotations.read_split(folder.config, "train")
    for one, other in zip(_make(folder, found), expected, strict=True):
        _assert_same(one, other)
