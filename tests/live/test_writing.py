"""Predictions of live sources: a line a frame, whole or not at all, a file a source."""

import pathlib
import resource
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svtas_jax.errors import InputError
from svtas_jax.evaluation.report import write_predictions
from svtas_jax.live.results import StepResult
from svtas_jax.live.writing import PredictionWriter, paths_for

NAMES = ("take", "gießen", "öffnen 切る")


def make_step(frame, label):
    return StepResult(
        source=0,
        frame=frame,
        time_s=frame / 15,
        label=NAMES[label],
        class_index=label,
        scores=np.eye(len(NAMES), dtype=np.float32)[label],
        chunk=0,
    )


def write(path, steps, num_frames):
    with PredictionWriter(path) as writer:
        for frame, label in steps:
            writer.add(make_step(frame, label))
        return writer.close(num_frames)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_label_stands_for_its_frames_up_to_the_next_step(tmp_path):
    path = write(tmp_path / "a.txt", [(0, 0), (4, 1), (7, 2)], 9)
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines == [NAMES[0]] * 4 + [NAMES[1]] * 3 + [NAMES[2]] * 2 + [""]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), max_size=20))
def test_the_file_equals_that_of_evaluate(tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("written")
    frames = np.cumsum([0, *(length for length, _ in runs)]).tolist()
    labels = [label for length, label in runs for _ in range(length)]
    ours = write(
        folder / "a.txt",
        list(zip(frames, [k for _, k in runs], strict=False)),
        frames[-1],
    )
    theirs = write_predictions(folder, "a", np.array(labels, int), NAMES)
    assert ours.read_bytes() == theirs.read_bytes()


def test_frames_before_the_first_step_get_its_label(tmp_path):
    path = write(tmp_path / "a.txt", [(2, 1)], 4)
    assert path.read_text(encoding="utf-8") == f"{NAMES[1]}\n" * 4


def test_a_source_without_frames_gives_an_empty_file(tmp_path):
    assert write(tmp_path / "new" / "a.txt", [], 0).read_bytes() == b""


def test_nothing_appears_before_the_end_and_nothing_stays_after_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("older\n")
    with pytest.raises(RuntimeError, match="stop"):
        with PredictionWriter(path) as writer:
            writer.add(make_step(0, 0))
            writer.add(make_step(5, 0))
            raise RuntimeError("stop")
    assert names_in(tmp_path) == ["a.txt"]
    assert path.read_text() == "older\n"


@pytest.mark.parametrize("steps", [[(0, 0), (5, 1), (4, 1)], [(0, 0), (5, 1)]])
def test_frames_that_run_back_are_refused(tmp_path, steps):
    with pytest.raises(ValueError, match="in their order"):
        write(tmp_path / "a.txt", steps, 3)
    assert names_in(tmp_path) == []


def test_a_path_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written.*--output"):
        PredictionWriter(tmp_path / "file" / "a.txt")
    with pytest.raises(InputError, match="cannot be written.*--output"):
        PredictionWriter(tmp_path)


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written.*--output"):
            write(tmp_path / "a.txt", [(0, 0), (10_000, 1)], 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names_in(tmp_path) == []


def test_memory_does_not_grow_with_the_stream(tmp_path):
    with PredictionWriter(tmp_path / "a.txt") as writer:
        writer.add(make_step(0, 0))
        tracemalloc.start()
        for number in range(1, 20_000):
            writer.add(make_step(4 * number, number % 3))
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        writer.close(80_000)
    assert grown < 50_000
    with (tmp_path / "a.txt").open(encoding="utf-8") as lines:
        assert sum(1 for _ in lines) == 80_000


def test_one_source_takes_a_file_or_a_folder(tmp_path):
    assert paths_for("out/x.txt", ["v/S1_Tea.mp4"]) == (pathlib.Path("out/x.txt"),)
    assert paths_for("out", ["v/S1_Tea.mp4"]) == (pathlib.Path("out/S1_Tea.txt"),)
    folder = tmp_path / "odd.txt"
    folder.mkdir()
    assert paths_for(str(folder), ["a.mp4"]) == (folder / "a.txt",)


def test_several_sources_need_a_folder_and_get_names_of_their_own():
    sources = ["a/x.mp4", "b/X.avi", "b/x_2.mp4", "0", "-", "c/x.mp4"]
    names = [path.name for path in paths_for("out", sources)]
    assert names[0] == "x.txt" and names[3:5] == ["camera0.txt", "stdin.txt"]
    assert len({name.lower() for name in names}) == len(names)
    with pytest.raises(InputError, match="6 sources; name a folder"):
        paths_for("out.txt", sources)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("rtsp://user:secret@cam.lan:554/door", "door"),
        ("rtsp://user:secret@cam.lan:554", "cam.lan_554"),
        ("http://host/a/../%2e%2e/live.m3u8?token=secret", "live"),
        ("udp://@:1234", "1234"),
        ("http://host/..%2f..%2fetc%2fpasswd", "passwd"),
    ],
)
def test_names_of_addresses_hold_no_secret_and_stay_in_the_folder(source, name):
    (path,) = paths_for("out", [source])
    assert path == pathlib.Path("out") / f"{name}.txt"
