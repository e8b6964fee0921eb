"""What training changes in a video must be the same however the video is read, and
nothing may change that was not asked for."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import annotations, augmentation, dataset, schedule, source
from data_pipeline.augmentation import Strengths
from svtas_jax.structs import IGNORE_LABEL, FeatureFile

FRAMES = {"a": 20, "b": 70, "c": 33}
ALL = dict(random_start=True, colour=0.3, zoom=0.4, erase=0.5)
# No deadline: a busy machine is no error.
examples = settings(max_examples=60, deadline=None)
SEEDS = st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99))


@pytest.fixture
def records(folder):
    for name, num_frames in FRAMES.items():
        folder.add(name, num_frames)
    return annotations.read_split(folder.config, "train")


def _make(folder, records, **options):
    options = {"batch_size": 2, "chunks_per_call": 2, "num_epochs": 3} | options
    options.setdefault("train", True)
    return dataset.make_dataset(records, folder.config, **options)


def _leaves(batches):
    return [(jax.tree.leaves(b.chunks), b.videos, b.is_last) for b in batches]


def _assert_same(some, others):
    for one, other in zip(_leaves(some), _leaves(others), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def _load(folder, record, **options):
    return dataset.load_video(record, folder.config, train=True, **options)


@pytest.mark.parametrize("name", ALL)
def test_a_field_changes_training_alone(folder, records, name):
    before = [list(_make(folder, records, train=train)) for train in (True, False)]
    folder.config[name] = ALL[name]
    after = [list(_make(folder, records, train=train)) for train in (True, False)]
    _assert_same(before[1], after[1])
    with pytest.raises(AssertionError):
        _assert_same(before[0], after[0])


@pytest.mark.parametrize("chunks_per_step", [0, 4])
def test_how_videos_are_read_changes_nothing(folder, records, chunks_per_step):
    folder.config.update(ALL)
    data = _make(folder, records, chunks_per_step=chunks_per_step)
    whole = list(data)
    _assert_same(whole, data)
    parts = [
        list(_make(folder, records, chunks_per_step=chunks_per_step, slots=(slot,)))
        for slot in (1, 0)  # other processes, in another order
    ]
    for index, batch in enumerate(whole):
        for slot, part in zip((1, 0), parts, strict=True):
            ours = [leaf[:, slot] for leaf in jax.tree.leaves(batch.chunks)]
            theirs = [leaf[:, 0] for leaf in jax.tree.leaves(part[index].chunks)]
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    iterator = iter(_make(folder, records, chunks_per_step=chunks_per_step))
    iterator.set_state({"step": 1, "calls": 1})
    done = next(i for i, batch in enumerate(whole) if batch.is_last) + 2
    _assert_same(whole[done:], iterator)


@pytest.mark.slow
def test_worker_processes_change_nothing(folder, records):
    folder.config.update(ALL)
    alone = list(_make(folder, records))
    folder.config.num_workers = 2
    _assert_same(alone, _make(folder, records))


def test_kept_frames_change_nothing(folder, records, tmp_path):
    folder.config.update(ALL)
    decoded = list(_make(folder, records))
    folder.config.frame_cache = str(tmp_path / "kept")
    for _ in range(2):
        _assert_same(decoded, _make(folder, records))
    sizes = [np.load(path).shape[0] for path in (tmp_path / "kept").iterdir()]
    assert sorted(sizes) == sorted(FRAMES.values())


def _numbers(frames):
    """Reads frame numbers from pictures that show the columns 16 to 80 of 96."""
    bars = frames[..., 4:28, :, 0].reshape(*frames.shape[:-3], 24, 8, 8)[..., 2:6]
    return (bars.mean((-3, -1)) > 127) @ (1 << np.arange(8))


def test_pictures_and_labels_begin_together(folder, records):
    """The picture of a step shows its number, whose label the step must have."""
    folder.config.update(random_start=True, augment="none", resize=(64, 96), crop=64)
    record = dataclasses.replace(records[1], labels=np.arange(70, dtype=np.int32))
    starts = set()
    for epoch in range(12):
        chunk = _load(folder, record, epoch=epoch)
        steps = chunk.step_labels[chunk.step_valid]
        starts.add(begin := int(steps[0]))
        np.testing.assert_array_equal(steps, np.arange(begin, 70, 4))
        shown = chunk.frames[chunk.step_valid]
        np.testing.assert_array_equal(_numbers(shown), steps >> 2)
        assert not chunk.frames[~chunk.step_valid].any()
        assert (chunk.labels[~chunk.valid] == IGNORE_LABEL).all()
        assert chunk.starts.tolist() == [True] + [False] * (len(chunk.starts) - 1)
        assert set(chunk.num_chunks) == {len(chunk.starts)} == {-(-(70 - begin) // 16)}
    assert (
        len(starts) > 6 and max(starts) < 16 and {s % 4 for s in starts} == {*range(4)}
    )


@examples
@given(st.integers(1, 400), st.integers(1, 90), SEEDS, st.integers(1, 5))
def test_a_start_leaves_half_a_video_and_a_chunk(frames, clip_frames, seeds, every):
    begin = augmentation.first_frame(frames, clip_frames, seeds, every=every)
    assert begin % every == 0 and 0 <= begin < clip_frames
    if begin:
        assert frames - begin >= max(clip_frames, frames / 2)


def test_every_start_is_drawn_alike():
    starts = [augmentation.first_frame(100, 8, (0, e, 3)) for e in range(800)]
    assert all(60 < starts.count(start) < 140 for start in range(8))


def test_the_schedule_follows_the_lengths_of_each_epoch(folder, records):
    folder.config.random_start = True
    data = _make(folder, records, num_epochs=20)
    counts = data.schedule.num_chunks
    assert counts.shape == (20, 3) and {*counts[:, 1]} == {4, 5}
    assert {*counts[:, 0]} == {1, 2} == {*(counts[:, 2] - 1)}
    shown = np.zeros(3, int)
    for batch in data:
        real = batch.videos[batch.videos >= 0]
        shown += np.bincount(real, minlength=3)
        assert batch.chunks.valid[batch.videos >= 0].any(-1).all()  # no empty chunk
    np.testing.assert_array_equal(shown, counts.sum(0))


@examples
@given(
    counts=st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=2, max_size=4),
    chunks_per_step=st.sampled_from([0, 2, 4]),
)
def test_any_lengths_are_scheduled_once(counts, chunks_per_step):
    options = dict(batch_size=2, chunks_per_call=2, shuffle_seed=0)
    options["chunks_per_step"] = chunks_per_step
    plan = schedule.make_schedule(np.array(counts), num_epochs=len(counts), **options)
    seen = [
        (piece.epoch, piece.video, piece.first_chunk + chunk)
        for call in range(plan.num_calls)
        for slot in range(2)
        for piece in plan.pieces(call, slot)
        for chunk in range(piece.count)
    ]
    assert sorted(seen) == [
        (epoch, video, chunk)
        for epoch, row in enumerate(counts)
        for video, count in enumerate(row)
        for chunk in range(count)
    ]
    fewer = schedule.make_schedule(np.array(counts[:1]), num_epochs=1, **options)
    assert fewer.steps_per_epoch == plan.steps_per_epoch


def test_features_begin_anywhere_too(folder, tmp_path):
    rows = np.arange(70, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    np.save(tmp_path / "f.npy", rows)
    file = FeatureFile(70, 3, time_axis=0, stride=1)
    record = annotations.VideoRecord(
        "f", str(tmp_path / "f.npy"), np.arange(70, dtype=np.int32), 15.0, file
    )
    folder.config.random_start = True
    for epoch in range(8):
        chunk = _load(folder, record, epoch=epoch)
        shown = chunk.frames[chunk.step_valid][:, 0]
        np.testing.assert_array_equal(shown, chunk.step_labels[chunk.step_valid])
        assert shown[0] < 16


def _still(folder, records, **fields):
    """Returns a view of training, and a picture."""
    folder.config.update({"augment": "none", **fields})
    view = source.make_view(folder.config, train=True, seed=0)
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    return view, picture


@pytest.mark.parametrize("name", ["colour", "zoom", "erase"])
def test_a_change_is_held_over_a_video_and_drawn_anew(folder, records, name):
    view, picture = _still(folder, records, **{name: 1.0 if name == "erase" else 0.4})
    before = picture.copy()
    shown = [view.show(picture, 2, 5, index) for index in range(0, 99, 9)]
    assert all((one == shown[0]).all() for one in shown)
    assert shown[0].shape == (32, 32, 3) and shown[0].dtype == np.uint8
    np.testing.assert_array_equal(picture, before)
    for places in ([(e, 5) for e in range(9)], [(2, v) for v in range(9)]):
        assert len({view.show(picture, *place, 0).tobytes() for place in places}) == 9


def test_colours_stay_within_their_strength():
    grey = np.full((4, 4, 3), 128, np.uint8)
    means = []
    for epoch in range(200):
        one = augmentation.altered(
            grey, Strengths(colour=0.2), (0.5,) * 3, (0, epoch, 0)
        )
        assert (one == one[0, 0]).all()
        means.append(one[0, 0])
    assert np.min(means) >= 128 * 0.8 * 0.9 - 1 and np.max(means) <= 128 * 1.2 * 1.1 + 1
    assert np.ptp(means, axis=0).min() > 40
    assert np.abs(np.mean(means, axis=0) - 128).max() < 4
    assert np.ptp(means, axis=1).max() > 10  # not grey any more


@examples
@given(SEEDS, st.floats(0, 1), st.sampled_from([(32, 43), (40, 48), (256, 320)]))
def test_a_zoomed_crop_lies_in_the_picture(seeds, zoom, resize):
    side = augmentation.crop_side(resize, 32, zoom, seeds)
    assert round(32 / (1 + zoom)) <= side <= min(round(32 * (1 + zoom)), *resize)
    assert zoom or side == 32


def test_a_zoom_shows_what_the_crop_holds(folder, records):
    """A ramp stays a ramp, steeper by what the crop is smaller."""
    view, _ = _still(folder, records, zoom=0.5)
    ramp = np.zeros((40, 48, 3), np.uint8) + np.arange(48, dtype=np.uint8)[:, None] * 5
    sides = []
    for epoch in range(20):
        crop, flip = view.crop_and_flip(epoch, 0, 0)
        row = view.show(ramp, epoch, 0, 0)[0, :, 0].astype(float)
        expected = 5 * (crop.left - 0.5 + (np.arange(32) + 0.5) * crop.size / 32)
        assert not flip and np.abs(row - expected)[2:-2].max() <= 1
        sides.append(crop.size)
    assert min(sides) < 26 and max(sides) > 36


def test_erased_rectangles_have_the_mean_colour(folder, records):
    view, picture = _still(folder, records, erase=0.5, mean=(0.1, 0.2, 0.3))
    plain = dataclasses.replace(view, strengths=Strengths())
    shares = []
    for epoch in range(200):
        one, other = (v.show(picture, epoch, 0, 0) for v in (view, plain))
        erased = (one == (26, 51, 76)).all(-1)
        np.testing.assert_array_equal(one[~erased], other[~erased])
        rows, columns = erased.any(1), erased.any(0)
        np.testing.assert_array_equal(erased, rows[:, None] & columns)
        shares.append(erased.mean())
    touched = [share for share in shares if share]
    assert 70 < len(touched) < 130
    assert 0.005 < min(touched) and 0.3 < max(touched) < 0.45
