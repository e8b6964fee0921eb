"""The measurement of engines, and the benchmark of a run or an exported model."""

import time
import types

import pytest

from svtas_jax import benchmark
from svtas_jax.cost import engines
from svtas_jax.errors import InputError


@pytest.fixture
def run(tiny, monkeypatch):
    """A causal run with random weights."""
    config = tiny.config("sete")
    config.model.causal = True
    monkeypatch.setattr(engines, "build_model", lambda *_: tiny.model(causal=True))
    return engines.random_run(config)


def test_engines_are_timed_by_steps_and_chunks(run):
    found = dict(engines.time_engines(run, seconds=0.0, engines=("jax", "onnxruntime")))
    assert list(found) == [1, 4]
    for times in found.values():
        assert list(times) == ["model", "jax", "onnxruntime", "onnxruntime int8"]
        assert all(len(own) >= 3 and min(own) > 0 for own in times.values())


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    calls["slow"] = lambda: time.sleep(0.01)
    times = engines.in_turns(calls, seconds=0.0)
    assert "".join(order[:8]) == "ababbaab"
    assert {order.count(name) for name in "ab"} == {len(times["a"]) + 1}
    assert min(times["slow"]) >= 10


def test_live_takes_a_config_a_run_or_an_exported_model(run, tmp_path, monkeypatch):
    given = types.SimpleNamespace(config=run.config, workdir=None, engine="onnxruntime")
    assert benchmark.run_of(given).engine == "onnxruntime"
    given.engine = "jax"
    assert benchmark.run_of(given).engine == "jax"
    asked = {}
    monkeypatch.setattr(
        benchmark.runs, "load", lambda folder, **own: asked.update(own, folder=folder)
    )
    given.config, given.workdir = None, "x"
    benchmark.run_of(given)
    assert asked == {"folder": "x", "engine": "jax"}


def test_flags_that_do_not_fit_are_refused(run, monkeypatch):
    given = types.SimpleNamespace(config=run.config, workdir="x", engine="jax")
    with pytest.raises(InputError, match="and not both"):
        benchmark.run_of(given)
    given.workdir, given.engine = None, "tpu"
    with pytest.raises(InputError, match="is not one of jax, onnxruntime, openvino"):
        benchmark.run_of(given)
    given.live = False
    monkeypatch.setattr(benchmark.flags, "FLAGS", given)
    with pytest.raises(InputError, match="takes neither --workdir nor --engine"):
        benchmark.main()
