"""Stops, damages and starves real trainings, and checks that no work is lost.

    python scripts/fault_campaign.py --runs=12 [--seed=0] [--kills=6] [--faults=kill]
        [--configs=FILE,...] [--output=FOLDER] [--set=data.root=FOLDER] [--json=FILE]

For every config, one run is left undisturbed. Every other run meets faults at seeded
random moments and is restarted by the same command until it ends. Its parameters,
optimizer moments and curves must then equal those of the undisturbed run, to the bit.
The faults:

    kill     kill -9 at any moment, --kills times
    save     kill -9 while a checkpoint is being written
    stop     SIGTERM, which must end the run within seconds, with exit code 75
    damage   kill -9, then bytes of the newest checkpoint are overwritten or cut off
    full     a disk with room for little more than the first checkpoints (Linux)
    worker   kill -9 of a process that decodes
    video    a video is truncated: the run must succeed without it or, if it is a
             validation video, report it and resume when it is restored

Prints a table; exits with 1 if a run broke one of these rules.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import flags, logging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from svtas_jax.checkpoints import resume, store
from svtas_jax.errors import InputError
from svtas_jax.evaluation import report
from svtas_jax.runtime import cli, interruption
from svtas_jax.runtime.files import write_atomic

_CONFIGS = ("configs/demo_sete.py", "configs/demo_transeger.py")
_QUICK = (  # few frames of the demo, many checkpoints
    "data.frame_stride=12",
    "train.num_epochs=3",
    "train.eval_every_epochs=1",
    "train.save_every_steps=3",
    "train.log_every_steps=4",
)
_LIMIT_S = 900  # a start that takes longer counts as hanging
_STOP_S = 60  # to react to SIGTERM, a compilation included
_POLL_S = 0.02


@dataclasses.dataclass
class Case:
    """A run that meets faults.

    Attributes:
        name: of its folder.
        fault: one of `_MEET`.
        command: starts and restarts the run.
        workdir: of the run.
        rng: draws the moments of the faults.
        whole_s: seconds that the undisturbed run takes.
        faults: number of faults so far.
        in_save: number of them while a checkpoint was being written.
        starts: number of starts.
        started: time of the last start, in seconds since the epoch.
        broken: the rules that the run broke.
        same: whether the run must end as the undisturbed one.
    """

    name: str
    fault: str
    command: list[str]
    workdir: pathlib.Path
    rng: np.random.Generator
    whole_s: float
    faults: int = 0
    in_save: int = 0
    starts: int = 0
    started: float = 0.0
    broken: list[str] = dataclasses.field(default_factory=list)
    same: bool = True

    def start(self, *prefix: str) -> subprocess.Popen:
        """Starts the command, as a group of processes that can be killed at once."""
        self.starts += 1
        self.started = time.time()
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*prefix, *self.command],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> pathlib.Path:
        """File with the output of all starts."""
        return self.workdir.with_suffix(".log")

    def kill(self, process: subprocess.Popen) -> None:
        """Kills all processes of the run."""
        self.faults += 1
        self.in_save += bool(self.unfinished())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def unfinished(self) -> list[pathlib.Path]:
        """Returns the checkpoints that the current process is writing."""
        found = self.workdir.glob("*/*tmp*")
        return [path for path in found if changed_s(path) > self.started]

    def wait(self, process: subprocess.Popen) -> int:
        """Returns the exit code; kills a run that hangs and records it as broken."""
        try:
            return process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.broken.append("hangs")
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def moment(self) -> float:
        """Draws the time of the next fault, in seconds after a start."""
        return float(self.rng.uniform(0, 0.6 * self.whole_s))


def main() -> None:
    """Runs the command."""
    output = pathlib.Path(flags.FLAGS.output)
    if output.exists():
        raise InputError(f"--output={output} exists; remove it or choose another.")
    names = chosen_faults()
    output.mkdir(parents=True)
    whole = {config: run_whole(config, output) for config in flags.FLAGS.configs}
    rows = []
    for number in range(flags.FLAGS.runs):
        config = flags.FLAGS.configs[number % len(flags.FLAGS.configs)]
        fault = names[number // len(flags.FLAGS.configs) % len(names)]
        rows.append(run_case(config, fault, number, output, whole[config]))
        logging.info("%s", rows[-1])
    write_table(rows, output)
    if flags.FLAGS.json:
        write_atomic(flags.FLAGS.json, json.dumps(rows, indent=1))
    if any(map(is_broken, rows)):
        sys.exit(1)


def chosen_faults() -> list[str]:
    """Returns the requested faults that are possible here."""
    names = list(flags.FLAGS.faults)
    unknown = [name for name in names if name not in _MEET]
    if unknown:
        raise InputError(f"--faults={unknown[0]}: choose among {', '.join(_MEET)}.")
    if "full" in names and not can_mount():
        logging.warning("no small disk can be mounted here: skipping the fault full")
        names = [name for name in names if name != "full"]
    if not names:
        raise InputError("--faults: none is possible here; choose others.")
    return names


@dataclasses.dataclass(frozen=True)
class Ending:
    """The results of a run."""

    arrays: str
    curves: dict[str, list[tuple[int, float]]]
    seconds: float


def command_of(config: str, workdir: pathlib.Path, *changes: str) -> list[str]:
    """Returns the command that trains a config."""
    return [
        *(sys.executable, "-m", "svtas_jax.train"),
        *(f"--config={config}", f"--workdir={workdir}"),
        *(
            f"--config.{text}"
            for text in (*_QUICK, *(flags.FLAGS["set"].value or ()), *changes)
        ),
    ]


def run_whole(config: str, output: pathlib.Path) -> Ending:
    """Trains once to compile everything, and once more as the reference."""
    for part in ("first", "whole"):
        workdir = output / f"{pathlib.Path(config).stem}-{part}"
        begin = time.monotonic()
        command = command_of(config, workdir)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{config} does not train:\n{done.stderr[-2000:]}")
    ending = Ending(arrays_of(workdir), curves_of(workdir), time.monotonic() - begin)
    logging.info("%s undisturbed: %.0f s", config, ending.seconds)
    return ending


def run_case(
    config: str, fault: str, number: int, output: pathlib.Path, whole: Ending
) -> dict:
    """Runs a case to its end; returns its row of the table."""
    name = f"{number:02d}-{pathlib.Path(config).stem}-{fault}"
    workdir, begin = output / name, time.monotonic()
    rng = np.random.default_rng([flags.FLAGS.seed, number])
    changes = _CHANGES.get(fault, ())
    command = command_of(config, workdir, *changes)
    case = Case(name, fault, command, workdir, rng, whole.seconds)
    _MEET[fault](case)
    arrays = curves = "not compared"
    if case.same and not case.broken:
        arrays = "same" if arrays_of(workdir) == whole.arrays else "DIFFERENT"
        curves = "same" if curves_of(workdir) == whole.curves else "DIFFERENT"
    return {
        "run": name,
        "faults": case.faults,
        "during a save": case.in_save,
        "starts": case.starts,
        "arrays": arrays,
        "curves": curves,
        "broken promises": "; ".join(case.broken) or "none",
        "seconds": round(time.monotonic() - begin),
    }


def meet_kill(case: Case) -> None:
    """Kills at any moment."""
    for process in until_done(case):
        try:
            process.wait(case.moment())
        except subprocess.TimeoutExpired:
            case.kill(process)


def meet_save(case: Case) -> None:
    """Kills while a checkpoint is being written, some milliseconds into it."""
    for process in until_done(case):
        earliest = time.monotonic() + case.moment()
        while process.poll() is None:
            if time.monotonic() > earliest and case.unfinished():
                time.sleep(float(case.rng.uniform(0, 0.06)))
                case.kill(process)
            time.sleep(_POLL_S / 10)


def meet_stop(case: Case) -> None:
    """Sends SIGTERM at any moment."""
    for process in until_done(case):
        try:
            process.wait(case.moment())
        except subprocess.TimeoutExpired:
            case.faults += 1
            listens = "% of the chunks hold frames" in last_start(case)
            process.terminate()
            begin = time.monotonic()
            code = case.wait(process)
            if time.monotonic() - begin > _STOP_S:
                case.broken.append("SIGTERM did not stop it in time")
            # Before the training begins, there is nothing to save.
            if listens and code not in (interruption.EXIT_CODE, 0):
                case.broken.append(f"SIGTERM ended with {code}")


def meet_damage(case: Case) -> None:
    """Kills, and damages the newest checkpoint if there is an older one."""
    for process in until_done(case):
        try:
            process.wait(case.moment())
        except subprocess.TimeoutExpired:
            case.kill(process)
            found = resume.newest(str(case.workdir))
            if len(found) > 1:
                folder, step = found[0]
                damage(case.workdir / folder / str(step), case.rng)


def damage(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """Cuts off or overwrites the largest files of a checkpoint's items."""
    item = folder / str(rng.choice(["model", "optimizer", "carry"]))
    for path in item.rglob("*"):
        if path.is_file() and path.stat().st_size > 256:
            data = path.read_bytes()
            keep = int(rng.integers(0, len(data) // 2))
            rest = rng.bytes(len(data) - keep) if rng.integers(2) else b""
            path.write_bytes(data[:keep] + rest)


def meet_full(case: Case) -> None:
    """Trains on a disk that fills up; then resumes on another one."""
    disk = case.workdir.with_suffix(".disk")
    disk.mkdir()
    room = 2 * size_of(case.workdir.parent / f"{case.name[3:-5]}-whole") // 3
    script = (
        f'mount -t tmpfs -o size={room} tmpfs {disk} && ("$@"; code=$?; '
        f"cp -r {disk}/run {case.workdir}; exit $code)"
    )
    command = [
        f"--workdir={disk}/run" if part.startswith("--workdir=") else part
        for part in case.command
    ]
    case.starts += 1
    case.faults += 1
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
    )
    if "no space left" not in done.stderr or done.returncode != 1:
        case.broken.append(f"ended with {done.returncode}: {done.stderr[-300:]}")
    if "Traceback" in done.stderr:
        case.broken.append("reported with a traceback")
    if not resume.newest(str(case.workdir)):
        case.broken.append("no checkpoint is left")
    if case.wait(case.start()):
        case.broken.append("did not resume")


def meet_worker(case: Case) -> None:
    """Kills a decoding process; the run must end, and resume if it failed."""
    for process in until_done(case):
        try:
            process.wait(case.moment())
        except subprocess.TimeoutExpired:
            while process.poll() is None and not (workers := children(process.pid)):
                time.sleep(_POLL_S)
            if process.returncode is None:
                case.faults += 1
                os.kill(int(case.rng.choice(workers)), signal.SIGKILL)
            case.wait(process)


def meet_video(case: Case) -> None:
    """Truncates a video during training, which must finish with the others."""
    case.same = False
    root = pathlib.Path(setting(case.command, "data.root"))
    own = case.workdir.with_suffix(".data")
    shutil.copytree(root, own)
    case.command.append(f"--config.data.root={own}")
    process = case.start()
    while process.poll() is None and not list(case.workdir.glob("checkpoints/[0-9]*")):
        time.sleep(_POLL_S)
    split = (own / "splits" / "train.split1.bundle").read_text().split()
    victim = pathlib.Path(str(case.rng.choice(split))).stem
    (path,) = (own / "Videos").glob(f"{victim}.*")
    case.faults += 1
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    code = case.wait(process)
    if code == 2 and path.name in last_start(case):  # a validation video
        path.write_bytes(content)
        code = case.wait(case.start())
    if code:
        case.broken.append("did not finish without the video")


_MEET: dict[str, Callable[[Case], None]] = {
    "kill": meet_kill,
    "save": meet_save,
    "stop": meet_stop,
    "damage": meet_damage,
    "full": meet_full,
    "worker": meet_worker,
    "video": meet_video,
}
_CHANGES = {"worker": ("data.num_workers=1",)}


def until_done(case: Case) -> Iterator[subprocess.Popen]:
    """Starts a run until it ends; after --kills faults it is left undisturbed."""
    while case.faults < flags.FLAGS.kills and not case.broken:
        process = case.start()
        yield process
        if process.returncode == 0:
            return
    if not case.broken and case.wait(case.start()):
        case.broken.append("failed when left undisturbed")


def changed_s(path: pathlib.Path) -> float:
    """Returns the time of a file's last change, 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def last_start(case: Case) -> str:
    """Returns what the present process has said."""
    return case.log.read_text().rpartition("selection videos")[2]


def children(parent: int) -> list[int]:
    """Returns the ids of the decoding processes of a training."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)],
        capture_output=True,
        text=True,
    )
    rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, what in rows if "spawn_main" in what]


def can_mount() -> bool:
    """Whether a disk in memory can be mounted, which Linux allows any user."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True).returncode == 0


def setting(command: list[str], name: str) -> str:
    """Returns the value of a setting in a command."""
    found = [part for part in command if part.startswith(f"--config.{name}=")]
    return found[-1].partition("=")[2] if found else "data/demo"


def size_of(folder: pathlib.Path) -> int:
    """Returns the size of a folder in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def arrays_of(workdir: pathlib.Path) -> str:
    """Returns a fingerprint of the newest checkpoint's arrays and its step."""
    items = ("model", "optimizer", "carry")
    with store.open_manager(str(workdir), read_only=True) as manager:
        step = manager.latest_step()
        args = {name: ocp.args.StandardRestore() for name in items}
        found = manager.restore(step, args=ocp.args.Composite(**args))
    total = hashlib.sha256(str(step).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(found)):
        array = np.ascontiguousarray(leaf)
        total.update(f"{path} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def curves_of(workdir: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """Returns tag -> [(step, value)] as in TensorBoard, without the times."""
    events = EventAccumulator(str(workdir)).Reload()
    known: dict[str, Any] = events.Tags()
    tags = [tag for tag in known["scalars"] if "wait" not in tag]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def write_table(rows: list[dict], output: pathlib.Path) -> None:
    """Prints the table, and writes it."""
    table = report.markdown_table(list(rows[0]), [list(row.values()) for row in rows])
    faults, in_save = (sum(row[k] for row in rows) for k in ("faults", "during a save"))
    logging.info("%d faults, %d during a save\n%s", faults, in_save, table)
    write_atomic(output / "table.md", table + "\n")


def is_broken(row: dict) -> bool:
    """Whether a run broke a rule."""
    return "DIFFERENT" in (row["arrays"], row["curves"]) or (
        row["broken promises"] != "none"
    )


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_integer("runs", 12, "Runs that meet faults.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Determines the moments and the damage.")
    flags.DEFINE_integer("kills", 6, "Most faults in a run.", lower_bound=1)
    flags.DEFINE_list("faults", list(_MEET), "Faults, in turn.")
    flags.DEFINE_list("configs", list(_CONFIGS), "Configs, in turn.")
    flags.DEFINE_string("output", "runs/faults", "Folder of the runs.")
    flags.DEFINE_multi_string("set", [], "section.field=value for every run.")


if __name__ == "__main__":
    define_flags()
    cli.define("json")
    cli.run(main, required=())
