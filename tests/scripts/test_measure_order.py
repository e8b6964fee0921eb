"""Whether labels before tell the next one, on sequences where that is known."""

import itertools

import measure_order as order
import pytest

from data_pipeline.rendered.source import Source


def source_of(videos):
    """Returns a labelled set; a video's name begins with its person."""
    classes = tuple(sorted(set(itertools.chain(*videos.values()))))
    labels = {name: tuple(letters) for name, letters in videos.items()}
    people = {name: name[0] for name in videos}
    return Source(classes, (), {}, labels, people)


def test_a_cycle_needs_one_action_and_a_pair_of_cycles_two():
    cycle = "aabbbcc" * 20
    rows = {n: r for n, *r in order.measured(source_of({"1": cycle, "2": cycle}))}
    assert rows["nothing"][0] < 0.5
    assert rows["the last action"] == [1.0, pytest.approx(1.0, abs=0.1)]
    there_and_back = "abcb" * 20  # after b comes what was not before it
    both = source_of({"1": there_and_back, "2": there_and_back})
    rows = {n: r for n, *r in order.measured(both)}
    assert rows["the last action"][0] < 0.8 < rows["the last 2 actions"][0] == 1.0


def test_what_was_done_tells_what_is_left():
    """After x comes the one of a, b, c that was not done."""
    videos = {f"{n}": "x".join(p) for n, p in enumerate(itertools.permutations("abc"))}
    videos |= {f"{name} again": video for name, video in videos.items()}
    people = source_of(videos)
    people = Source(*(people.classes, (), {}, people.labels), {n: n for n in videos})
    rows = {n: r for n, *r in order.measured(people)}
    done = rows["the last action and all that was done"]
    assert done[0] > rows["the last action"][0] and done[1] < rows["the last action"][1]


def test_probabilities_sum_to_one():
    videos = [tuple("abcab"), tuple("bca")]
    for fit in (order.after_last(3), order.after_set):
        predict = fit(videos, "abcd")
        for before in ("a", "d", "ab", "ddd", "abca"):
            chances = predict(tuple(before))
            assert sum(chances.values()) == pytest.approx(1) and min(chances.values())


def test_lengths_are_those_of_the_segments():
    source = source_of({"1": "aaaabb", "2": "bbbbbb"})

    class Given:
        clip_frames = 8

    rows = order.lengths(source, Given)
    assert rows == [("median segment", "4", "2.0"), ("mean segment", "4", "2.0")]
