"""Data without video files of their own: features, and what was prepared."""

import pathlib

import numpy as np
import pytest

from data_pipeline.checking import page, report
from data_pipeline.checking.kinds import Severity
from data_pipeline.prepared import builder, workers

# TFDS reads its own description through a call that newer protobuf warns of.
pytestmark = pytest.mark.filterwarnings("ignore:label:DeprecationWarning")


def kinds_of(data):
    examined = data.examine()
    assert page.render(examined) and report.as_json(examined)
    return {f.kind: f"{f.where}: {f.what}" for f in examined.findings}


@pytest.fixture
def features(damaged):
    """A data set of features, whose videos are not there."""
    damaged.data.features = "features"
    (damaged.root / "features").mkdir()
    for number, path in enumerate(sorted((damaged.root / "Videos").iterdir())):
        array = np.random.default_rng(number).normal(size=(45, 7))
        np.save(damaged.root / "features" / f"{path.stem}.npy", array.astype("f4"))
        path.unlink()
    return damaged


def test_good_features_have_a_note_on_what_is_not_looked_at(features):
    found = kinds_of(features)
    assert found.keys() == {"not_examined"} and "no pictures" in found["not_examined"]


def nothing(path):
    path.unlink()


def not_finite(path):
    array = np.load(path)
    array[3, 2] = np.nan
    np.save(path, array)


@pytest.mark.parametrize(
    ("damage", "kind", "text"),
    [
        (nothing, "no_video", "there is no features/S1_a"),
        (not_finite, "bad_features", "not finite, the first at (3, 2)"),
        (lambda p: p.write_bytes(b"abc"), "bad_features", "not an .npy file"),
        (lambda p: np.save(p, np.zeros((9, 9, 9))), "bad_features", "shape (9, 9, 9)"),
        (lambda p: np.save(p, np.ones((300, 7), "f4")), "bad_features", "45 labels"),
        (lambda p: np.save(p, np.ones((45, 6), "f4")), "bad_features", "width"),
        (
            lambda p: np.save(p.with_name("new.npy"), np.ones((45, 7), "f4")),
            "unlabelled_video",
            "new.npy",
        ),
    ],
)
def test_damaged_features_are_found(features, damage, kind, text):
    damage(features.root / "features" / "S1_a.npy")
    assert text in kinds_of(features)[kind]


@pytest.fixture
def prepared(damaged, request):
    """The same data, prepared; the videos are gone."""
    output = damaged.root.parent / "prepared"
    builder.prepare(
        damaged.data,
        output,
        encoding=builder.make_encoding(damaged.data, request.param),
        mapper=workers.in_processes(1),
        versions={"svtas_jax": "0"},
    )
    damaged.root = output
    damaged.data.root = str(output)
    return damaged


@pytest.mark.parametrize("prepared", ["jpeg", "video"], indirect=True)
def test_prepared_data_are_decoded(prepared):
    examined = prepared.examine()
    assert [f.kind for f in examined.findings] == ["not_examined"]
    facts = report.as_json(examined)
    assert [video["frames"] for video in facts["videos"]] == [45] * 6
    assert page.render(examined).count("data:image/jpeg") == 2 * 24


@pytest.mark.parametrize("prepared", ["jpeg"], indirect=True)
def test_damaged_records_are_found(prepared):
    path = sorted(pathlib.Path(prepared.root).glob("*.array_record*"))[0]
    content = bytearray(path.read_bytes())
    content[100:] = bytes(len(content) - 100)
    path.write_bytes(content)
    assert "cannot be read" in kinds_of(prepared)["damaged_video"]
    path.write_bytes(content[:-1])
    assert "instead of" in kinds_of(prepared)["refused"]


@pytest.mark.parametrize("prepared", ["jpeg"], indirect=True)
def test_what_does_not_fit_prepared_data_is_found(prepared):
    prepared.data.split = 2
    assert "split 2 was not prepared" in kinds_of(prepared)["no_split"]
    prepared.data.update(split=1, frame_stride=3)
    assert "not a multiple of 2" in kinds_of(prepared)["refused"]
    (prepared.root / "videos.json").write_text("{", encoding="utf-8")
    found = prepared.examine().findings
    assert [f.severity for f in found if f.kind == "refused"] == [Severity.ERROR]


def test_the_folders_of_breakfast_are_searched(damaged):
    damaged.data.layout = "breakfast"
    videos, labels = (damaged.root / name for name in ("Videos", "groundTruth"))
    moved = {
        "S1_a": ("P03_cam01_P03_milk", "P03/cam01/P03_milk.mp4"),
        "S3_a": ("P04_stereo01_P04_milk", "P04/stereo/P04_milk_ch0.mp4"),
        "S1_b": ("", "P04/stereo/P04_milk_ch1.mp4"),  # as nobody labelled it
        "S2_a": ("", "P05/cam01/P05_milk.mp4"),
    }
    for name, (label, file) in moved.items():
        (videos / file).parent.mkdir(parents=True, exist_ok=True)
        (videos / f"{name}.mp4").rename(videos / file)
        if label:
            (labels / f"{name}.txt").rename(labels / f"{label}.txt")
    for name in ("S1_b", "S2_a", "S2_b", "S3_b"):
        (labels / f"{name}.txt").unlink()
        (videos / f"{name}.mp4").unlink(missing_ok=True)
    damaged.write("splits/train.split1.bundle", ["P03_cam01_P03_milk.txt"])
    damaged.write("splits/test.split1.bundle", ["P04_stereo01_P04_milk.txt"])
    found = kinds_of(damaged)
    assert found.pop("unlabelled_video").startswith("Videos/P05/cam01/P05_milk.mp4")
    assert found.keys() == {"rare_class"}


@pytest.fixture
def elsewhere(damaged, tmp_path):
    """A data set whose videos.txt says where its videos are."""
    folder = (damaged.root / "Videos").rename(tmp_path / "card")
    lines = [f"{path.stem}\t{path}\n" for path in sorted(folder.iterdir())]
    (damaged.root / "videos.txt").write_text("".join(lines), encoding="utf-8")
    return damaged, folder


def test_videos_may_be_elsewhere(elsewhere):
    data, folder = elsewhere
    assert {"no_video", "missing_file", "refused"}.isdisjoint(kinds_of(data))
    next(folder.iterdir()).unlink()
    assert "no_video" in kinds_of(data)


def test_a_damaged_list_of_videos_is_said_once(elsewhere):
    data, _ = elsewhere
    (data.root / "videos.txt").write_text("S1_a without a path\n", encoding="utf-8")
    assert "videos.txt, line 1" in kinds_of(data)["refused"]
