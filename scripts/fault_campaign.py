"""Stops, damages and starves real trainings, and checks that no work is lost.

    python scripts/fault_campaign.py --runs=12 [--seed=0] [--kills=6] [--faults=kill]
        [--configs=FILE,...] [--output=FOLDER] [--set=data.root=FOLDER] [--json=FILE]

For every config one run is left alone. Each other run meets its faults at random
moments under the seed, is started again by the same command until it ends, and must
then have the parameters, the optimizer's moments and the curves of the one left alone,
to the bit. The faults:

    kill     kill -9 at any moment, --kills times
    save     kill -9 while a checkpoint is being written
    stop     SIGTERM, which must end the run within seconds and exit with 75
    damage   kill -9, then bytes of the newest checkpoint are overwritten or cut off
    full     a disk with room for little more than the first checkpoints (Linux)
    worker   kill -9 of a process that decodes
    video    a video is cut off: the run must end well without it, or, if it is one that
             measures the model, say so and go on when it is back

Prints a table; exits with 1 if a promise was broken.
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
_LIMIT_S = 900  # a start that takes longer hangs
_STOP_S = 60  # SIGTERM must be answered by then, a compilation included
_POLL_S = 0.02


@dataclasses.dataclass
class Case:
    """A run that meets faults.

    Attributes:
        name: of its folder.
        fault: one of `_MEET`.
        command: that starts it, and starts it again.
        workdir: of the run.
        rng: of its moments.
        whole_s: how long the run takes that is left alone.
        faults: how many it has met.
        in_save: how many of them while a checkpoint was being written.
        starts: how often it was started.
        started: when it was started last, in seconds since the epoch.
        broken: promises.
        same: whether it must end as the run that is left alone.
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
        """Where it says what it says."""
        return self.workdir.with_suffix(".log")

    def kill(self, process: subprocess.Popen) -> None:
        """Kills all its processes."""
        self.faults += 1
        self.in_save += bool(self.unfinished())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def unfinished(self) -> list[pathlib.Path]:
        """Returns the checkpoints that the present process is writing."""
        found = self.workdir.glob("*/*tmp*")
        return [path for path in found if changed_s(path) > self.started]

    def wait(self, process: subprocess.Popen) -> int:
        """Returns the exit code, or notes that there is none."""
        try:
            return process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.broken.append("hangs")
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def moment(self) -> float:
        """Draws when the next fault comes, in seconds after a start."""
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
    """Returns the faults that were asked for and can be had here."""
    names = list(flags.FLAGS.faults)
    unknown = [name for name in names if name not in _MEET]
    if unknown:
        raise InputError(f"--faults={unknown[0]}: there are {', '.join(_MEET)}.")
    if "full" in names and not can_mount():
        logging.warning("no small disk can be mounted here: full is left out")
        names = [name for name in names if name != "full"]
    if not names:
        raise InputError("--faults: none is left; name some.")
    return names


@dataclasses.dataclass(frozen=True)
class Ending:
    """What a run ended with."""

    arrays: str
    curves: dict[str, list[tuple[int, float]]]
    seconds: float


def command_of(config: str, workdir: pathlib.Path, *changes: str) -> list[str]:
    """Returns the command of a training."""
    return [
        *(sys.executable, "-m", "svtas_jax.train"),
        *(f"--config={config}", f"--workdir={workdir}"),
        *(
            f"--config.{text}"
            for text in (*_QUICK, *flags.FLAGS["set"].value, *changes)
        ),
    ]


def run_whole(config: str, output: pathlib.Path) -> Ending:
    """Trains once to compile everything, and once more: what is compared with."""
    for part in ("first", "whole"):
        workdir = output / f"{pathlib.Path(config).stem}-{part}"
        begin = time.monotonic()
        command = command_of(config, workdir)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{config} does not train:\n{done.stderr[-2000:]}")
    ending = Ending(arrays_of(workdir), curves_of(workdir), time.monotonic() - begin)
    logging.info("%s alone: %.0f s", config, ending.seconds)
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
        time_to_wait = time.monotonic() + case.moment()
        while process.poll() is None:
            if time.monotonic() > time_to_wait and case.unfinished():
                time.sleep(float(case.rng.uniform(0, 0.06)))
                case.kill(process)
            time.sleep(_POLL_S / 10)


def meet_stop(case: Case) -> None:
    """Asks to stop at any moment."""
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
                case.broken.append("SIGTERM was not answered in time")
            # Before the training begins, nothing is there to be saved.
            if listens and code not in (interruption.EXIT_CODE, 0):
                case.broken.append(f"SIGTERM ended with {code}")


def meet_damage(case: Case) -> None:
    """Kills, and damages a file of the newest checkpoint if there is one before."""
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
    """Trains on a disk that gets full; then goes on with what is left, elsewhere."""
    mine = case.workdir.with_suffix(".disk")
    mine.mkdir()
    room = 2 * size_of(case.workdir.parent / f"{case.name[3:-5]}-whole") // 3
    script = (
        f'mount -t tmpfs -o size={room} tmpfs {mine} && ("$@"; code=$?; '
        f"cp -r {mine}/run {case.workdir}; exit $code)"
    )
    there = [
        f"--workdir={mine}/run" if part.startswith("--workdir=") else part
        for part in case.command
    ]
    case.starts += 1
    case.faults += 1
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *there],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
    )
    if "no space left" not in done.stderr or done.returncode != 1:
        case.broken.append(f"ended with {done.returncode}: {done.stderr[-300:]}")
    if "Traceback" in done.stderr:
        case.broken.append("told with a traceback")
    if not resume.newest(str(case.workdir)):
        case.broken.append("no checkpoint is left")
    if case.wait(case.start()):
        case.broken.append("did not go on")


def meet_worker(case: Case) -> None:
    """Kills a process that decodes: the run must end, and go on when started again."""
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
    """Cuts a video off while it is trained on; the others are trained on to the end."""
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
    if code == 2 and path.name in last_start(case):  # one that measures the model
        path.write_bytes(content)
        code = case.wait(case.start())
    if code:
        case.broken.append("did not go on without the video")


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
    """Starts a run again and again; the last time, after --kills faults, it is left
    alone."""
    while case.faults < flags.FLAGS.kills and not case.broken:
        process = case.start()
        yield process
        if process.returncode == 0:
            return
    if not case.broken and case.wait(case.start()):
        case.broken.append("did not end well when left alone")


def changed_s(path: pathlib.Path) -> float:
    """Returns when a file was changed, 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def last_start(case: Case) -> str:
    """Returns what the present process has said."""
    return case.log.read_text().rpartition("videos to select on")[2]


def children(parent: int) -> list[int]:
    """Returns the processes of a training that decode."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)],
        capture_output=True,
        text=True,
    )
    rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, what in rows if "spawn_main" in what]


def can_mount() -> bool:
    """Whether a disk of memory can be had, as Linux gives it to any user."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True).returncode == 0


def setting(command: list[str], name: str) -> str:
    """Returns a setting of a command."""
    found = [part for part in command if part.startswith(f"--config.{name}=")]
    return found[-1].partition("=")[2] if found else "data/demo"


def size_of(folder: pathlib.Path) -> int:
    """Returns the bytes of a folder's files."""
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
    """Returns tag -> [(step, value)] as TensorBoard shows it, but for times."""
    events = EventAccumulator(str(workdir)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "wait" not in tag]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def write_table(rows: list[dict], output: pathlib.Path) -> None:
    """Prints the table, and writes it."""
    table = report.markdown_table(list(rows[0]), [list(row.values()) for row in rows])
    faults, in_save = (sum(row[k] for row in rows) for k in ("faults", "during a save"))
    logging.info("%d faults, %d during a save\n%s", faults, in_save, table)
    write_atomic(output / "table.md", table + "\n")


def is_broken(row: dict) -> bool:
    """Whether a run broke a promise."""
    return "DIFFERENT" in (row["arrays"], row["curves"]) or (
        row["broken promises"] != "none"
    )


def define_flags() -> None:
    """Gives the command its flags."""
    flags.DEFINE_integer("runs", 12, "Runs that meet faults.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the moments and the damage.")
    flags.DEFINE_integer("kills", 6, "Most faults in a run.", lower_bound=1)
    flags.DEFINE_list("faults", list(_MEET), "Which of them, in turn.")
    flags.DEFINE_list("configs", list(_CONFIGS), "Trained in turn.")
    flags.DEFINE_string("output", "runs/faults", "Folder of the runs.")
    flags.DEFINE_multi_string("set", [], "section.field=value for every run.")


if __name__ == "__main__":
    define_flags()
    cli.define("json")
    cli.run(main, required=())
