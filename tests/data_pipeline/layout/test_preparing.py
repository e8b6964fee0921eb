"""Whole preparations: what is written, what is not, and what is said."""

import fractions
import itertools
import os
import pathlib
import re
import shutil

import numpy as np
import pytest

from data_pipeline import annotations as layout
from data_pipeline.annotators.segments import Annotation, Segment
from data_pipeline.layout import writing
from data_pipeline.layout.labelling import Rules
from data_pipeline.layout.preparing import Options, prepare
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError
from svtas_jax.runtime import configs

NAMES = ("S1_tea", "S1_jam", "S2_tea", "S2_jam")
LABELS = ("background", "take", "put", "background")
BORDERS = (0, 9, 17, 30, 40)


@pytest.fixture(scope="module")
def card(tmp_path_factory, films):
    folder = tmp_path_factory.mktemp("card")
    for name in NAMES:
        films.write(folder / f"{name}.mp4", range(40), rate=20)
    return folder


@pytest.fixture
def kitchen(tmp_path, card):
    """Four videos of 40 frames."""
    return shutil.copytree(card, tmp_path / "card")


def annotation(name, *, fps=20, borders=BORDERS, labels=LABELS):
    edges = itertools.pairwise(edge / fps for edge in borders)
    segments = tuple(
        Segment(label, *edge, where=f"{name}.csv, line {number}")
        for number, (label, edge) in enumerate(zip(labels, edges, strict=True), 2)
    )
    return Annotation(name, "seconds", segments, f"{name}.csv")


ALL = tuple(annotation(name) for name in NAMES)


def run(kitchen, output, annotations=ALL, **fields):
    options = Options(videos=kitchen, output=output, **fields)
    prepare(options, annotations, "the command")


def snapshot(folder: pathlib.Path):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "cache" not in p.parts
    }


def test_the_output_is_a_data_set_that_training_reads(kitchen, tmp_path):
    run(kitchen, tmp_path / "out", group=r"(S\d)")
    config = configs.get_config(tmp_path / "out" / "config.py")
    validate_config(config)
    assert layout.split_numbers(config.data) == (1, 2)
    train, test = (layout.read_split(config.data, part) for part in ("train", "test"))
    assert {r.name[:2] for r in train}.isdisjoint({r.name[:2] for r in test})
    names = np.array(layout.class_names(config.data))
    for record in (*train, *test):
        expected = np.repeat(LABELS, np.diff(BORDERS))
        np.testing.assert_array_equal(names[record.labels], expected)
    assert config.eval.background == ("background",)
    assert config.train.validation_group == ""  # each split trains on one person


def test_the_config_holds_its_reasons_and_moves_with_its_folder(kitchen, tmp_path):
    run(kitchen, tmp_path / "out")
    os.rename(tmp_path / "out", tmp_path / "moved")
    config = configs.get_config(tmp_path / "moved" / "config.py")
    assert config.data.root == str(tmp_path / "moved")
    assert config.data.frame_stride == 1  # the shortest action lasts 8 frames
    text = (tmp_path / "moved" / "config.py").read_text()
    fields = re.findall(r"    # .*\n    config\.(\S+) = ", text)
    assert {"data.frame_stride", "data.resize", "train.num_epochs"} <= set(fields)
    assert max(map(len, text.splitlines())) <= 88 + len(str(tmp_path))


def test_colours_are_those_of_the_pictures(tmp_path, films):
    (tmp_path / "v").mkdir()
    for name in ("a", "b"):
        films.write(tmp_path / "v" / f"{name}.mp4", [0] * 20, rate=10)
    found = [annotation(n, fps=10, borders=(0, 20), labels=["put"]) for n in "ab"]
    run(tmp_path / "v", tmp_path / "out", found)
    data = configs.get_config(tmp_path / "out" / "config.py").data
    picture = films.picture(0)[:, 16:80] / 255.0  # of the square in the middle
    np.testing.assert_allclose(data.mean, picture.mean((0, 1)), atol=0.03)
    np.testing.assert_allclose(data.std, picture.std((0, 1)), atol=0.03)


def test_links_and_lists_of_paths_leave_the_videos_where_they_are(kitchen, tmp_path):
    run(kitchen, tmp_path / "link", place="link")
    run(kitchen, tmp_path / "stay", place="stay")
    for place in ("link", "stay"):
        config = configs.get_config(tmp_path / place / "config.py")
        (record, *_) = layout.read_split(config.data, "train")
        assert pathlib.Path(record.video_path).resolve().parent == kitchen
    assert not (tmp_path / "stay" / "Videos").exists()


def test_a_moved_video_is_missed_with_the_line_to_correct(kitchen, tmp_path):
    run(kitchen, tmp_path / "out", place="stay")
    (kitchen / "S1_tea.mp4").unlink()
    config = configs.get_config(tmp_path / "out" / "config.py")
    with pytest.raises(InputError, match=r"videos\.txt says that it is .*S1_tea"):
        layout.read_all(config.data)


def test_a_folder_that_holds_its_videos_is_completed_in_place(kitchen, tmp_path):
    root = tmp_path / "own"
    root.mkdir()
    os.rename(kitchen, root / "Videos")
    run(root / "Videos", root)
    assert len(layout.read_all(configs.get_config(root / "config.py").data)) == 4
    before = snapshot(root)
    run(root / "Videos", root)  # the same again changes nothing
    assert snapshot(root) == before
    other = (annotation(NAMES[0], labels=LABELS[::-1]), *ALL[1:])
    with pytest.raises(InputError, match=r"S1_tea\.txt exists with another content"):
        run(root / "Videos", root, other)
    assert snapshot(root) == before
    run(root / "Videos", root, other, overwrite=True)
    assert snapshot(root) != before


@pytest.mark.parametrize(
    "wrong, message",
    [
        (annotation("S1_tea", borders=(0, 9, 17, 30, 300)), "beyond the end"),
        (annotation("S1_tea", borders=(0, 9, 17, 30, 35)), "gap"),
        (annotation("S1-tea"), "missing video"),
    ],
)
def test_open_questions_leave_nothing_behind(kitchen, tmp_path, wrong, message):
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=f"Nothing was written.*{message}"):
        run(kitchen, tmp_path / "out", (wrong, *ALL[1:]))
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_all_mistakes_come_at_once(kitchen, tmp_path):
    wrong = (
        annotation("S1_tea", borders=(0, 9, 17, 30, 300)),
        annotation("S1_jam", borders=(0, 9, 17, 30, 35)),
        *ALL[2:],
    )
    (kitchen / "S2_tea.mp4").write_bytes(b"no video")
    with pytest.raises(InputError) as error:
        run(kitchen, tmp_path / "out", wrong)
    for kind in ("unreadable video (1)", "beyond the end (1)", "gap (1)"):
        assert kind in str(error.value)


def test_the_report_lists_what_was_found(kitchen, tmp_path, films):
    films.write(kitchen / "S1_tea.mp4", range(40), rate=20, turn=(90, False, False))
    films.write(kitchen / "S1_jam.mp4", range(40), rate=10)
    slow = annotation("S1_jam", fps=10)
    gappy = annotation("S2_tea", borders=(0, 9, 17, 30, 35))
    run(
        kitchen,
        tmp_path / "out",
        (ALL[0], slow, gappy),
        rules=Rules(fill="background"),
    )
    report = (tmp_path / "out" / writing.REPORT).read_text(encoding="utf-8")
    for text in (
        "Note: rotation",
        "players turn it by",
        "Warning: other rate",
        "Warning: other shape",
        "Note: filled gaps",
        "Warning: unlabelled video",
        "Warning: groups in names",
        "`data.frame_stride`",
        "| take | 3 |",
        "the command",
    ):
        assert text in report, text


def test_a_variable_rate_is_labelled_by_time(tmp_path, films):
    """Twenty frames in a second, then twenty in four."""
    (tmp_path / "v").mkdir()
    stamps = [50 * i for i in range(20)] + [1000 + 200 * i for i in range(20)]
    for name in ("a", "b"):
        films.write(
            tmp_path / "v" / f"{name}.mp4",
            range(40),
            stamps=stamps,
            time_base=fractions.Fraction(1, 1000),
        )
    found = [
        annotation(n, fps=1, borders=(0, 1, 5), labels=["take", "put"]) for n in "ab"
    ]
    run(tmp_path / "v", tmp_path / "out", found)
    lines = (tmp_path / "out/groundTruth/a.txt").read_text().split()
    assert lines == ["take"] * 20 + ["put"] * 20
    assert "variable rate" in (tmp_path / "out" / writing.REPORT).read_text()


@pytest.mark.parametrize("num_videos", [0, 1])
def test_too_few_videos_are_said(kitchen, tmp_path, num_videos):
    with pytest.raises(InputError, match="one to train on and one to test on"):
        run(kitchen, tmp_path / "out", ALL[:num_videos])


def check(output, inputs=(), *, overwrite=False):
    writing.check_output(output, inputs, in_place=False, overwrite=overwrite)


def test_an_existing_output_is_never_replaced_by_itself(kitchen, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    check(output)  # empty
    run(kitchen, output)
    with pytest.raises(InputError, match="--overwrite"):
        check(output)
    check(output, overwrite=True)
    run(kitchen, output, place="stay")
    assert not (output / "Videos").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_config_changed_by_hand_is_kept(kitchen, tmp_path):
    output = tmp_path / "out"
    run(kitchen, output)
    proposed = (output / "config.py").read_text()
    run(kitchen, output, crop=32)
    assert (output / "config.py").read_text() != proposed  # nobody had changed it
    own = proposed + "# mine\n"
    (output / "config.py").write_text(own)
    for _ in range(2):
        run(kitchen, output)
        assert (output / "config.py").read_text() == own
        assert (output / "config_proposed.py").read_text() == proposed


def test_test_videos_stay_test_videos_when_a_video_is_added(kitchen, tmp_path, films):
    run(kitchen, tmp_path / "out")
    films.write(kitchen / "S3_tea.mp4", range(40), rate=20)
    before = writing.tested_before(tmp_path / "out")
    run(kitchen, tmp_path / "out", (*ALL, annotation("S3_tea")))
    after = writing.tested_before(tmp_path / "out")
    assert all(set(a) <= set(b) for a, b in zip(before, after, strict=True))
    assert sum(map(len, after)) == 5


def test_overwrite_deletes_only_what_the_command_made(tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/film.mp4").touch()
    with pytest.raises(InputError, match="was not made by this command"):
        check(tmp_path / "holiday", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        check(tmp_path / "file", overwrite=True)


def test_overwrite_does_not_delete_what_is_read(kitchen, tmp_path):
    run(kitchen, tmp_path / "out")
    with pytest.raises(InputError, match="which --overwrite would delete"):
        check(tmp_path / "out", (tmp_path / "out/Videos",), overwrite=True)


def test_a_full_disk_leaves_the_old_output(kitchen, tmp_path, monkeypatch):
    run(kitchen, tmp_path / "out")
    before = snapshot(tmp_path)

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.shutil, "copy2", fail)
    with pytest.raises(InputError, match="No space left"):
        run(kitchen, tmp_path / "out", overwrite=True)
    assert snapshot(tmp_path) == before
