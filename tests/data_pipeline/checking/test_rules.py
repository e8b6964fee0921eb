"""What training refuses is an error here, whatever the files hold."""

import pathlib
import re
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline import annotations, video
from data_pipeline.checking import (
    dataset,
    facts,
    label_rules,
    page,
    report,
    scan,
    video_rules,
)
from data_pipeline.checking.findings import Finding, in_order
from data_pipeline.checking.kinds import KINDS, Severity
from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.structs import Segment

WORDS = st.sampled_from(["take", "Take", "take ", "", "0", "a.txt", "b", "b.avi", "ä"])
LINES = st.lists(st.one_of(WORDS, st.text(max_size=4)), max_size=5)
MAPPINGS = st.lists(
    st.sampled_from(["0 take", "1 open", "1 take", "2 put", "3 x", "x", "", "1  Take"]),
    max_size=4,
)


def is_refused(data_config, subset):
    try:
        annotations.read_split(data_config, subset)
    except InputError:
        return True
    return False


@pytest.fixture(scope="module")
def small(tmp_path_factory, checked_set):
    """Two videos of features, so that nothing is decoded."""
    data = checked_set(tmp_path_factory.mktemp("small"))
    data.data.features = "features"
    (data.root / "features").mkdir()
    for name in "ab":
        np.save(data.root / "features" / f"{name}.npy", np.ones((4, 3), "f4"))
    return data


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(MAPPINGS, st.lists(LINES, min_size=4, max_size=4), st.booleans(), st.data())
def test_what_training_refuses_is_an_error(small, mapping, texts, is_fine, draw):
    if is_fine:  # else hardly any example would be without an error
        mapping, texts[:2] = (
            ["0 take", "1 open"],
            [["take", "take", "open", "open"]] * 2,
        )
        texts[2:] = draw.draw(st.sampled_from([["a"], ["b"]])), ["b.txt"]
    small.write("mapping.txt", mapping)
    for name, lines in zip(
        ("groundTruth/a.txt", "groundTruth/b.txt", "splits/train.split1.bundle",
         "splits/test.split1.bundle"), texts, strict=True
    ):  # fmt: skip
        lines = [line.encode("utf-8", "replace").decode() for line in lines]
        small.write(name, lines)
    examined = small.examine()
    assert page.render(examined) and report.text(examined)
    refused = [is_refused(small.data, subset) for subset in dataset.SUBSETS]
    assert examined.has_errors or not any(refused)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv", "ts", "mpg"])
def test_no_scratch_ends_the_check(damaged, shoot, ending):
    """Bytes overwritten, inserted, and left out at random."""
    damaged.video("S1_a").unlink()
    path = damaged.root / "Videos" / f"S1_a.{ending}"
    codec = {"avi": "mpeg4", "mpg": "mpeg1video"}.get(ending, "libx264")
    rate = 25 if ending == "mpg" else 15
    whole = shoot(path, codec=codec, options={}, rate=rate).read_bytes()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        held = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            place, size = rng.integers(len(held) - 40), rng.integers(1, 40)
            new = rng.bytes(rng.choice([0, size]))
            held[place : place + rng.choice([0, size])] = new
        path.unlink()
        path.write_bytes(held)
        examined = damaged.examine()
        assert examined.has_errors or not is_refused(damaged.data, "train"), seed


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("interl.mp4", {"interlaced"}),
        ("coverfirst.mkv", {"cover_picture"}),
        ("gap.mp4", {"time_gap", "header_rate"}),
        ("half.mp4", set()),
        ("trim.mp4", {"edit_list"}),
        ("vfr.mp4", {"variable_rate"}),
        ("browser1k.webm", {"variable_rate"}),
    ],
)
def test_files_from_the_field(file, kinds):
    path = pathlib.Path(__file__).parents[1] / "cases" / file
    found = scan.scan(facts.Job("a", str(path)))
    assert found.num_frames == video.count_frames(path)
    labels = np.repeat([0, 1], [30, found.num_frames - 30]).astype(np.int32)
    config = default_config().data
    config.resize = (96, 128)
    data = dataset.DataSet(
        *(config, path.parent, ("take", "put"), 2, {"a": labels}, {}, {"a": path})
    )
    assert {f.kind for f in video_rules.check(data, {"a": found})} == kinds


def test_what_nobody_waits_for_is_not_decoded(good):
    """As where the user interrupts the command."""
    path, ticks = good.video("S1_a"), []
    jobs = [facts.Job(str(n), str(path)) for n in range(50)]
    scanner = scan.in_threads(2, ticks.append)
    scans = iter(scanner(jobs))
    next(scans)
    scans.close()
    assert 45 <= len(ticks) < 20 * 45
    assert len(list(scanner(jobs[:3]))) == 3


@given(st.integers(0, 99), st.integers(1, 99), st.integers(1, 20))
def test_sampled_frames_are_those_of_the_stride(start, length, stride):
    segment = Segment(0, start, start + length)
    seen = [n for n in range(start, start + length) if n % stride == 0]
    assert label_rules.sampled(segment, stride) == len(seen)


def test_the_worst_comes_first_and_nothing_twice():
    note = Finding("rotated", "b", "x")
    warning = Finding("flicker", "a", "x", frames=(9, 10))
    earlier = Finding("flicker", "a", "x", frames=(3, 4))
    error = Finding("no_labels", "z", "x")
    assert in_order([note, warning, earlier, error, note]) == (
        *(error, earlier, warning, note),
    )


def test_every_kind_says_what_to_do():
    for kind in KINDS.values():
        assert kind.severity in Severity
        assert kind.rule.endswith(".") and kind.remedy[0].isupper()


def test_the_docs_name_every_kind():
    text = (pathlib.Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
    table = text.split("## Checking a data set")[1]
    columns = list(Severity)
    for line in table.split("| kinds |")[1].split("\n\n")[0].splitlines()[2:]:
        for severity, cell in zip(columns, line.split("|")[2:], strict=False):
            for kind in re.findall(r"`(\w+)`", cell):
                assert KINDS[kind].severity == severity, kind
    assert not [kind for kind in KINDS if f"`{kind}`" not in table]


def test_a_missing_folder_is_the_usages_fault(damaged):
    shutil.rmtree(damaged.root)
    with pytest.raises(InputError, match="does not exist"):
        damaged.examine()
