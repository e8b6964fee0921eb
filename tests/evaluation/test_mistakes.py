import dataclasses

import numpy as np
import pytest
from reported import evaluated

from svtas_jax.evaluation import mistakes
from svtas_jax.evaluation.mistakes import Border, Stretch
from svtas_jax.structs import IGNORE_LABEL


def details_of_runs(truth, prediction):
    truth, prediction = (
        np.repeat(*zip(*runs, strict=True)).astype(np.int32)
        for runs in (truth, prediction)
    )
    return evaluated({"tea": truth}, {"tea": prediction}, online=False)[1]


def errors(truth, prediction):
    return mistakes.border_errors(
        details_of_runs(truth, prediction).videos["tea"], (3,)
    )


def test_errors_are_negative_where_the_label_comes_too_early():
    found = errors([(3, 20), (0, 30), (3, 20)], [(3, 15), (0, 42), (3, 13)])
    assert found == [
        Border(0, True, pytest.approx(-0.5)),
        Border(0, False, pytest.approx(0.7)),
    ]


def test_borders_of_the_video_are_known_beforehand():
    assert errors([(0, 30), (1, 30)], [(0, 25), (1, 35)]) == [
        Border(0, False, pytest.approx(-0.5)),
        Border(1, True, pytest.approx(-0.5)),
    ]


def test_borders_beside_unlabelled_frames_are_left_out():
    truth = [(3, 9), (IGNORE_LABEL, 5), (0, 20), (3, 9)]
    found = errors(truth, [(3, 14), (0, 22), (3, 7)])
    assert found == [Border(0, False, pytest.approx(0.2))]


def test_the_best_segment_answers_and_none_answers_another_class():
    truth = [(3, 10), (0, 40), (3, 10)]
    assert errors(truth, [(0, 8), (3, 4), (0, 40), (3, 8)])[0].error == pytest.approx(
        0.2
    )
    assert errors(truth, [(3, 10), (1, 40), (3, 10)]) == []
    assert errors(truth, [(3, 60)]) == []
    assert errors([(3, 60)], [(0, 60)]) == []
    assert errors(truth, [(3, 10), (0, 3), (3, 47)]) == []  # IoU below 0.1


def test_longest_stretches_come_first():
    details = details_of_runs(
        [(0, 30), (1, 30), (IGNORE_LABEL, 30)], [(0, 10), (2, 40), (1, 30), (0, 10)]
    )
    found = mistakes.longest_stretches(details, 5)
    assert found == [Stretch("tea", 10, 30, 0, 2), Stretch("tea", 30, 50, 1, 2)]
    assert found[0].middle == 20
    assert mistakes.longest_stretches(details, 1) == found[:1]


def test_lengths_leave_the_background_out():
    details = details_of_runs([(0, 30), (3, 30)], [(0, 10), (1, 20), (3, 30)])
    np.testing.assert_allclose(mistakes.lengths(details, predicted=False), [3])
    np.testing.assert_allclose(mistakes.lengths(details, predicted=True), [1, 2])


def test_without_a_rate_frames_are_counted():
    details = details_of_runs([(3, 5), (0, 5)], [(3, 4), (0, 6)])
    assert mistakes.unit_of(details) == "s"
    video = dataclasses.replace(details.videos["tea"], fps=0.0)
    details = dataclasses.replace(details, videos={"tea": video})
    assert mistakes.unit_of(details) == "frames"
    assert [e.error for e in mistakes.border_errors(video, (3,))] == [-1.0]
