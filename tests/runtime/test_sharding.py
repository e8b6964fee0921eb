"""Training must be the same on any number of devices."""

import json
import os
import pathlib
import subprocess
import sys

import contract
import jax
import pytest
from jax.sharding import PartitionSpec

from svtas_jax.models.tokenizer import VOCAB_SIZE
from svtas_jax.runtime.sharding import make_mesh
from svtas_jax.structs import TrainState
from svtas_jax.training.placement import place
from svtas_jax.training.step import init_carry

TOLERANCE = 1e-5


def _rows(*arguments, program="sharded_training.py"):
    folder = pathlib.Path(__file__).parents[1]
    command = [sys.executable, str(folder / program), *arguments]
    # The root comes first: a folder of tests has the name of a package.
    given = (str(folder.parent), str(folder), os.environ.get("PYTHONPATH"))
    paths = os.pathsep.join(filter(None, given))
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _check(rows):
    for row in rows:
        for what in ("gradients", "stream", "loss", "statistics", "average"):
            assert row[what] <= TOLERANCE, row
        assert (row["split"] > 0) == (row["split_from"] > 0), row
        assert row["reread"] == 0, row
    return [row["devices"] for row in rows]


@pytest.mark.slow
def test_eight_devices_with_split_parameters_train_as_one():
    assert _check(_rows("sete", "quick")) == [8]


@pytest.mark.parametrize(
    "systems",
    [
        pytest.param(["transeger transformer learned"], id="dropout and templates"),
        pytest.param([], id="all", marks=pytest.mark.slow),
    ],
)
def test_two_devices_train_and_resume_as_one(systems):
    found = _rows(*systems, program="two_devices.py")
    assert len(found) == (len(systems) or len(contract.SYSTEMS))
    for name, row in found.items():
        assert row["apart"] <= TOLERANCE and row["reread"] == 0, (name, row)


@pytest.mark.slow
def test_two_devices_let_the_gradient_through_as_one():
    systems = ("sete features", "transeger memory_tcn learned")
    found = _rows("--gradient_chunks=2", *systems, program="two_devices.py")
    assert found.keys() == {*systems}
    for name, row in found.items():
        assert row["apart"] <= TOLERANCE and row["reread"] == 0, (name, row)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["sete", "mete", "transeger"])
def test_any_number_of_devices_trains_as_one(system):
    assert _check(_rows(system)) == 2 * [2, 4, 8, 8]


@pytest.mark.slow
def test_gradients_meet_once_a_step_but_for_the_rows_of_the_vocabulary(tmp_path):
    tiny = {
        **{"data.clip_frames": 8, "data.frame_stride": 2, "data.resize": "32,40"},
        **{"model.image_stages": 1, "model.image_width": 0.125, "model.features": 16},
    }
    subprocess.run(
        [
            *(sys.executable, "scripts/measure_communication.py", "--devices=2"),
            *("--config=configs/demo_transeger.py", f"--json={tmp_path / 'told'}"),
            *(f"--config.{name}={value}" for name, value in tiny.items()),
        ],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=True,
    )
    chunk, step = json.loads((tmp_path / "told").read_text())["programs"]
    table = 4 * 32 * VOCAB_SIZE
    assert 0 < chunk["bytes"] < table / 20 < step["bytes"] < table / 4


def test_only_large_arrays_are_split(tiny):
    model = tiny.model("sete")
    params = {"large": jax.numpy.ones((24, 32)), "small": jax.numpy.ones(32)}
    state = TrainState(jax.numpy.int32(0), params, {}, ())
    mesh = make_mesh(4)
    _, _, (shardings, _) = place(state, init_carry(state, model, 4), mesh, 100)
    assert shardings.params["large"].spec == PartitionSpec(None, "data")
    assert shardings.params["small"].spec == PartitionSpec()
