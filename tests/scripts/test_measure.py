"""The scripts that measure, at their smallest."""

import json
import re

import pytest

DEMO = "--config=configs/demo_sete.py"


@pytest.mark.slow
def test_depthwise_times_every_layer_and_formulation(run_command):
    lines = run_command("scripts/measure_depthwise.py", "--frames=1").stdout
    device, head, *rows = lines.splitlines()
    assert device and head.split() == ["layer", "forward", "gradients"]
    layers = ["112x112x32", "112x112x96", "56x56x144", "14x14x576"]
    assert [row.split(",")[0] for row in rows] == layers
    for row in rows:
        times = re.findall(r"(shifted|grouped) (\d+\.\d)", row)
        assert [name for name, _ in times] == ["shifted", "grouped"] * 2


@pytest.mark.slow
def test_overheads_are_said_in_one_line(run_command, folder, tiny_flags):
    done = run_command(
        *("scripts/measure_overheads.py", DEMO, "--chunks=1", "--rounds=1"),
        *("--every=10", *tiny_flags, f"--config.data.root={folder.root}"),
    )
    said = done.stderr.splitlines()[-1]
    match = re.match(
        r"a step (\d+) ms; a checkpoint of (\d+\.\d) MB blocks (\d+) ms and costs "
        r"-?\d+ ms in all, -?\d+\.\d+% of 10 steps; the input of a chunk is laid "
        r"out in \d+\.\d+ ms, \d+\.\d+% of its time, on 1 devices$",
        said,
    )
    assert match, said
    assert float(match[2]) > 0 and int(match[3]) > 0


def test_reading_compares_every_encoding(run_command, folder, tiny_flags, numbered):
    path = folder.root / "video.mp4"
    numbered.write(path, 24)
    done = run_command(
        *("scripts/measure_reading.py", DEMO, f"--video={path}", "--rounds=1"),
        *tiny_flags,
    )
    device, *rows = done.stdout.splitlines()
    assert "num_frames=24" in device
    assert [row.split()[0] for row in rows] == ["files", "jpeg", "png", "video"]
    for row in rows:
        size, pace = re.search(r"(\d+\.\d) MB, +(\d+) frames/s", row).groups()
        assert float(size) >= 0 and int(pace) > 0


@pytest.mark.parametrize("devices", [2])
def test_communication_is_counted(run_command, folder, tiny_flags, tmp_path, devices):
    path = tmp_path / "told.json"
    done = run_command(
        *("scripts/measure_communication.py", DEMO, f"--devices={devices}"),
        *("--gigabytes=10", f"--json={path}"),
        *(*tiny_flags, f"--config.data.root={folder.root}"),
    )
    told = json.loads(path.read_text())
    assert told["devices"] == devices and told["flops"] > 0
    chunk, step = told["programs"]
    assert (chunk["program"], step["program"]) == ("a chunk", "a step")
    assert chunk["all-reduce"] > 0 and chunk["bytes"] > 0
    assert 0 < told["links"]["10.0"]["2"] <= 1
    assert f"{devices} devices," in done.stderr and "| 10 GB/s |" in done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("measure_overheads.py",), "--config is missing"),
        (("measure_overheads.py", DEMO, "--rounds=0"), "rounds"),
        (("measure_reading.py", "--config=no.py"), "no.py"),
        (("measure_communication.py", DEMO, "--devices=1"), "devices"),
    ],
)
def test_a_mistake_ends_with_one_message(run_command, command, message):
    name, *rest = command
    said = run_command(f"scripts/{name}", *rest, code=2).stderr.strip()
    assert said.startswith("error: ") and message in said and "Traceback" not in said
