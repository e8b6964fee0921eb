"""The measurement of live streams."""

import pytest

from svtas_jax.cost import engines, live
from svtas_jax.errors import InputError


@pytest.fixture
def config(tiny):
    config = tiny.config("sete")
    config.model.causal = True
    return config


def test_cameras_are_measured_from_picture_to_label(config, tiny, monkeypatch):
    monkeypatch.setattr(live, "_SETTLING_S", 0.5)
    monkeypatch.setattr(engines, "build_model", lambda *_: tiny.model(causal=True))
    run = engines.random_run(config)
    figures = live.measure_cameras(live.opener(run), 2, seconds=2.0)
    # 30 pictures of each camera, of which every second one is a step.
    assert 0 < figures.steps + figures.dropped <= 2 * 15
    assert set(figures.latency_ms) == set(live.PARTS)
    parts = [figures.latency_ms[part]["p50"] for part in live.PARTS]
    assert all(part >= 0 for part in parts)
    assert parts[-1] >= max(parts[:-1])
    assert figures.real_time_factor > 0
    text = "\n".join(live.describe([figures], run))
    assert "every 133 ms" in text and "cameras keep up" in text


@pytest.mark.parametrize("most", [0, 1, 5, 16, 23])
def test_the_most_cameras_that_keep_up_are_found(monkeypatch, most):
    def measure(open_session, count, *, seconds):
        latency = {"total": {"p99": 1.0}}
        return live.LiveFigures(count, latency, 1.0, 1, 0, keeps_up=count <= most)

    monkeypatch.setattr(live, "measure_cameras", measure)
    found = live.most_cameras(lambda count: None, seconds=1.0)
    best = max((row.cameras for row in found if row.keeps_up), default=0)
    assert best <= most <= best + max(0, best // 8)
    assert [row.cameras for row in found] == sorted({row.cameras for row in found})
    assert not found[-1].keeps_up


def test_too_short_a_measurement_is_refused(config):
    with pytest.raises(InputError, match="--seconds=1 must be at least 4"):
        live.run(engines.random_run(config), seconds=1.0)
