"""The golden check on small files of the public PyTorch code, and the check itself."""

import json
import pathlib
import shutil

import check_golden
import jax
import numpy as np
import pytest
from golden_checks import streams, systems
from golden_checks.files import list_files, read_file
from golden_checks.kinds import kind_of
from golden_checks.results import Result, elementwise, relative, worst_by_mode

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FILES = {path.stem: path for path in list_files(GOLDEN)}
WHOLE_SYSTEMS = ("transeger_transformer_joint", "trajectory_sete")
# Like another file in most of what they check.
MORE = (
    "asformer",  # the file of several videos checks the same operators
    "mstcn_multi_stage",
    "fix_prompt_50salads_truncated",
    "joint_transformer_fixed_pe",
    "learner_prompt_front",
    "memory_tcn",
)


def run(results):
    with jax.default_matmul_precision("highest"):
        return list(results)


def assert_passed(results):
    failed = [r for r in results if not r.passed and not r.retried]
    assert results and not failed, failed


@pytest.mark.parametrize("name", sorted(set(FILES) - {*WHOLE_SYSTEMS, *MORE}))
def test_our_modules_give_golden_numbers(name):
    file = read_file(FILES[name])
    assert_passed(run(kind_of(file).check(file)))


def test_whole_system_streams_as_golden():
    file = read_file(FILES["transeger_transformer_joint"])
    results = run(streams.check_eval(file, systems.system(file)))
    assert_passed(results)
    assert {r.mode for r in results} == {"eval output", "label feedback"}


@pytest.mark.slow
@pytest.mark.parametrize("name", (*WHOLE_SYSTEMS, *MORE))
def test_the_larger_files_give_golden_numbers(name):
    file = read_file(FILES[name])
    assert_passed(run(kind_of(file).check(file)))


def failed_modes(name, changes, folder, capsys):
    """Adds numbers to arrays of a file and returns the modes that fail then."""
    with np.load(FILES[name]) as data:
        arrays = dict(data)
    for array, amount in changes.items():
        arrays[array] = arrays[array] + np.float32(amount)
    np.savez(folder / "changed.npz", **arrays)
    status = check_golden.main([str(folder), "--json"])
    rows = json.loads(capsys.readouterr().out)
    modes = {row["mode"] for row in rows if row["verdict"] == "FAIL"}
    assert status == (1 if modes else 0)
    return modes


def test_wrong_numbers_fail_each_in_its_mode(tmp_path, capsys):
    changes = {
        "eval/2/out/y": 0.01,
        "eval/1/memory/stage1.layers.0": 0.01,
        "train/0/out/feature": 0.1,
        "train/1/memory/stage1.layers.3": 0.1,
        "train/1/bn_after/stage1.layers.2.norm.running_var": 0.01,
        "train/2/loss": 0.5,
    }
    name = "memory_tcn_out_feature"
    # What fails in training is looked at in float64 as well, and fails again.
    assert failed_modes(name, changes, tmp_path, capsys) == {
        "eval output",
        "eval memory",
        "train output (float64)",
        "train memory (float64)",
        "batch statistics (float64)",
        "train loss (float64)",
    }


@pytest.mark.parametrize(
    "name, array, amount, mode",
    [
        ("joint_fc", "state/fc1.weight", 0.001, "eval output"),
        ("temporal_shift", "1/y", 1e-6, "output"),
        ("optimizer", "TSMAdamOptimizer/3/param/head.bias", 1e-5, "parameter"),
        ("avg_pool_neck", "2/grad_x", 1e-4, "gradient"),
    ],
)
def test_a_wrong_number_fails(tmp_path, capsys, name, array, amount, mode):
    assert mode in failed_modes(name, {array: amount}, tmp_path, capsys)


def test_a_wrong_gradient_fails_in_float64_too():
    file = read_file(FILES["joint_fc"])
    name = next(n for n in file.arrays if "/grad/" in n)
    file.arrays[name] = file.arrays[name] * 1.01
    worst = {r.mode: r for r in worst_by_mode(run(kind_of(file).check(file)))}
    assert worst["gradient"].retried
    assert worst["gradient (float64)"].error == pytest.approx(0.01, rel=0.02)
    assert not worst["gradient (float64)"].passed


def test_files_are_known_by_contents_not_by_name(tmp_path, capsys):
    for number, name in enumerate(("fix_prompt_front", "joint_fc", "temporal_shift")):
        shutil.copy(FILES[name], tmp_path / f"a{number}.npz")
    shutil.copy(FILES["video_stream_sampler"], tmp_path / "x.json")
    arrays = FILES["video_stream_sampler"].with_suffix(".npz")
    shutil.copy(arrays, tmp_path / "x.npz")
    assert check_golden.main([str(tmp_path), "--json"]) == 0
    kinds = {row["kind"] for row in json.loads(capsys.readouterr().out)}
    assert kinds == {"text encoder", "joint net", "temporal shift", "windows"}


@pytest.mark.parametrize(
    "name, content",
    [("a.npz", b"PK"), ("a.json", b"{"), ("b.json", b"[1]"), ("c.json", b'{"a": 1}')],
)
def test_unknown_and_broken_files_fail(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    assert check_golden.main([str(tmp_path)]) == 1
    assert f"{name} " in capsys.readouterr().out


def test_a_misfitting_file_fails_alone(tmp_path, capsys):
    with np.load(FILES["joint_fc"]) as data:
        arrays = {name: data[name] for name in data if name != "state/fc2.weight"}
    np.savez(tmp_path / "joint.npz", **arrays)
    shutil.copy(FILES["temporal_shift"], tmp_path)
    assert check_golden.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "fc2/kernel: None for (40, 11)" in printed
    assert "2 passed, 1 failed" in printed


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_nothing_to_check_exits_with_2_and_one_message(tmp_path, capsys, folder):
    (tmp_path / "empty").mkdir()
    assert check_golden.main([str(tmp_path / folder)]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ") and "\n" not in message and folder in message


def test_the_command_checks_a_folder(tmp_path, run_command):
    for name in ("temporal_shift", "segmentation_loss"):
        shutil.copy(FILES[name], tmp_path)
    said = run_command("scripts/check_golden.py", tmp_path).stdout.splitlines()
    assert said[-1].startswith(f"{len(said) - 1} passed, 0 failed, 0 files not yet")
    assert all(" pass" in line for line in said[:-1]) and len(said) > 3
    with np.load(tmp_path / "temporal_shift.npz") as data:
        arrays = dict(data)
    arrays["1/y"] = arrays["1/y"] + np.float32(1)
    np.savez(tmp_path / "temporal_shift.npz", **arrays)
    said = run_command("scripts/check_golden.py", tmp_path, code=1).stdout
    assert "FAIL" in said and ", 1 failed," in said


def test_errors_are_measured_against_the_right_scale():
    assert relative("", "", [1.0, 2.2], [1.0, 2.0], 1).error == pytest.approx(0.1)
    assert relative("", "", [0.1], [0.0], 1, least=1.0).error == pytest.approx(0.1)
    assert relative("", "", [[1.0]], [1.0], 1).error == np.inf
    close = elementwise("", "", [1.0, 1e-6], [1.0, 0.0], rtol=1e-5, atol=1e-6)
    assert close.error == pytest.approx(1e-5)
    assert not Result("", "", float("nan"), 1.0).passed
