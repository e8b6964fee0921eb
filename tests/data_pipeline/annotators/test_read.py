"""Folders of annotations, and what holds for every format."""

import logging
import pathlib
import subprocess
import sys

import annotating
import pytest
from annotating import triples

from data_pipeline.annotators.read import read_annotations
from svtas_jax.errors import InputError

EAT = [("eat", 0.5, 2.0)]


def test_a_folder_is_read_to_its_depths(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    files = {
        "b/late.csv": annotating.table(EAT),
        "b/early.TextGrid": annotating.textgrid(EAT),
        "a.srt": annotating.srt(EAT),
        "groundTruth/short.txt": "take\nput\n",
        ".hidden.csv": "x",
        "mapping.txt": "0 eat\n",
        "README.md": "# Kitchen",
        "readme.txt": "Kitchen",
        "splits/train.split1.bundle": "a.txt\n",
        "splits/test_split1.txt": "a.txt\n",
        "Videos/a.mp4": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = read_annotations(tmp_path)
    assert [annotation.video for annotation in found] == ["a", "early", "late", "short"]
    assert found[0].source == str(tmp_path / "a.srt")
    passed = "5 files are not read as annotations: README.md, mapping.txt, readme.txt"
    assert passed in caplog.text


def test_a_folder_of_one_format_holds_others(tmp_path):
    (tmp_path / "a.csv").write_text(annotating.table(EAT))
    (tmp_path / "b.txt").write_text("Dear all,\n")
    with pytest.raises(InputError, match="b.txt: the format is not recognised"):
        read_annotations(tmp_path)
    (tmp_path / "b.eaf").write_text(annotating.elan([("cut", 1.0, 2.5)]))
    (found,) = read_annotations(tmp_path, format="elan")
    assert found.video == "day1.mp4"


def test_a_video_in_two_files_is_named(tmp_path):
    (tmp_path / "day1.csv").write_text(annotating.table(EAT))
    (tmp_path / "other.eaf").write_text(annotating.elan(EAT))
    message = "The video 'day1' is annotated twice, in .*day1.csv and in .*other.eaf"
    with pytest.raises(InputError, match=message):
        read_annotations(tmp_path)


def test_frames_become_seconds_with_their_rate():
    text = annotating.breakfast([("eat", 0, 30), ("cut", 30, 45)])
    (found,) = annotating.read(text, "day1.txt", fps=15)
    assert found.unit == "seconds"
    assert triples(found) == [("eat", 0.0, 2.0), ("cut", 2.0, 3.0)]


def test_libraries_are_imported_when_they_are_needed():
    code = (
        "import sys, data_pipeline.annotators.read; assert 'webvtt' not in sys.modules"
    )
    root = pathlib.Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
