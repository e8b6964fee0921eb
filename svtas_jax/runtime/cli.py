"""The flags that commands share, and how a command ends when the input is wrong."""

import ctypes
import errno
import os
import pathlib
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from logging import INFO, WARNING

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import hosts, interruption
from svtas_jax.runtime.interruption import Interrupted

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run: checkpoints, logs, reports."
)
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, such as configs/gtea_transeger.py."
)


# Flags of several commands, not of all: a command that does not know one says so.


def define_checkpoint() -> None:
    """Gives a command --checkpoint."""
    flags.DEFINE_string("checkpoint", "best", "best, latest or a step of the run.")


def define_distributed() -> None:
    """Gives a command --distributed."""
    flags.DEFINE_string(
        "distributed",
        "",
        "Several processes as one: auto (as SLURM, MPI or Kubernetes tell), "
        "HOST:PORT,N,I (this is process I, from 0, of N; the first listens at "
        "HOST:PORT) or none. By default auto under srun and mpirun.",
    )


def define_json() -> None:
    """Gives a command --json."""
    flags.DEFINE_string("json", None, "File to write the figures to.")


def define_clip_frames() -> None:
    """Gives a command --clip_frames."""
    flags.DEFINE_list(
        "clip_frames",
        [],
        "Raw frames in a chunk, instead of the run's: cuts the whole videos that a "
        "model of features was trained on into a stream. 0: whole videos. Several, "
        "with commas between them, evaluate several times.",
    )


def integers(name: str) -> tuple[int, ...]:
    """Returns the value of a list flag.

    Raises:
        InputError: if an item is no number from 0.
    """
    items = flags.FLAGS[name].value
    for item in items:
        if not item.isdecimal():
            raise InputError(
                f"--{name}: {item!r} is no whole number; write --{name}=64,128."
            )
    return tuple(int(item) for item in items)


# Of malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD (bytes to grow by), and
# M_ARENA_MAX: XLA allocates in threads of its own, whose arenas hold 64 MB at most.
_KEEP_ALL = ((-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 200_000_000), (-8, 1))
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def run(main: Callable[[], None], *, required: Sequence[str] = ("workdir",)) -> None:
    """Parses the flags and calls `main`.

    A user's mistake ends with one message on stderr and exit code 2, without a
    traceback; an unfinished disk operation likewise with 1, SIGTERM with 75.
    """
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(None)
    logging.get_absl_handler().addFilter(_is_ours)
    threading.excepthook, sys.unraisablehook = _hook_thread, _hook_callback

    def guarded(argv):
        try:
            _check_flags(argv, required)
            _keep_freed_memory()
            _use_compilation_cache()
            if "distributed" in flags.FLAGS:
                hosts.connect(flags.FLAGS.distributed)
            main()
            hosts.wait()
        except InputError as error:
            _fail(str(error), 2)
        except Interrupted as error:  # all processes at once
            print(error, file=sys.stderr)
            sys.exit(interruption.EXIT_CODE)
        except Exception as error:
            if explanation := _explain_disk(error):
                _fail(explanation, 1)
            if not jax.distributed.is_initialized():
                raise
            traceback.print_exc()
            _fail("this process failed, or lost another: see what that one says.", 1)

    try:
        app.run(guarded, flags_parser=_parse_flags)
    except KeyboardInterrupt:
        _fail("interrupted.", 130)


def _parse_flags(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(f"{error}", 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(f"--config: {error}", 2)


def _check_flags(argv, required):
    if len(argv) > 1:
        raise InputError(
            f"unexpected argument {argv[1]!r}; flags look like --name=value."
        )
    for name in required:
        if flags.FLAGS[name].value is None:
            raise MissingInputError(f"--{name} is missing; --help lists the flags.")
    config = flags.FLAGS["config"]
    if not isinstance(config.value, ml_collections.ConfigDict | None):
        raise MissingInputError(
            f"--config={config.config_filename} does not exist; those that come with "
            "the program are in configs/."
        )


def _is_ours(record) -> bool:
    """Keeps the libraries' notes out of the log, not their warnings.

    Of a full disk every thread and task of Orbax would tell; that is left to `run`.
    """
    if record.exc_info and _explain_disk(record.exc_info[1]):
        return False
    folders = pathlib.Path(record.pathname).parts
    if "orbax" in folders:
        return record.levelno > WARNING
    ours = {"svtas_jax", "data_pipeline"} & set(folders[-3:-1])
    return record.levelno > INFO or ours or folders[-2] in ("scripts", "clu")


def _keep_freed_memory() -> None:
    """Tells glibc to keep what is freed for the next allocation.

    XLA's CPU programs allocate and free megabytes for every call. By default glibc
    gives them back to the kernel, which clears every page anew: a third of the time of
    a small model's training. Who sets MALLOC_ variables knows better.
    """
    told = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if told or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in _KEEP_ALL:
        libc.mallopt(option, value)


def _use_compilation_cache():
    """Keeps compiled programs between runs: a second start takes seconds."""
    if jax.config.jax_compilation_cache_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", f"{cache}/svtas_jax/xla")


def _explain_disk(error: Exception) -> str:
    """Returns what to tell of an error of the disk, nothing of any other."""
    where = getattr(error, "filename", None) or WORKDIR.value or "the run's folder"
    number = getattr(error, "errno", None)
    if number in _FULL or any(f"os_error_code='{n}'" in str(error) for n in _FULL):
        return (
            f"no space left for {where}. What was written before is whole: free some "
            "space (checkpoints of other runs, or all but the newest of this one) and "
            "run the same command again: it goes on."
        )
    if number in _REFUSED:
        return f"{where}: {error.strerror}. Choose a --workdir that you may write to."
    return ""


def _hook_thread(args) -> None:
    """Leaves it to the main thread to tell of a full disk, once."""
    if not _explain_disk(args.exc_value):
        threading.__excepthook__(args)


def _hook_callback(args) -> None:
    """Keeps quiet what TensorStore's threads say when Orbax has given up a save."""
    if str(args.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(args)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    hosts.leave(code)
