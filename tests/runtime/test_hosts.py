"""Several processes must train and evaluate as one, and end as one."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from fault_campaign import curves_of

from svtas_jax.errors import InputError
from svtas_jax.evaluation import scoring
from svtas_jax.runtime import hosts
from svtas_jax.runtime.interruption import EXIT_CODE
from svtas_jax.structs import VideoRecord

HERE = pathlib.Path(__file__).parents[1]
TOLERANCE = 1e-4  # float32, a few steps
LIMIT_S = 300


@pytest.fixture
def data(folder):
    for index, num_frames in enumerate((40, 17, 33, 24, 29, 20, 26, 31, 22, 35)):
        folder.add(f"train {index}", num_frames, subsets=("train",))
    for index, num_frames in enumerate((37, 22, 30)):
        folder.add(f"tëst {index}", num_frames, subsets=("test",))
    return folder


def start(data, workdir, count, *changes, devices=1, environment=None):
    """Starts the processes of a run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The root comes first: a folder of tests has the name of a package.
    given = (str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH"))
    paths = os.pathsep.join(filter(None, given))
    own = {
        "PYTHONPATH": paths,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} "
        f"--xla_force_host_platform_device_count={devices}",
        "NPROC": str(4 * devices),  # see `process.simulate_devices`
    }
    processes = []
    for index in range(count):
        where = f"127.0.0.1:{port},{count},{index}" if count > 1 else "none"
        command = [
            *(sys.executable, str(HERE / "host_training.py"), f"--workdir={workdir}"),
            *(f"--root={data.root}", f"--distributed={where}"),
            *(f"--set={change}" for change in changes),
        ]
        if environment:
            command.remove(f"--distributed={where}")
            own |= environment(index, port)
        processes.append(
            subprocess.Popen(
                command,
                env=os.environ | own,
                cwd=HERE.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def finish(processes):
    """Returns exit codes, and what they said."""
    try:
        said = [process.communicate(timeout=LIMIT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def run(*arguments, **options):
    """Runs to the end; returns what the first process tells of the result."""
    codes, said = finish(start(*arguments, **options))
    assert not any(codes), said[0][1][-3000:]
    return json.loads(said[0][0].splitlines()[-1])


def check_same(result, expected):
    assert result["step"] == expected["step"]
    assert result["sum"] == pytest.approx(expected["sum"], rel=TOLERANCE)
    assert result["videos"].keys() == expected["videos"].keys()
    frames = [video["num_frames"] for video in result["videos"].values()]
    assert frames == [video["num_frames"] for video in expected["videos"].values()]
    for name, value in expected["metrics"].items():
        assert result["metrics"][name] == pytest.approx(value, abs=2.0), name


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(data, tmp_path):
    one = run(data, tmp_path / "one", 1)
    two = run(data, tmp_path / "two", 2)
    check_same(two, one)
    assert len(list((tmp_path / "two").glob("events*"))) == 1
    names = {path.stem for path in (tmp_path / "two").glob("evaluation/predictions/*")}
    assert names == set(one["videos"])


@pytest.mark.slow
@pytest.mark.parametrize("count, devices", [(4, 1), (2, 2)])
def test_four_devices_train_and_evaluate_as_one(data, tmp_path, count, devices):
    split = "train.split_from=500"
    one = run(data, tmp_path / "one", 1)
    check_same(run(data, tmp_path / "many", count, split, devices=devices), one)


def wait_for(path, processes):
    """Returns when a run has come so far."""
    deadline = time.monotonic() + LIMIT_S
    while not list(path.parent.glob(path.name)):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_all_stop_where_one_is_told_to_and_go_on_as_one(data, tmp_path, told):
    """SIGTERM to one process; then the same command, and one on another number."""
    long = "train.num_epochs=6"
    whole = run(data, tmp_path / "whole", 2, long)
    processes = start(data, tmp_path / "parts", 2, long)
    wait_for(tmp_path / "parts" / "checkpoints" / "[0-9]*", processes)
    processes[told].send_signal(signal.SIGTERM)
    begin = time.monotonic()
    codes, said = finish(processes)
    assert codes == [EXIT_CODE, EXIT_CODE], said[0][1][-2000:] + said[1][1][-2000:]
    assert time.monotonic() - begin < 30
    assert (tmp_path / "parts" / "interrupted").is_dir()
    shutil.copytree(tmp_path / "parts", tmp_path / "other")
    assert run(data, tmp_path / "parts", 2, long)["digest"] == whole["digest"]
    other = run(data, tmp_path / "other", 1, long)
    assert other["sum"] == pytest.approx(whole["sum"], rel=TOLERANCE)
    # Adam makes steps of rounding errors, such as of a bias before a batch norm: after
    # twelve, single frames near a border have another label, the losses are the same.
    losses = [curves_of(tmp_path / name)["train/loss"] for name in ("other", "whole")]
    assert len(losses[0]) == 6 and dict(losses[0]) == pytest.approx(
        dict(losses[1]), rel=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_lost_process_ends_the_others_soon_and_the_run_resumes(
    data, tmp_path, killed
):
    long = "train.num_epochs=6"
    whole = run(data, tmp_path / "whole", 2, long)
    processes = start(data, tmp_path / "parts", 2, long)
    wait_for(tmp_path / "parts" / "checkpoints" / "[0-9]*", processes)
    processes[killed].kill()
    begin = time.monotonic()
    codes, _ = finish(processes)
    assert all(codes) and time.monotonic() - begin < 60
    assert run(data, tmp_path / "parts", 2, long)["digest"] == whole["digest"]


@pytest.mark.slow
def test_what_one_process_cannot_read_ends_all(data, tmp_path):
    """A damaged video that only one of them reads."""
    path = data.root / "Videos" / "train 3.avi"
    content = path.read_bytes()

    def damage():
        path.write_bytes(content[: len(content) // 3])

    processes = start(
        *(data, tmp_path / "run", 2, "train.num_epochs=50"),
        "train.max_damaged_share=0.0",
    )
    wait_for(tmp_path / "run" / "checkpoints" / "[0-9]*", processes)
    damage()
    codes, said = finish(processes)
    assert all(codes), codes
    assert any("train 3.avi is damaged" in err for _, err in said)


def test_a_mistake_is_told_by_all_and_ends_all(data, tmp_path):
    processes = start(data, tmp_path / "run", 2, "train.batch_size=3")
    codes, said = finish(processes)
    assert codes == [2, 2], said
    assert "is not a multiple of the 2 devices of 2 processes" in said[0][1]


@pytest.mark.slow
def test_a_scheduler_tells_where_the_others_are(data, tmp_path):
    """SLURM's variables as `srun` sets them."""

    def slurm(index, port):
        job = port - (65535 - 2**12 + 1)  # JAX makes the port of it
        return {
            "SLURM_JOB_ID": str(job % 2**12),
            "SLURM_STEP_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": "2",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index),
        }

    two = run(data, tmp_path / "two", 2, environment=slurm)
    check_same(two, run(data, tmp_path / "one", 1))


@pytest.mark.parametrize(
    "where", ["10.0.0.1", "host:1234,2", "host:1234,2,2", "host,2,0", "sometimes"]
)
def test_a_place_is_checked(where):
    with pytest.raises(InputError, match=f"--distributed={where}"):
        hosts.connect(where)


def test_a_first_process_that_is_not_there_is_told(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and does not listen
        where = f"127.0.0.1:{probe.getsockname()[1]},2,1"
        monkeypatch.setattr(hosts, "_MEET_S", 0)
        with pytest.raises(InputError, match=f"{where}: nobody listens"):
            hosts.connect(where)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_video_is_in_one_share(monkeypatch, count):
    rng = np.random.default_rng(0)
    records = [
        VideoRecord(str(i), "", np.zeros(n, np.int32), 15.0)
        for i, n in enumerate(rng.integers(1, 1000, 5))
    ]
    monkeypatch.setattr(jax, "process_count", lambda: count)
    shares = []
    for index in range(count):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        shares.append([record.name for record in scoring.share_videos(records)])
    assert sorted(sum(shares, [])) == [record.name for record in records]
    assert all(share == sorted(share) for share in shares)
    loads = [sum(records[int(name)].num_frames for name in share) for share in shares]
    assert max(loads) <= min(loads) + max(record.num_frames for record in records)
