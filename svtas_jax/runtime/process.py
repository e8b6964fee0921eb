"""Settings of this process: the log, memory, the compilation cache, disk errors."""

import ctypes
import errno
import os
import pathlib
import platform
import sys
import threading
from logging import INFO, WARNING, LogRecord
from typing import NoReturn

import jax
from absl import logging

# mallopt's M_ARENA_MAX (XLA allocates in its own threads, whose arenas hold at most
# 64 MB) and M_TOP_PAD (how many bytes more the heap grows); then M_MMAP_THRESHOLD and
# M_TRIM_THRESHOLD, or M_MMAP_MAX and M_TRIM_THRESHOLD (-1: never).
_ALWAYS = ((-8, 1), (-2, 200_000_000))
_KEEP_2_GB = ((-3, 2**31 - 1), (-1, 2**31 - 1))
_KEEP_ALL = ((-4, 0), (-1, -1))
_PLENTY = 15 << 30
_HUGE_PAGE, _MADV_HUGEPAGE = 1 << 21, 14
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_OURS = {"svtas_jax", "data_pipeline"}


def log_to_stderr() -> None:
    """Logs our messages and every library's warnings as plain lines on stderr."""
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(None)
    logging.get_absl_handler().addFilter(_is_wanted)


def simulate_devices(number: int) -> None:
    """Makes the CPU act as several devices; to be called before JAX computes."""
    jax.config.update("jax_num_cpu_devices", number)
    # A device that waits for the others holds one of XLA's threads. With as many
    # threads as devices, some programs would wait forever.
    os.environ.setdefault("NPROC", str(4 * number))


def quiet_threads() -> None:
    """Lets only the main thread report a full disk."""
    threading.excepthook = _hook_thread
    sys.unraisablehook = _hook_callback


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation.

    XLA's CPU programs allocate and free megabytes in every call. By default glibc
    returns them to the kernel, which has to clear every page again: a third of the time
    of a small model's training. MALLOC_ variables of the user have priority.

    A process may then hold two or three times what it uses at a time, where new arrays
    do not fit between old ones. So with less than 16 GB of memory, arrays of 2 GB and
    more are returned.
    """
    tuned = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if tuned or platform.libc_ver()[0] != "glibc":
        return
    libc, memory = ctypes.CDLL(None), _memory()
    for option, value in _KEEP_ALL if memory >= _PLENTY else _KEEP_2_GB:
        libc.mallopt(option, value)
    if memory >= _PLENTY and _has_to_be_asked():
        _use_huge_pages(libc, memory // 2)
    for option, value in _ALWAYS:
        libc.mallopt(option, value)


def _memory() -> int:
    """Returns the bytes of memory of the machine, or of its container if less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = pathlib.Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def _use_huge_pages(libc: ctypes.CDLL, size: int) -> None:
    """Lets Linux use pages of 2 MB for the first `size` bytes of the heap.

    It is asked for addresses that exist, so the heap first grows; only what is written
    to takes memory. With pages of 4 kB, a training step of SETE takes 1.25 times as
    long on a CPU.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    block = libc.malloc(size)
    if block:
        start = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        length = (block + size - start) // _HUGE_PAGE * _HUGE_PAGE
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
        libc.free(block)


def _has_to_be_asked() -> bool:
    """Whether huge pages are used on request, memory counts only once written, and
    there is no GPU, with which programs keep their memory elsewhere."""
    if any(pathlib.Path("/dev").glob("nvidia[0-9]*")):
        return False
    try:
        huge = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        counted = pathlib.Path("/proc/sys/vm/overcommit_memory").read_text()
    except OSError:
        return False
    return "[madvise]" in huge and counted.strip() != "2"


def use_compilation_cache() -> None:
    """Stores compiled programs for later runs, which then start within seconds."""
    # pyrefly: ignore[missing-attribute]  JAX defines its options as it starts
    if jax.config.jax_compilation_cache_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", f"{cache}/svtas_jax/xla")


def explain_disk_error(error: BaseException | None, folder: str = "") -> str:
    """Returns a message for a full disk or a lack of permission, else "".

    Args:
        error: the exception.
        folder: named in the message if the exception names no file.
    """
    where = getattr(error, "filename", None) or folder or "the run's folder"
    number = getattr(error, "errno", None)
    if number in _FULL or any(f"os_error_code='{n}'" in str(error) for n in _FULL):
        return (
            f"no space left for {where}. Earlier files are intact: free some space "
            "(checkpoints of other runs, or all but the newest of this one) and run "
            "the same command again to resume."
        )
    if isinstance(error, OSError) and number in _REFUSED:
        return f"{where}: {error.strerror}. Choose a --workdir that you can write to."
    return ""


def _is_wanted(record: LogRecord) -> bool:
    """Drops the libraries' messages below a warning, and their reports of a full disk,
    which every thread and task of Orbax would repeat."""
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
    """Hides the errors of TensorStore's threads after Orbax has given up a save."""
    if str(args.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(args)


def end_at_once(code: int = 0) -> NoReturn:
    """Ends the process without waiting for its daemon threads.

    Python would stop them where they are, in the middle of FFmpeg's or XLA's code, and
    abort the process.
    """
    logging.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
