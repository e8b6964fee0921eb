"""Whole groups are held out, and what a pattern does not say is an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import checks, groups
from svtas_jax.errors import InputError
from svtas_jax.runtime import configs
from svtas_jax.structs import VideoRecord

PERSON = r"(S\d+)"
# No deadline: a busy machine is no error.
examples = settings(max_examples=50, deadline=None)


def _records(*names):
    return tuple(VideoRecord(name, "", np.zeros(1, int), 15) for name in names)


def _numbered(count):
    return _records(*(f"v{i}" for i in range(count)))


def _names(records):
    return [record.name for record in records]


@pytest.mark.parametrize(
    ("count", "share", "held"), [(10, 0.2, 2), (2, 0.01, 1), (2, 0.99, 1), (15, 0.2, 3)]
)
def test_hold_out_splits_once_and_for_all(count, share, held):
    records = _numbered(count)
    train, validation = groups.hold_out(records, share, seed=3)
    assert len(validation) == held and len(train) == count - held
    assert sorted(_names((*train, *validation))) == sorted(_names(records))
    assert groups.hold_out(records, share, seed=3) == (train, validation)


@examples
@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_single_videos_are_held_out_as_ever(count, share, seed):
    """Runs that began before there were groups resume with the same videos."""
    num_held = min(max(1, round(share * count)), count - 1)
    held = set(np.random.default_rng(seed).permutation(count)[:num_held].tolist())
    _, validation = groups.hold_out(_numbered(count), share, seed)
    assert _names(validation) == [f"v{i}" for i in range(count) if i in held]


def test_hold_out_depends_on_the_seed():
    choices = [groups.hold_out(_numbered(20), 0.2, seed)[1] for seed in range(5)]
    assert len({tuple(_names(choice)) for choice in choices}) > 1


def test_hold_out_of_a_single_video_is_an_input_error():
    with pytest.raises(InputError, match="1 video.*selection=test"):
        groups.hold_out(_numbered(1), 0.2, seed=0)


@examples
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 20),
)
def test_whole_groups_are_held_out(sizes, share, seed):
    videos = [f"S{g}_v{i}" for g, size in enumerate(sizes) for i in range(size)]
    rng = np.random.default_rng(seed)
    records = _records(*(videos[i] for i in rng.permutation(len(videos))))
    train, held = groups.hold_out(records, share, seed, PERSON)
    assert groups.hold_out(records, share, seed, PERSON) == (train, held)
    assert train and held and len(train) + len(held) == len(records)
    persons = [{name.split("_")[0] for name in _names(part)} for part in (train, held)]
    assert not persons[0] & persons[1]
    for part in (train, held):  # in their order
        assert _names(part) == [n for n in _names(records) if n in set(_names(part))]
    # One group more, or one less, is no closer.
    wanted, sizes_of = (
        round(share * len(records)),
        [sizes[int(p[1:])] for p in persons[1]],
    )
    if len(persons[1]) > 1:
        assert any(
            abs(len(held) - size - wanted) >= abs(len(held) - wanted)
            for size in sizes_of
        )
    if len(persons[0]) > 1:
        assert any(
            abs(len(held) + sizes[int(p[1:])] - wanted) >= abs(len(held) - wanted)
            for p in persons[0]
        )


def test_equal_groups_come_closest_to_the_share():
    records = _records(*(f"S{g}_v{i}" for g in range(10) for i in range(3)))
    for share, num_groups in ((0.01, 1), (0.2, 2), (0.34, 3), (0.36, 4), (0.99, 9)):
        assert len(groups.hold_out(records, share, 0, PERSON)[1]) == 3 * num_groups


def test_every_group_can_be_held_out():
    records = _records(*(f"S{g}_v{i}" for g in range(3) for i in range(2)))
    held = {groups.hold_out(records, 0.2, s, PERSON)[1][0].name for s in range(20)}
    assert held == {"S0_v0", "S1_v0", "S2_v0"}


def test_one_group_cannot_be_held_out():
    with pytest.raises(InputError, match="all 2 videos.*'S1'.*validation_group= holds"):
        groups.hold_out(_records("S1_a", "S1_b"), 0.2, 0, PERSON)


def test_names_that_do_not_match_are_named():
    for names, said in (
        (["S1_a", "b"], "does not match the video 'b'"),
        (
            ["S1_a", *"bcdef"],
            "does not match 5 of the 6 videos, such as 'b', 'c', 'd',",
        ),
        (["a", "b"], "does not match any of the 2 videos, such as 'a', 'b'"),
    ):
        with pytest.raises(InputError, match=said) as told:
            groups.hold_out(_records(*names), 0.2, 0, PERSON)
        assert "config.train.validation_group='(S" in str(told.value)


def test_all_brackets_name_the_group():
    names = ("S1_monday_a", "S1_tuesday_a", "S1_monday_b")
    found = groups.groups_of(names, r"(S\d)_([a-z]+)_", "--group")
    assert found == ("S1_monday", "S1_tuesday", "S1_monday")
    either = groups.groups_of(("S1_a", "P2_a"), r"(S\d)|(P\d)", "--group")
    assert either == ("S1", "P2")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["S1"], "S1"),
        (["S2", "S1", "S2"], "S1 and S2"),
        (["a", "b", "c"], "a, b and c"),
        ("abcdefgh", "a, b, c and 5 others"),
    ],
)
def test_groups_are_listed(names, said):
    assert groups.listed(names) == said


def test_a_group_in_train_and_test_is_warned_of(folder, caplog):
    for name in ("S1_a", "S2_a"):
        folder.add(name, 4, subsets=("train",))
    folder.add("S3_a", 4, subsets=("test",))
    folder.add("other", 4, subsets=("test",))
    records = _records("S1_a", "S2_a")
    checks.warn_of_shared_groups(records, folder.config, PERSON)
    assert not caplog.records
    folder.add("S2_b", 4, subsets=("test",))
    checks.warn_of_shared_groups(records, folder.config, "")
    assert not caplog.records
    checks.warn_of_shared_groups(records, folder.config, PERSON)
    assert "split 1 has videos of S2 in train and in test" in caplog.text


PUBLIC = {
    "gtea": ("S1_Cheese_C1", "S1"),
    "50salads": ("rgb-01-2", "01"),
    "egtea": ("OP01-R01-PastaSalad", "OP01"),
    "breakfast": ("P03_cam01_P03_cereals", "P03"),
}


@pytest.mark.parametrize("name", [n for n in configs.names() if "demo" not in n])
def test_configs_of_public_data_hold_out_people(name):
    video, person = PUBLIC[name.split("_")[0]]
    pattern = configs.get_config(name).train.validation_group
    assert groups.groups_of((video,), pattern, "") == (person,)
