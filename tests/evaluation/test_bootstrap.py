"""Tolerances: intervals of 2,000 resamples have a spread of a few percent of their
width, so that widths are compared within 8 %."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported import evaluated, random_report

from svtas_jax.evaluation import bootstrap
from svtas_jax.evaluation.details import from_runs
from svtas_jax.structs import IGNORE_LABEL


def means(values):
    """Statistics whose one metric is the mean of the videos' values."""
    values = np.asarray(values, np.float64)
    counts = np.ones((len(values), 1))
    pairs = np.stack([values, np.ones(len(values))], axis=1)
    return bootstrap.Statistics({"mean": pairs}, counts, counts, counts, {})


@pytest.mark.parametrize("preset", ["svtas", "ms-tcn", "asformer"])
def test_the_sums_of_all_videos_give_every_metric_again(preset):
    report, details, _ = random_report(12, preset=preset)
    found = bootstrap.own_metrics(bootstrap.statistics_of(details))
    expected = {**report.online["metrics"], **report.metrics}
    assert set(expected) - set(found) <= {"map_50", "map_avg", "frame_map"}
    assert set(found) <= set(expected)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-9), name


def test_a_resample_is_the_evaluation_of_the_drawn_videos():
    _, details, truths = random_report(6, seed=1)
    statistics = bootstrap.statistics_of(details)
    weights = np.array([[3, 0, 1, 0, 2, 0]])
    found = {n: v[0] for n, v in statistics.compute(weights).items()}
    names = list(truths)
    drawn = [n for n, w in zip(names, weights[0], strict=True) for _ in range(w)]
    again, _ = evaluated(
        {f"{i}": truths[n] for i, n in enumerate(drawn)},
        {f"{i}": from_runs(details.videos[n].prediction) for i, n in enumerate(drawn)},
    )
    expected = {**again.online["metrics"], **again.metrics}
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-9, nan_ok=True), name


def test_videos_without_labels_count_nowhere():
    truths = {"a": np.zeros(40, np.int32), "b": np.full(30, IGNORE_LABEL, np.int32)}
    _, details = evaluated(truths, {"a": truths["a"], "b": np.ones(30)})
    assert bootstrap.statistics_of(details).num_videos == 1


def test_a_mean_has_the_interval_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(50, 10, 200)
    (low, high) = bootstrap.intervals(means(values))["mean"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert high - low == pytest.approx(2 * half, rel=0.08)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1 * half)


def test_intervals_hold_the_true_value_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        values = rng.normal(70, 8, 40)
        low, high = bootstrap.intervals(means(values), seed=seed, num_resamples=400)[
            "mean"
        ]
        hits += low <= 70 <= high
    # 95 % of 200 less the known shortfall of percentiles at 40 videos; 3 sigma are 9.
    assert 178 <= hits <= 198


def test_intervals_are_the_same_each_time():
    statistics = bootstrap.statistics_of(random_report(8)[1])
    assert bootstrap.intervals(statistics) == bootstrap.intervals(statistics)
    assert bootstrap.intervals(statistics, seed=1) != bootstrap.intervals(statistics)


def test_equal_videos_have_an_interval_without_width():
    low, high = bootstrap.intervals(means(np.full(9, 61.5)))["mean"]
    assert low == pytest.approx(61.5) == high


def test_few_videos_have_no_interval():
    assert not bootstrap.intervals(means([1, 2, 3, 4]))
    assert bootstrap.intervals(means([1, 2, 3, 4, 5]))


def test_a_metric_that_most_resamples_lack_has_no_interval():
    pairs = np.zeros((20, 2))
    pairs[0] = 1  # the only video with, say, a true segment
    ones = np.ones((20, 1))
    statistics = bootstrap.Statistics({"rare": pairs}, ones, ones, ones, {})
    assert "rare" not in bootstrap.intervals(statistics)


@given(
    st.lists(st.tuples(st.floats(0, 9), st.integers(0, 3)), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_quantiles_of_counted_values_are_numpys(pairs, share):
    values, counts = (np.array(column) for column in zip(*sorted(pairs), strict=True))
    found = bootstrap._quantiles(values, counts[None], [share])[0, 0]
    repeated = np.repeat(values, counts)
    if len(repeated):
        assert found == pytest.approx(np.quantile(repeated, share))
    else:
        assert np.isnan(found)


def p_of(a, b, seed=0, num_resamples=400):
    weights = bootstrap.resample(len(a), seed=seed, num_resamples=num_resamples)
    differences = means(b).compute(weights)["mean"] - means(a).compute(weights)["mean"]
    return bootstrap.p_value(differences, np.mean(b) - np.mean(a), len(a))


def test_p_values_are_uniform_where_runs_do_not_differ():
    rng = np.random.default_rng(0)
    found = []
    for seed in range(300):
        level = rng.normal(70, 15, 30)  # of the videos: shared by the runs
        a, b = level + rng.normal(0, 4, (2, 30))
        found.append(p_of(a, b, seed))
    # The largest gap to the uniform distribution's; 1.63 / sqrt(300) is 1 % likely.
    ranks = np.arange(1, 301) / 300
    assert np.abs(np.sort(found) - ranks).max() < 1.63 / np.sqrt(300)
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.10


def test_p_values_find_a_difference_that_pairs_show():
    rng = np.random.default_rng(0)
    level = rng.normal(70, 15, 30)
    a, b = level + rng.normal(0, 1, 30), level + rng.normal(2, 1, 30)
    assert p_of(a, b) < 0.01  # 15 points between videos do not hide 2 between runs
    assert p_of(a, a) == 1.0


def test_a_metric_without_a_value_has_no_p_value():
    nothing = np.full(100, np.nan)
    assert np.isnan(bootstrap.p_value(nothing, 1.0, 9))
    assert np.isnan(bootstrap.p_value(np.zeros(100), float("nan"), 9))
