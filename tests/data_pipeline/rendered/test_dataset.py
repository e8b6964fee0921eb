"""The folder: whole or absent, read by training, and nothing of others replaced."""

import json
import os
import pathlib
import subprocess
import sys

import cv2
import pytest

from data_pipeline import annotations
from data_pipeline.render import check_folders
from data_pipeline.rendered import dataset
from data_pipeline.rendered.film import Settings
from data_pipeline.rendered.source import read_source
from svtas_jax.config import default_config
from svtas_jax.errors import InputError, MissingInputError

CLASSES = ("pour", "SIL", "flurb", "take_cup")
RUNS = ((1, 5), (0, 1), (1, 2), (3, 12), (2, 9), (1, 4))
NAMES = ("P1_tea", "P1_jam", "P2_tea", "P2_jam")


@pytest.fixture
def labelled(tmp_path):
    """A labelled data set without videos: two people, each tested on once."""
    root = tmp_path / "labelled"
    (root / "groundTruth").mkdir(parents=True)
    (root / "splits").mkdir()
    mapping = "".join(f"{i} {name}\n" for i, name in enumerate(CLASSES))
    (root / "mapping.txt").write_text(mapping)
    for cut, name in enumerate(NAMES):
        lines = [CLASSES[i] for i, length in RUNS for _ in range(length)]
        (root / f"groundTruth/{name}.txt").write_text("\n".join(lines[cut:]) + "\n")
    for split in (1, 2):
        test = [name for name in NAMES if name.startswith(f"P{split}")]
        for subset in ("train", "test"):
            chosen = [name for name in NAMES if (name in test) == (subset == "test")]
            text = "".join(f"{name}.txt\n" for name in chosen)
            (root / f"splits/{subset}.split{split}.bundle").write_text(text)
    return root


def render(labelled, output, *, settings=None, overwrite=False, **more):
    source = read_source(labelled, **more)
    dataset.render_dataset(output, source, settings or Settings(), overwrite=overwrite)


def config_of(root):
    config = default_config().data
    config.update(root=str(root), dataset="rendered", split=2)
    return config


def contents(folder: pathlib.Path):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_training_reads_what_was_rendered(labelled, tmp_path):
    render(labelled, tmp_path / "out")
    config = config_of(tmp_path / "out")
    assert annotations.class_names(config) == CLASSES
    assert annotations.split_numbers(config) == (1, 2)
    train, test = (annotations.read_split(config, s) for s in ("train", "test"))
    assert [record.name for record in train] == list(NAMES[:2])
    assert [record.name for record in test] == list(NAMES[2:])
    for record in train + test:
        path = f"groundTruth/{record.name}.txt"
        assert (tmp_path / "out" / path).read_text() == (labelled / path).read_text()
        video = cv2.VideoCapture(record.video_path)
        frames = 0
        while video.read()[0]:
            frames += 1
        assert frames == len(record.labels)
        assert record.fps == 15
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["people"] == {"P1": sorted(NAMES[:2]), "P2": sorted(NAMES[2:])}
    assert manifest["idle"] == ["SIL"]
    assert str(tmp_path) not in json.dumps(manifest)


def test_equal_settings_give_equal_files_on_any_number_of_cores(
    labelled, tmp_path, monkeypatch
):
    render(labelled, tmp_path / "many")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    render(labelled, tmp_path / "one")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_every_nth_label_is_kept(labelled, tmp_path):
    render(labelled, tmp_path / "out", every=4)
    (name, *_) = NAMES
    before = (labelled / f"groundTruth/{name}.txt").read_text().split()
    after = (tmp_path / f"out/groundTruth/{name}.txt").read_text().split()
    assert after == before[::4]
    config = config_of(tmp_path / "out")
    assert len(annotations.read_split(config, "train")[0].labels) == len(after)


def test_a_rendered_folder_is_kept_and_replaced_only_if_asked(labelled, tmp_path):
    output = tmp_path / "out"
    render(labelled, output)
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    render(labelled, output)
    assert times == {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with pytest.raises(InputError, match="other labels, settings.*--overwrite"):
        render(labelled, output, settings=Settings(difficulty=0.7))
    assert times == {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    render(labelled, output, settings=Settings(difficulty=0.7), overwrite=True)
    assert json.loads((output / "manifest.json").read_text())["difficulty"] == 0.7


@pytest.mark.parametrize("name", ["diary.txt", "manifest.json"])
def test_what_others_wrote_is_left_alone(labelled, tmp_path, name):
    output = tmp_path / "out"
    output.mkdir()
    (output / name).write_text('{"version": 3}')
    with pytest.raises(InputError, match="not rendered by this command"):
        render(labelled, output, overwrite=True)
    assert contents(output) == {name: b'{"version": 3}'}


def test_a_file_in_the_way_is_named(labelled, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="out is a file"):
        render(labelled, tmp_path / "out")
    with pytest.raises(InputError, match="out cannot be written.*another --output"):
        render(labelled, tmp_path / "out" / "deeper")


def test_interrupted_rendering_leaves_nothing(labelled, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("power cut")

    monkeypatch.setattr(dataset, "write_video", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        render(labelled, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["labelled"]


def test_frames_that_a_full_disk_swallowed_are_missed(labelled, tmp_path, monkeypatch):
    write = dataset.write_video

    def lose(path, frames, *, fps):
        write(path, list(frames)[:-1], fps=fps)

    monkeypatch.setattr(dataset, "write_video", lose)
    with pytest.raises(InputError, match="31 of 32 frames.*space left"):
        render(labelled, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_people_are_found_by_name_pattern_or_each_video_is_one(labelled, tmp_path):
    people = read_source(labelled, group=r"_(\w+)").people
    assert people == {name: name[3:] for name in NAMES}
    with pytest.raises(InputError, match=r"--group='\^S' does not match"):
        read_source(labelled, group="^S")
    for path in [*labelled.glob("*/*")]:
        if path.suffix == ".bundle":
            path.write_text(path.read_text().replace("P", "person"))
        else:
            path.rename(path.with_name(path.name.replace("P", "person")))
    assert set(read_source(labelled).people.values()) == {"person1", "person2"}


def test_mistakes_are_named(labelled, tmp_path):
    with pytest.raises(InputError, match="'SILL' is not in mapping.txt.*'SIL'"):
        read_source(labelled, idle=("SILL",))
    with pytest.raises(InputError, match="names all classes"):
        read_source(labelled, idle=CLASSES)
    with pytest.raises(InputError, match="--difficulty=nan is not between 0"):
        render(labelled, tmp_path / "out", settings=Settings(difficulty=float("nan")))
    with pytest.raises(InputError, match="--fps=0 is not between 1"):
        render(labelled, tmp_path / "out", settings=Settings(fps=0))
    with pytest.raises(MissingInputError, match="--annotations=.*nowhere"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match="groundTruth holds no mapping.txt"):
        read_source(labelled / "groundTruth")
    (labelled / "groundTruth/P1_tea.txt").write_text("take_cup\ntake_cop\n")
    with pytest.raises(InputError, match=r"P1_tea.txt, line 2.*'take_cup'"):
        read_source(labelled)


def test_labels_are_not_overwritten(labelled):
    for output in (labelled, labelled.parent):
        with pytest.raises(InputError, match="--annotations=.*lies in --output="):
            check_folders(labelled, output)


def test_the_command_renders(labelled, tmp_path):
    command = [sys.executable, "-m", "data_pipeline.render", "--difficulty=1"]
    command += [f"--annotations={labelled}", f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len([*(tmp_path / "out/Videos").iterdir()]) == len(NAMES)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["difficulty"] == 1
