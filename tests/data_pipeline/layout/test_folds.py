"""Splits: whole groups, every class on both sides if it can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.layout.folds import (
    describe_folds,
    describe_kept,
    groups_of,
    hint_at_groups,
    kept_folds,
    make_folds,
)
from svtas_jax.errors import InputError


@given(
    st.lists(st.integers(0, 8), min_size=3, max_size=40),
    st.integers(2, 5),
    st.integers(0, 9999),
)
def test_groups_stay_whole_and_no_fold_is_empty(group_of, num_folds, seed):
    groups = [f"S{g}" for g in group_of]
    if len(set(groups)) < num_folds:
        return
    frames = np.random.default_rng(seed).integers(0, 90, (len(groups), 4))
    frames[:, 0] += 1
    folds = make_folds(groups, frames, num_folds)
    assert set(folds) == set(range(num_folds))
    for group in set(groups):
        assert len({f for f, g in zip(folds, groups, strict=True) if g == group}) == 1


def test_classes_are_spread_over_the_folds():
    """Eight videos of two classes each: every fold can have all four."""
    frames = np.array([[50, 50, 0, 0], [0, 0, 50, 50]] * 4)
    folds = make_folds([str(i) for i in range(8)], frames, 4)
    assert not describe_folds(folds, frames, ("a", "b", "c", "d"))


def test_folds_are_about_equally_large():
    rng = np.random.default_rng(0)
    frames = rng.integers(10, 1000, (60, 1)) * rng.dirichlet([1] * 6, 60)
    folds = make_folds([str(i) for i in range(60)], frames, 5)
    sizes = np.array([frames[folds == fold].sum() for fold in range(5)])
    assert sizes.max() / sizes.min() < 1.1


def test_the_same_input_gives_the_same_folds():
    frames = np.random.default_rng(1).integers(0, 100, (20, 5))
    groups = [f"S{i % 7}" for i in range(20)]
    first = make_folds(groups, frames, 3)
    np.testing.assert_array_equal(first, make_folds(groups, frames, 3))


def test_videos_keep_their_fold_when_others_come():
    rng = np.random.default_rng(0)
    groups, frames = [f"S{i}" for i in range(12)], rng.integers(1, 99, (12, 3))
    before = make_folds(groups[:9], frames[:9], 3)
    tested = [
        [g for g, f in zip(groups, before, strict=False) if f == k] for k in (0, 1, 2)
    ]
    kept = kept_folds(groups, groups, tested)
    after = make_folds(groups, frames, 3, kept=kept)
    np.testing.assert_array_equal(after[:9], before)
    (said,) = describe_kept(groups, kept, tested)
    assert said.text == "9 videos stay where they were, 3 are new"


def test_other_groups_cut_anew_and_it_is_said():
    tested = [["a", "b"], ["c", "d"]]
    kept = kept_folds(list("abcd"), ["x", "y", "x", "y"], tested)
    assert kept == [None] * 4
    assert describe_kept(list("abcd"), kept, tested)[0].severity == "warning"


def test_a_class_of_one_group_is_said():
    frames = np.array([[9, 0], [9, 0], [9, 5]])
    found = describe_folds(np.array([0, 1, 2]), frames, ("take", "put"))
    assert ("warning", "class absent from train", "split 3") in [
        (f.severity, f.kind, f.where) for f in found
    ]


@pytest.mark.parametrize("num_folds", [1, 4])
def test_impossible_folds_say_what_is_possible(num_folds):
    with pytest.raises(InputError, match="3 groups of videos make 2 to 3 folds"):
        make_folds(["a", "b", "c"], np.ones((3, 2)), num_folds)


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match="All videos are of one group"):
        make_folds(["a", "a"], np.ones((2, 2)), 2)


def test_a_pattern_finds_the_group():
    names = ("S1_Tea", "S1_Jam", "S22_Tea")
    assert groups_of(names, r"(S\d+)_") == ("S1", "S1", "S22")
    assert groups_of(names, r"^S\d+") == ("S1", "S1", "S22")
    assert groups_of(names, "") == names


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("(S", "--group=.*no regular expression"),
        (r"P\d", "--group=.*does not match the video 'S1_Tea'"),
    ],
)
def test_a_wrong_pattern_is_said(pattern, message):
    with pytest.raises(InputError, match=message):
        groups_of(("S1_Tea",), pattern)


def test_names_that_hold_a_person_give_a_hint():
    (hint,) = hint_at_groups(("P03_tea", "P03_jam", "P11_tea"))
    assert r"--group='(P\d+)'" in hint.remedy
    assert groups_of(("P03_tea", "P11_tea"), r"(P\d+)") == ("P03", "P11")


@pytest.mark.parametrize("names", [("monday", "tuesday"), ("a1_x", "a2_x")])
def test_names_without_groups_give_none(names):
    assert not hint_at_groups(names)
