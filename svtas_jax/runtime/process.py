"""How this process behaves: memory, compiled programs, the log, errors of the disk."""

import ctypes
import errno
import os
import pathlib
import platform
import sys
import threading
from logging import INFO, WARNING, LogRecord

import jax
from absl import logging

# Of malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD (bytes to grow by), and
# M_ARENA_MAX: XLA allocates in threads of its own, whose arenas hold 64 MB at most.
_KEEP_ALL = ((-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 200_000_000), (-8, 1))
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_OURS = {"svtas_jax", "data_pipeline"}


def log_to_stderr() -> None:
    """Logs our notes and every library's warnings as plain lines on stderr."""
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(None)
    logging.get_absl_handler().addFilter(_is_wanted)


def quiet_threads() -> None:
    """Leaves it to the main thread to report a full disk, once."""
    threading.excepthook = _hook_thread
    sys.unraisablehook = _hook_callback


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation.

    XLA's CPU programs allocate and free megabytes for every call. By default glibc
    returns them to the kernel, which clears every page anew: a third of the time of a
    small model's training. Whoever sets MALLOC_ variables knows better.
    """
    tuned = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if tuned or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in _KEEP_ALL:
        libc.mallopt(option, value)


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs: a second start takes seconds."""
    if jax.config.jax_compilation_cache_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", f"{cache}/svtas_jax/xla")


def explain_disk_error(error: BaseException | None, folder: str = "") -> str:
    """Returns a message for an error of the disk, "" for any other error.

    Args:
        error: what was raised.
        folder: named in the message if the error names no file.
    """
    where = getattr(error, "filename", None) or folder or "the run's folder"
    number = getattr(error, "errno", None)
    if number in _FULL or any(f"os_error_code='{n}'" in str(error) for n in _FULL):
        return (
            f"no space left for {where}. What was written before is whole: free some "
            "space (checkpoints of other runs, or all but the newest of this one) and "
            "run the same command again: it goes on."
        )
    if isinstance(error, OSError) and number in _REFUSED:
        return f"{where}: {error.strerror}. Choose a --workdir that you may write to."
    return ""


def _is_wanted(record: LogRecord) -> bool:
    """Keeps the libraries' notes out of the log, not their warnings.

    Every thread and task of Orbax would report a full disk; `quiet_threads` says why
    they do not.
    """
    if record.exc_info and explain_disk_error(record.exc_info[1]):
        return False
    folders = pathlib.Path(record.pathname).parts
    if "orbax" in folders:
        return record.levelno > WARNING
    if record.levelno > INFO or folders[-2] in ("scripts", "clu"):
        return True
    return bool(_OURS & set(folders[-3:-1]))


def _hook_thread(args: threading.ExceptHookArgs) -> None:
    if not explain_disk_error(args.exc_value):
        threading.__excepthook__(args)


def _hook_callback(args: "sys.UnraisableHookArgs") -> None:
    """Hides what TensorStore's threads report after Orbax has given up a save."""
    if str(args.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(args)
