"""Names in splits, mapping and folders: none is ignored, none is read as another."""

import os
import unicodedata

import pytest

from data_pipeline import annotations, checks
from data_pipeline.video_files import VIDEO_SUFFIXES, find_video, is_video_name
from svtas_jax.errors import InputError, MissingInputError


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def entries(folder, *lines, subset="train"):
    """Writes a split of these lines and returns the names it means."""
    path = folder.root / "splits" / f"{subset}.split1.bundle"
    write(path, "".join(f"{line}\n" for line in lines))
    return annotations.split_names(folder.config, subset)


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".Mp4", ".mP4", ".M2tS"])
def test_a_video_of_any_ending_is_found(tmp_path, suffix):
    path = write(tmp_path / "Videos" / f"P1.take2{suffix}")
    assert find_video(tmp_path, "flat", "P1.take2") == path


@pytest.mark.parametrize(
    ("layout", "name", "place"),
    [
        ("flat", "a", "a"),
        ("breakfast", "P03_cam01_P03_tea", "P03/cam01/P03_tea"),
    ],
)
@pytest.mark.parametrize("others", [(".avi",), (".MP4",), (".webm", ".mPg")])
def test_a_second_video_of_a_name_is_an_error(tmp_path, layout, name, place, others):
    endings = (".mp4", *others)
    for ending in endings:
        write(tmp_path / "Videos" / f"{place}{ending}")
    with pytest.raises(InputError, match=f"there {len(endings)} times") as caught:
        find_video(tmp_path, layout, name)
    for ending in endings:
        assert f"{place}{ending}" in str(caught.value)


def test_neighbours_are_no_second_video(tmp_path):
    path = write(tmp_path / "Videos" / "a.mp4")
    for other in ("a.json", "a.b.mp4", "A.mp4", ".a.mp4", "ab.avi", "a.gif"):
        write(tmp_path / "Videos" / other)
    (tmp_path / "Videos" / "a.avi").mkdir()
    assert find_video(tmp_path, "flat", "a") == path


def test_a_file_that_comes_later_is_seen(tmp_path):
    write(tmp_path / "Videos" / "a.mp4")
    find_video(tmp_path, "flat", "a")
    write(tmp_path / "Videos" / "a.avi")
    os.utime(tmp_path / "Videos", ns=(1, 1))  # however coarse the disk's clock is
    with pytest.raises(InputError, match="there 2 times"):
        find_video(tmp_path, "flat", "a")


def test_letters_with_accents_are_found_in_either_form(tmp_path):
    path = write(tmp_path / "Videos" / f"{unicodedata.normalize('NFD', 'é')}.mp4")
    composed = unicodedata.normalize("NFC", "é")
    assert find_video(tmp_path, "flat", composed) == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("S1_Tee", "missing: no .*S1_Tee with an ending of .mp4.*mean 'S1_Tea'"),
        ("S1_Tea.mp4", "its name in the split is S1_Tea"),
        ("no folder/x", "is missing"),
    ],
)
def test_a_missing_video_is_named_with_a_guess(tmp_path, name, message):
    write(tmp_path / "Videos" / "S1_Tea.mp4")
    with pytest.raises(MissingInputError, match=message):
        find_video(tmp_path, "flat", name)


def test_what_is_a_video_is_known_by_its_ending():
    assert is_video_name("a.b.MOV") and not is_video_name("P1.take2")


@pytest.mark.parametrize("line", ["a", "a.txt", "a.avi", "a.AVI", "a.avi.txt"])
def test_a_line_may_name_the_file(folder, line):
    folder.add("a", 8)
    assert entries(folder, line) == ("a",)
    (record,) = annotations.read_split(folder.config, "train")
    assert record.name == "a" and record.video_path.endswith("a.avi")


def test_names_with_points_are_names(folder):
    folder.add("P1.take2", 8)
    folder.add("b.mp4", 8, file="b.mp4.avi")
    assert entries(folder, "P1.take2.txt", "b.mp4") == ("P1.take2", "b.mp4")
    records = annotations.read_split(folder.config, "train")
    assert [r.name for r in records] == ["P1.take2", "b.mp4"]


def test_a_line_of_the_breakfast_layout_may_name_the_file(folder):
    folder.config.layout = "breakfast"
    folder.add("P03_cam01_P03_tea", 8, file="P03/cam01/P03_tea.avi")
    assert entries(folder, "P03_cam01_P03_tea.avi") == ("P03_cam01_P03_tea",)


def test_a_line_may_name_the_features(folder):
    folder.config.features = "features"
    assert entries(folder, "a.npy", "b.mp4", "c.take2") == ("a", "b", "c.take2")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a.mp4",), "lists a.mp4, but the video is .*a.avi; write a.txt"),
        (("b.mp4",), "video of 'b' is missing"),
        (("a.txt", "a.avi"), "a and a.avi are the same video"),
        (("./a.txt",), "'./a' is no plain name"),
        (("../a",), "'../a' is no plain name"),
        (("/data/a",), "'/data/a' is no plain name"),
        (("sub//a",), "'sub//a' is no plain name"),
    ],
)
def test_a_line_that_could_mean_something_else_is_an_error(folder, lines, message):
    folder.add("a", 8)
    with pytest.raises(InputError, match=message):
        entries(folder, *lines)


def test_labels_under_the_name_of_the_file_are_named(folder):
    folder.add("S1_Tea", 8)
    labels = folder.root / "groundTruth"
    (labels / "S1_Tea.txt").rename(labels / "S1_Tea.avi.txt")
    message = "S1_Tea.txt does not exist. Is it 'S1_Tea.avi.txt'"
    with pytest.raises(MissingInputError, match=message):
        annotations.read_split(folder.config, "train")


def test_two_files_of_a_split_must_agree(folder):
    names = entries(folder, "a", "b")
    other = write(folder.root / "splits" / "train_split1.txt", "a.txt\nb.txt\n")
    assert annotations.split_names(folder.config, "train") == names
    write(other, "a.txt\n")
    with pytest.raises(InputError, match="train_split1.txt list other videos"):
        annotations.split_names(folder.config, "train")


def test_classes_that_differ_in_case_are_warned_of_once(tmp_path, caplog):
    path = write(tmp_path / "mapping.txt", "0 Take\n1 put\n2 take\n")
    for _ in range(2):
        assert annotations.read_mapping(path) == ("Take", "put", "take")
    (record,) = caplog.records
    assert "'Take' and 'take' differ only in upper and lower" in record.getMessage()


def test_one_file_under_two_names_is_one_video(folder):
    path = folder.add("a", 8, subsets=("train",))
    folder.add("b", 8, subsets=("test",)).unlink()
    (path.parent / "b.avi").symlink_to(path)
    train, test = (
        annotations.read_split(folder.config, part) for part in ("train", "test")
    )
    with pytest.raises(InputError, match="1 videos in both train and test, such as"):
        checks.check_disjoint(train, test, split=1)


def test_test_videos_that_are_trained_on_are_warned_of(folder, caplog):
    folder.add("a", 8)
    folder.add("b", 8, subsets=("train",))
    records = annotations.read_split(folder.config, "train")
    checks.warn_of_shared(records, folder.config)
    assert "split 1 has 1 of its 1 test videos in train, too, such as a" in caplog.text
    caplog.clear()
    (folder.root / "splits" / "test.split1.bundle").unlink()
    checks.warn_of_shared(records, folder.config)
    assert not caplog.records
