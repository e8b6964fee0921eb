"""Exported models where trained runs are used: streams, whole videos, servers."""

import io
import json
import logging

import numpy as np
import pytest

import svtas_jax
from svtas_jax import runs
from svtas_jax.errors import InputError
from svtas_jax.evaluation import results
from svtas_jax.export.metadata import FILE
from svtas_jax.serving import state
from svtas_jax.stream import Options, stream
from svtas_jax.training import loop

SYSTEMS = (
    ("jax", "sete", dict(causal=True)),
    ("onnxruntime", "sete", dict(causal=True)),
    ("openvino", "sete", dict(causal=True)),
    ("onnxruntime", "transeger", dict(causal=True)),
    ("onnxruntime", "transeger", {}),
)


@pytest.fixture(scope="module")
def film(films, tmp_path_factory):
    return films.write(tmp_path_factory.mktemp("film") / "a.mp4", range(61), rate=15)


def native(case):
    own = case.export
    meta, config = own["meta"], own["config"]
    return runs.TrainedRun("", config, "best", meta, case.model, case.variables)


def lines_of(run, film):
    out = io.StringIO()
    stream(run, [str(film)], out, Options(every="step"))
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("engine", "system", "fields"), SYSTEMS, ids=lambda value: str(value)
)
def test_a_video_has_the_labels_of_the_run(make_case, film, engine, system, fields):
    pytest.importorskip(engine)
    case = make_case(system, **fields)
    own, ours = native(case), svtas_jax.load(case.folder, engine=engine)
    assert (ours.engine, ours.step, ours.causal) == (engine, 7, own.causal)
    expected, found = lines_of(own, film), lines_of(ours, film)
    kept = ("frame", "time_s", "label")
    assert [[a[k] for k in kept] for a in found] == [
        [a[k] for k in kept] for a in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-3)
    whole = results.join(own.stream(film))
    assert len(set(whole.labels.tolist())) > 1
    np.testing.assert_array_equal(ours.segment(film).labels, whole.labels)
    np.testing.assert_allclose(ours.segment(film).scores, whole.scores, atol=1e-4)


def test_a_server_takes_an_exported_model(make_case, tmp_path):
    run = svtas_jax.load(make_case("sete", causal=True).folder, engine="onnxruntime")
    found = state.open_state(run)
    assert found.about["model"]["engine"] == "onnxruntime"
    assert found.about["model"]["step"] == 7


def test_the_log_survives_openvino(make_case):
    pytest.importorskip("openvino")
    before = list(logging.getLogger().handlers)
    svtas_jax.load(make_case("sete", causal=True).folder, engine="openvino")
    assert logging.getLogger().handlers == before


def test_what_does_not_fit_is_refused(make_case, tmp_path):
    folder = make_case("sete", causal=True).folder
    with pytest.raises(InputError, match="leave out --checkpoint"):
        svtas_jax.load(folder, "latest")
    with pytest.raises(InputError, match="is not one of jax, onnxruntime, openvino"):
        svtas_jax.load(tmp_path, engine="tpu")
    with pytest.raises(InputError, match="needs an exported model"):
        svtas_jax.load(tmp_path, engine="onnxruntime")
    with pytest.raises(InputError, match="a run needs a folder of its own"):
        loop.train(make_case("sete", causal=True).export["config"], str(folder))
    for call in (
        runs.load_trained,
        runs.evaluate,
        lambda f: svtas_jax.load(f).evaluate(),
    ):
        with pytest.raises(InputError, match="is an exported model"):
            call(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("size", 16, "its config says"), ("config", {"x": 1}, "config.x")],
)
def test_a_description_that_contradicts_itself_is_refused(
    make_case, tmp_path, field, value, message
):
    folder = make_case("sete", causal=True).folder
    facts = json.loads((folder / FILE).read_text("utf-8"))
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / FILE).write_text(json.dumps(facts | {field: value}), "utf-8")
    with pytest.raises(InputError, match=message):
        svtas_jax.load(tmp_path)
