import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported import random_report

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import details
from svtas_jax.evaluation.presets import preset_of
from svtas_jax.evaluation.tally import Tally

HOSTILE = '"</script>\n{'


@given(st.lists(st.integers(-2, 3)))
def test_runs_and_labels_are_the_same(labels):
    runs = details.to_runs(np.array(labels, np.int32))
    assert details.from_runs(runs).tolist() == labels
    assert (runs[:, 1] > 0).all() and (np.diff(runs[:, 0]) != 0).all()


def test_what_is_written_is_read(tmp_path):
    _, written, truths = random_report(3)
    written.videos[HOSTILE] = written.videos["video 0"]
    details.write_details(written, tmp_path)
    read = details.read_details(tmp_path, again="again")
    assert (read.class_names, read.background) == (written.class_names, (3,))
    assert list(read.videos) == [*truths, HOSTILE]
    for name, video in written.videos.items():
        for field, value in vars(video).items():
            found = getattr(read.videos[name], field)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(found, value)
                assert found.dtype == value.dtype
            else:
                assert found == value
    assert len((tmp_path / "videos.json").read_text().splitlines()) == 6


def test_a_report_without_facts_of_videos_says_what_to_do(tmp_path):
    with pytest.raises(MissingInputError, match="Evaluate again: evaluate --workdir=x"):
        details.read_details(tmp_path, again="evaluate --workdir=x")


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda c: c.pop("videos"), "damaged"),
        (lambda c: c["videos"]["video 0"].pop("truth"), "damaged"),
        (lambda c: c.update(format="x"), "damaged"),
        (lambda c: c.update(format=99), "has format 99"),
    ],
)
def test_damage_is_one_message(tmp_path, change, reason):
    path = details.write_details(random_report(2)[1], tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=reason):
        details.read_details(tmp_path, again="x")
    path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        details.read_details(tmp_path, again="x")


def kept(num_frames, **options):
    truth = np.zeros(num_frames, np.int32)
    none = Tally.zero(preset_of("svtas"), ("a", "b"), background=(), rates=(10.0,))
    counts = none.add(truth, truth, None, fps=10.0)
    return details.details_of(truth, truth, counts, fps=10.0, **options)


def test_confidence_is_kept_in_parts_of_the_video():
    few = kept(4, confidence=np.array([0.0, 0.5, 1.0, 0.251]))
    assert few.confidence.tolist() == [0, 50, 100, 25]
    many = kept(1000, confidence=np.linspace(0, 1, 1000)).confidence
    assert len(many) == 240 and many[0] == 0 and many[-1] == 100
    assert not len(kept(4).confidence)


def test_times_follow_the_frames_of_a_variable_rate():
    assert kept(20).time_of(5) == 0.5
    slow = np.concatenate([np.arange(500) / 10, 50 + np.arange(501) / 2])
    video = kept(1000, times_s=slow)
    for frame in (0, 250, 499, 700, 1000):
        assert video.time_of(frame) == pytest.approx(slow[frame], abs=1e-6)
    long = kept(9000, times_s=np.linspace(0, 300, 9001) ** 1.5)
    assert len(long.times_s) == 1001
    assert long.time_of(4567) == pytest.approx((4567 / 30) ** 1.5, abs=0.01)


def test_only_files_have_a_path():
    assert kept(4, path="a.mp4").path == os.path.abspath("a.mp4")
    assert kept(4).path == ""
