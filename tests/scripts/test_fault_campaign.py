"""The fault campaign, short; and that it would see a broken promise."""

import json

import fault_campaign
import numpy as np
import orbax.checkpoint as ocp
import pytest

from svtas_jax.checkpoints import store


@pytest.mark.slow
def test_a_short_campaign_keeps_all_promises(folder, tmp_path, run_command, tiny_flags):
    for index, num_frames in enumerate((40, 17, 33, 24, 29, 20, 26, 31)):
        folder.add(f"train {index}", num_frames)
    told = tmp_path / "table.json"
    run_command(
        *("scripts/fault_campaign.py", "--runs=3", "--kills=2"),
        *("--faults=kill,damage,stop", "--configs=configs/demo_sete.py"),
        *(f"--output={tmp_path / 'runs'}", f"--json={told}"),
        *(f"--set=data.root={folder.root}", "--set=train.num_epochs=4"),
        *(flag.replace("--config.", "--set=") for flag in tiny_flags),
    )
    rows = json.loads(told.read_text())
    assert len(rows) == 3 and sum(row["faults"] for row in rows) >= 3
    assert all(row["arrays"] == row["curves"] == "same" for row in rows)


def test_an_unknown_fault_is_named(run_command):
    said = run_command("scripts/fault_campaign.py", "--faults=fire", code=2).stderr
    assert said.startswith("error: --faults=fire: there are kill, save, stop")


def _save(workdir, value):
    meta = store.Meta({}, (), 15.0, 1, 1, {})
    variables = {"params": {"a": np.full(3000, value, np.float32)}}
    with store.open_manager(str(workdir)) as manager:
        items = ocp.args.StandardSave(variables)
        rest = ocp.args.StandardSave({"step": np.int32(1)})
        args = {"model": items, "optimizer": rest, "carry": rest}
        manager.save(meta.step, args=ocp.args.Composite(**args))


def test_another_bit_is_another_fingerprint(tmp_path):
    for name, value in (("a", 1.0), ("b", 1.0), ("c", np.nextafter(np.float32(1), 2))):
        _save(tmp_path / name, value)
    prints = [fault_campaign.arrays_of(tmp_path / name) for name in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_damage_makes_a_checkpoint_unreadable(tmp_path):
    _save(tmp_path, 1.0)
    before = fault_campaign.arrays_of(tmp_path)
    folder = tmp_path / store.FOLDER / "1"
    for seed in range(9):
        fault_campaign.damage(folder, np.random.default_rng(seed))
    with pytest.raises(Exception):  # noqa: B017  of Orbax, or of this line
        assert fault_campaign.arrays_of(tmp_path) == before


@pytest.mark.parametrize(
    "arrays, curves, broken, expected",
    [
        ("same", "same", "none", False),
        ("not compared", "not compared", "none", False),
        ("DIFFERENT", "same", "none", True),
        ("same", "DIFFERENT", "none", True),
        ("same", "same", "hangs", True),
    ],
)
def test_a_broken_promise_is_seen(tmp_path, arrays, curves, broken, expected):
    row = {"run": "x", "faults": 1, "during a save": 0, "arrays": arrays}
    row |= {"curves": curves, "broken promises": broken}
    assert fault_campaign.is_broken(row) == expected
    fault_campaign.write_table([row], tmp_path)
    assert arrays in (tmp_path / "table.md").read_text()
