"""Which annotation belongs to which video."""

import unicodedata

import pytest

from data_pipeline.annotators.segments import Annotation
from data_pipeline.layout.matching import list_videos, match
from svtas_jax.errors import InputError, MissingInputError


@pytest.fixture
def videos(tmp_path):
    """Makes empty files; only names count here."""

    def make(*names):
        for name in names:
            path = tmp_path / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return list_videos(tmp_path / "videos")

    return make


def annotation(name, source="a.csv"):
    return Annotation(name, "seconds", (), source)


def names_of(matches):
    return [video.name for video, _ in matches.pairs]


def kinds(matches):
    return [(finding.severity, finding.kind) for finding in matches.findings]


@pytest.mark.parametrize(
    "name",
    [
        *("monday", "monday.mp4", "Monday.MP4", "home/monday.mp4", "C:\\x\\monday.mov"),
        *("/media/card/home/monday.mp4", "home_monday"),
    ],
)
def test_a_video_is_found_by_any_name_it_goes_by(videos, name):
    found = match(videos("home/monday.mp4", "b.mov"), [annotation(name)], partial=False)
    assert names_of(found) == ["monday"]


def test_the_folder_tells_videos_of_one_name_apart(videos):
    made = videos("p1/cam.mp4", "p2/cam.mp4")
    assert [v.name for v in made] == ["p1_cam", "p2_cam"]
    found = match(made, [annotation("p2/cam.mp4"), annotation("p1_cam")], partial=False)
    assert not found.findings
    assert [a.video for _, a in found.pairs] == ["p1_cam", "p2/cam.mp4"]


def test_a_name_of_two_videos_is_an_error(videos):
    found = match(
        videos("p1/cam.mp4", "p2/cam.mp4"), [annotation("cam")], partial=False
    )
    assert ("error", "ambiguous video") in kinds(found)


def test_accents_may_be_written_in_two_ways(videos):
    made = videos(unicodedata.normalize("NFD", "gießen é.mp4"))
    other = annotation(unicodedata.normalize("NFC", "gießen é"))
    assert len(match([*made, *made[:0]], [other], partial=False).pairs) == 1


@pytest.mark.parametrize(
    "name, path",
    [
        ("P03_cam01_P03_cereals", "P03/cam01/P03_cereals.avi"),
        ("P03_webcam02_P03_cereals", "P03/webcam02/P03_cereals.avi"),
        ("P03_stereo01_P03_cereals", "P03/stereo/P03_cereals_ch0.avi"),
    ],
)
def test_breakfast_names_are_found(videos, name, path):
    others = "P04/cam01/P04_cereals.avi", "P03/stereo/P03_cereals_ch1.avi"
    found = match(videos(path, *others), [annotation(name)], partial=False)
    assert [v.path.as_posix().endswith(path) for v, _ in found.pairs] == [True]
    assert names_of(found) == [name]


def test_a_missing_video_is_an_error_with_a_hint(videos):
    found = match(
        videos("monday.mp4", "friday.mp4"), [annotation("mondag")], partial=False
    )
    assert kinds(found)[0] == ("error", "missing video")
    assert "is it 'monday'?" in found.findings[0].text
    found = match(videos(), [annotation("mondag")], partial=True)
    assert kinds(found)[0] == ("warning", "missing video")


def test_one_of_each_belong_together_and_it_is_said(videos):
    found = match(videos("monday.mp4"), [annotation("labels")], partial=False)
    assert names_of(found) == ["monday"]
    assert kinds(found) == [("note", "matched")]


def test_two_annotations_of_a_video_are_an_error(videos):
    found = match(
        videos("monday.mp4", "b.mp4"),
        [annotation("monday", "a.csv"), annotation("monday.mp4", "b.csv")],
        partial=False,
    )
    assert ("error", "two annotations") in kinds(found)


def test_a_video_without_annotation_is_said(videos):
    found = match(videos("a.mp4", "b.mp4"), [annotation("a")], partial=False)
    assert kinds(found) == [("warning", "unlabelled video")]


def test_hidden_files_are_no_videos(videos):
    assert [v.name for v in videos("a.mp4", "._a.mp4", ".trash/b.mp4")] == ["a"]


def test_two_endings_of_one_name_are_an_error(videos):
    with pytest.raises(InputError, match="would both be the video 'a'"):
        videos("a.mp4", "a.avi")


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(MissingInputError, match="holds no video"):
        list_videos(tmp_path)
    with pytest.raises(MissingInputError, match="does not exist"):
        list_videos(tmp_path / "no")
