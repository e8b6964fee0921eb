"""Labels on the disk: whatever moment a server is killed at, none is lost or wrong."""

import contextlib
import os
import pathlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline import annotations
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.serving.labelling import documents
from svtas_jax.serving.labelling.documents import Segment
from svtas_jax.serving.labelling.folder import Folder, open_folder
from svtas_jax.serving.labelling.store import Change, ConflictError, Store

FRAMES = 9
HALF = (Segment(0, 4, "take"),)
WHOLE = (Segment(0, 4, "take"), Segment(4, 9, "gießen"))
OTHER = (Segment(0, 9, "take"),)


class KilledError(BaseException):
    """The server is killed here."""


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def labels(tmp_path):
    """The labels of a folder that has classes."""
    folder = Folder(tmp_path)
    for path in (folder.side, folder.truths):
        path.mkdir()
    folder.mapping.write_text("0 take\n1 gießen\n", encoding="utf-8")
    return Store(folder)


def save(labels, segments, base=None, edit="", name="a"):
    base = labels.read(name, FRAMES).token if base is None else base
    return labels.save(name, Change(base, edit, segments), num_frames=FRAMES)


def truth_of(labels, name="a"):
    path = labels.folder.truth_path(name)
    return path.read_text("utf-8") if path.exists() else None


def text_of(segments):
    return "".join(f"{s.label}\n" * (s.end - s.start) for s in segments)


@contextlib.contextmanager
def killed_at(monkeypatch, number):
    """Kills the server when it calls the disk for the n-th time; yields the calls."""
    calls = []

    def counted(call):
        def stop_or_call(*arguments, **options):
            calls.append(call)
            if len(calls) == number + 1:
                raise KilledError
            return call(*arguments, **options)

        return stop_or_call

    with monkeypatch.context() as patch:
        for place, name in ((os, "replace"), (os, "fsync"), (pathlib.Path, "unlink")):
            patch.setattr(place, name, counted(getattr(place, name)))
        yield calls


@pytest.mark.parametrize(
    "before, after", [(HALF, WHOLE), (WHOLE, HALF), (WHOLE, OTHER), ((), WHOLE)]
)
def test_no_kill_leaves_anything_between_before_and_after(
    labels, monkeypatch, before, after
):
    number, is_acknowledged = 0, False
    while not is_acknowledged:
        save(labels, before)
        with killed_at(monkeypatch, number), contextlib.suppress(KilledError):
            save(labels, after, edit=f"e{number}")
            is_acknowledged = True
        again = Store(labels.folder)
        found = again.read("a", FRAMES)
        assert not found.notice and not found.kept
        assert found.document.segments in (before, after)
        assert found.document.segments == after or not is_acknowledged
        expected = text_of(found.document.segments)
        is_whole = found.document.is_complete
        assert truth_of(again) == (expected if is_whole else None)
        assert not [p for p in labels.folder.truths.iterdir() if p.name[0] == "."]
        number += 1
    assert number > 3


def test_a_kill_while_a_class_is_renamed_is_made_good(labels, monkeypatch):
    number, is_done = 0, False
    while not is_done:
        save(labels, WHOLE)
        save(labels, HALF, name="b")
        labels.folder.truth_path("foreign").write_text("gießen\ntake\n", "utf-8")
        with killed_at(monkeypatch, number), contextlib.suppress(KilledError):
            labels.rename_class("take", "nehmen 取る")
            is_done = True
        again = Store(labels.folder)
        name = again.classes()[0]
        assert name in ("take", "nehmen 取る")
        for video, segments in (("a", WHOLE), ("b", HALF)):
            found = again.read(video, FRAMES)
            assert not found.notice
            assert found.document.segments[0] == segments[0]._replace(label=name)
        assert truth_of(again) == text_of(WHOLE).replace("take", name)
        assert truth_of(again, "foreign") == f"gießen\n{name}\n"
        if name != "take":
            labels.rename_class(name, "take")
        number += 1
    assert number > 5


def test_labels_are_those_of_the_common_layout(labels):
    save(labels, WHOLE)
    classes = annotations.read_mapping(labels.folder.mapping)
    found = annotations.read_labels(labels.folder.truth_path("a"), classes)
    assert found.tolist() == [0] * 4 + [1] * 5


def test_an_incomplete_video_has_no_label_file(labels):
    save(labels, (Segment(0, 4, "take"), Segment(4, 9, "take", True)))
    assert truth_of(labels) is None
    save(labels, WHOLE)
    assert truth_of(labels) == text_of(WHOLE)
    save(labels, HALF)
    assert truth_of(labels) is None
    assert labels.read("a", FRAMES).document.segments == HALF


def test_undo_is_a_new_version_with_old_labels(labels):
    first = save(labels, WHOLE)
    second = save(labels, OTHER, first.token)
    undone = save(labels, WHOLE, second.token)
    assert undone.document.version == first.document.version + 2
    assert truth_of(labels) == text_of(WHOLE)


def test_a_second_person_gets_a_conflict_and_an_answer_twice_none(labels):
    opened = labels.read("a", FRAMES)
    first = save(labels, HALF, opened.token, "mine")
    assert save(labels, HALF, opened.token, "mine") == first
    with pytest.raises(ConflictError) as conflict:
        save(labels, OTHER, opened.token, "yours")
    assert conflict.value.opened.document.segments == HALF
    assert truth_of(labels) is None
    save(labels, OTHER, conflict.value.opened.token, "yours")
    assert truth_of(labels) == text_of(OTHER)


def test_a_label_file_changed_by_another_program_is_a_conflict(labels):
    mine = save(labels, WHOLE)
    path = labels.folder.truth_path("a")
    path.write_text("gießen\n" * 9, encoding="utf-8")
    with pytest.raises(ConflictError) as conflict:
        save(labels, OTHER, mine.token)
    found = conflict.value.opened
    assert "another program" in found.notice
    assert found.document.segments == (Segment(0, 9, "gießen"),)
    assert found.kept == WHOLE
    save(labels, OTHER, found.token)
    assert truth_of(labels) == text_of(OTHER)
    (copy,) = (labels.folder.side / "replaced").iterdir()
    assert copy.read_text("utf-8") == "gießen\n" * 9


def test_a_removed_label_file_is_said_and_written_again(labels):
    mine = save(labels, WHOLE)
    labels.folder.truth_path("a").unlink()
    with pytest.raises(ConflictError) as conflict:
        save(labels, WHOLE, mine.token)
    assert "removed" in conflict.value.opened.notice
    save(labels, WHOLE, conflict.value.opened.token)
    assert truth_of(labels) == text_of(WHOLE)


def test_the_same_labels_in_other_lines_are_no_conflict(labels):
    save(labels, (Segment(0, 2, "take"), *WHOLE[1:], Segment(2, 4, "take"))[:1])
    save(labels, WHOLE)
    path = labels.folder.truth_path("a")
    path.write_bytes(text_of(WHOLE).replace("\n", "\r\n").encode())
    assert not labels.read("a", FRAMES).notice


def test_labels_of_other_programs_are_read_and_kept(labels):
    path = labels.folder.truth_path("a")
    path.write_text(text_of(OTHER), encoding="utf-8")
    opened = labels.read("a", FRAMES)
    assert opened.document.segments == OTHER and not opened.notice
    save(labels, WHOLE, opened.token)
    (copy,) = (labels.folder.side / "replaced").iterdir()
    assert copy.read_text("utf-8") == text_of(OTHER)


@pytest.mark.parametrize("lines, words", [(7, "the last 2"), (11, "11 frames, but")])
def test_a_label_file_of_another_length_is_said(labels, lines, words):
    labels.folder.truth_path("a").write_text("take\n" * lines, encoding="utf-8")
    opened = labels.read("a", FRAMES)
    assert words in opened.notice
    assert opened.document.segments == (Segment(0, min(lines, FRAMES), "take"),)


def test_labels_wait_until_the_frames_are_counted(labels):
    opened = labels.read("a")
    labels.save("a", Change(opened.token, "", WHOLE))
    assert truth_of(labels) is None
    labels.settle("a", FRAMES)
    assert truth_of(labels) == text_of(WHOLE)
    labels.settle("a", FRAMES)
    assert not labels.read("a", FRAMES).notice


def test_a_label_file_is_left_alone_until_the_frames_are_counted(labels):
    labels.folder.truth_path("a").write_text(text_of(OTHER), encoding="utf-8")
    labels.save("a", Change(labels.read("a").token, "", WHOLE))
    assert truth_of(labels) == text_of(OTHER)
    labels.settle("a", FRAMES)
    assert truth_of(labels) == text_of(WHOLE)
    assert [*(labels.folder.side / "replaced").iterdir()]


def test_a_class_is_renamed_before_the_frames_are_counted(labels):
    labels.folder.truth_path("a").write_text(text_of(OTHER), encoding="utf-8")
    labels.save("a", Change(labels.read("a").token, "", HALF))
    labels.rename_class("take", "grasp")
    opened = labels.read("a")
    assert not opened.notice and opened.document.segments[0].label == "grasp"
    assert truth_of(labels) == "grasp\n" * FRAMES


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 2}', '{"format": 1, "version": "1", "segments": []}'],
)
def test_a_damaged_file_is_one_message_and_stays(labels, content):
    path = labels.folder.document_path("a")
    path.write_text(content or " ")
    with pytest.raises(InputError, match=r"a\.json is damaged"):
        labels.read("a", FRAMES)
    with pytest.raises(InputError, match=r"a\.json is damaged"):
        save(labels, WHOLE, "x")
    assert path.read_text() == (content or " ")


def test_an_unknown_class_is_one_message(labels):
    with pytest.raises(InputError, match="'stir' is not in mapping"):
        save(labels, (Segment(0, 9, "stir"),))
    labels.folder.truth_path("a").write_text("take\ntakee\n")
    with pytest.raises(InputError, match=r"a\.txt, line 2: .* did you mean 'take'"):
        labels.read("a", FRAMES)


@pytest.mark.parametrize(
    "name, words",
    [
        ("", "cannot be the name"),
        ("a\nb", "cannot be the name"),
        ("a\x85b", "cannot be the name"),
        ("x" * 101, "cannot be the name"),
        ("Take", "already a class 'take'"),
        ("gie\u00dfen", "already a class"),
    ],
)
def test_a_bad_class_name_changes_nothing(labels, name, words):
    before = labels.folder.mapping.read_bytes()
    with pytest.raises(InputError, match=words):
        labels.add_class(name)
    with pytest.raises(InputError, match=words):
        labels.rename_class("gießen" if name == "Take" else "take", name)
    assert labels.folder.mapping.read_bytes() == before


def test_a_class_is_added_to_a_mapping_as_it_is(labels):
    labels.folder.mapping.write_bytes("\ufeff1 gießen\r\n0 take".encode())
    labels.add_class("  Cafe\u0301 注ぐ 🫖 ")
    assert labels.classes() == ("take", "gießen", "Caf\u00e9 注ぐ 🫖")
    save(labels, (Segment(0, 9, "Caf\u00e9 注ぐ 🫖"),))
    assert truth_of(labels) == "Caf\u00e9 注ぐ 🫖\n" * 9


SEGMENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans(), st.booleans()),
    max_size=6,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=40,
)
@given(rows=SEGMENTS)
def test_labels_survive_the_disk(labels, rows):
    """Whatever the gaps; the label file is there exactly if there is none."""
    found, end = [], 0
    for gap, size, is_take, proposed in rows:
        name = "take" if is_take else "gießen"
        found.append(Segment(end + gap, end + gap + size, name, proposed))
        end += gap + size
    base = labels.read("h").token
    change = Change(base, "", tuple(found))
    labels.save("h", change, num_frames=max(end, 1))
    document = labels.read("h", max(end, 1)).document
    assert document.segments == tuple(found)
    whole = end > 0 and not any(gap or proposed for gap, *_, proposed in rows)
    assert document.is_complete == whole
    assert (truth_of(labels, "h") is not None) == whole


@pytest.mark.parametrize(
    "given_segments",
    [
        "x",
        [[0, 4, "take"]],
        [[0, 4, "take", 0]],
        [[0, True, "take", False]],
        [[4, 4, "take", False]],
        [[0, 5, "take", False], [4, 9, "take", False]],
        [[0, 10, "take", False]],
        [[-1, 4, "take", False]],
    ],
)
def test_segments_that_are_none_are_refused(given_segments):
    with pytest.raises(InputError):
        documents.check_segments(given_segments, num_frames=FRAMES)


def test_a_folder_is_checked_before_anything_else(tmp_path):
    with pytest.raises(MissingInputError, match="does not exist"):
        open_folder(tmp_path / "none")
    with pytest.raises(MissingInputError, match="has no folder Videos"):
        open_folder(tmp_path)
    (tmp_path / "Videos" / "inner").mkdir(parents=True)
    with pytest.raises(MissingInputError, match="folders such as inner/"):
        open_folder(tmp_path)
    (tmp_path / "Videos" / "a.mp4").touch()
    (tmp_path / "labels").touch()
    with pytest.raises(InputError, match="another --label"):
        open_folder(tmp_path)
    (tmp_path / "labels").unlink()
    _, handle = open_folder(tmp_path)
    with pytest.raises(InputError, match="by another server"):
        open_folder(tmp_path)
    os.close(handle)
    (tmp_path / "mapping.txt").write_text("0 a\n2 b\n")
    folder, handle = open_folder(tmp_path)
    with pytest.raises(InputError, match="id 1 is missing"):
        Store(folder)
    os.close(handle)


def test_what_a_killed_server_was_writing_goes(labels):
    draft = labels.folder.side / f".a.json.{'0' * 16}"
    other = labels.folder.side / ".keep"
    for path in (draft, other):
        path.touch()
    Store(labels.folder)
    assert not draft.exists() and other.exists()
