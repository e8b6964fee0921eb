"""The flags that commands share, and the messages and exit codes of failures.

Flags are defined when a command starts, not when a module is imported.
"""

import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import ml_collections
from absl import app, flags
from ml_collections import config_flags

from svtas_jax.errors import InputError, MissingInputError, SourceError
from svtas_jax.runtime import configs, hosts, interruption, process

_TEXTS = {
    "workdir": (None, "Folder of a run: checkpoints, logs, reports."),
    "checkpoint": ("best", "best, latest or a step of the run."),
    "engine": (
        "jax",
        "What computes an exported model: jax, onnxruntime or openvino.",
    ),
    "json": (None, "JSON file for the figures."),
    "distributed": (
        "",
        "How several processes work as one: auto (found from SLURM, MPI or "
        "Kubernetes), HOST:PORT,N,I (this is process I, from 0, of N; the first "
        "listens at HOST:PORT) or none. By default auto under srun and mpirun.",
    ),
}
_LISTS = {
    "clip_frames": "Raw frames in a chunk, instead of the config's; 0: whole videos. A "
    "model trained on whole videos of features then runs on a stream. A list such as "
    "64,128 evaluates once for each.",
}

_RULES = {
    "min_duration": "Seconds for which the model gives a new label before it is shown; "
    "0: off.",
    "min_confidence": "Probability that a new label needs to be shown; 0: off.",
    "hysteresis": "By how much a new label's probability must exceed that of the one "
    "shown; 0: off.",
}
SMOOTHING = tuple(_RULES)


def define(*names: str) -> None:
    """Defines shared flags.

    Args:
        names: of "config", "workdir", "checkpoint", "engine", "json", "distributed",
            "clip_frames", "source", "once" and those of `SMOOTHING`.
    """
    for name in names:
        if name == "config":
            config_flags.DEFINE_config_file(
                name, None, "Path of a config, or a name from configs/: gtea_sete."
            )
        elif name in _LISTS:
            flags.DEFINE_list(name, [], _LISTS[name])
        elif name == "source":
            flags.DEFINE_multi_string(
                name,
                None,
                "Video file, camera number, URL, pipe, or - for standard input; may be "
                "given several times.",
            )
        elif name in _RULES:
            flags.DEFINE_float(name, 0.0, _RULES[name])
        elif name == "once":
            flags.DEFINE_bool(
                name, False, "Do not open a live source again if it breaks."
            )
        else:
            default, text = _TEXTS[name]
            flags.DEFINE_string(name, default, text)
        # --help lists the flags of the program's own module.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def integers(name: str) -> tuple[int, ...]:
    """Returns the value of a list flag.

    Raises:
        InputError: if an item is not a non-negative integer.
    """
    items: list[str] = flags.FLAGS[name].value or []
    for item in items:
        if not item.isdecimal():
            raise InputError(
                f"--{name}: {item!r} is not a whole number; write --{name}=64,128."
            )
    return tuple(int(item) for item in items)


def run(main: Callable[[], None], *, required: Sequence[str] = ("workdir",)) -> None:
    """Parses the flags and calls `main`.

    A user's mistake prints one message to stderr, without a traceback, and exits with
    code 2; so does a live source that broke off, with code 3, and a disk error, with
    code 1. SIGTERM exits with code 75.
    """
    _start(lambda argv: _guard(main, argv, required))


def run_on(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and calls `main` with the arguments that are no flags, wherever
    they stand between them; otherwise as `run`."""
    flags.FLAGS.set_gnu_getopt()
    _start(lambda argv: _guard(lambda: main(argv[1:]), argv[:1], ()))


def _start(guarded: Callable[[list[str]], None]) -> None:
    process.log_to_stderr()
    process.quiet_threads()
    try:
        app.run(guarded, flags_parser=_parse_flags)
    except KeyboardInterrupt:
        _fail("interrupted.", 130)


def _guard(main: Callable[[], None], argv: list[str], required: Sequence[str]) -> None:
    try:
        _check_flags(argv, required)
        process.keep_freed_memory()
        process.use_compilation_cache()
        if "distributed" in flags.FLAGS:
            hosts.connect(flags.FLAGS.distributed)
        main()
        hosts.wait()
    except InputError as error:
        _fail(str(error), 3 if isinstance(error, SourceError) else 2)
    except BrokenPipeError:  # as in `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except interruption.Interrupted as error:  # in all processes at the same time
        print(error, file=sys.stderr)
        sys.exit(interruption.EXIT_CODE)
    except Exception as error:
        folder = flags.FLAGS.workdir if "workdir" in flags.FLAGS else None
        if explanation := process.explain_disk_error(error, folder or ""):
            _fail(explanation, 1)
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        _fail(
            "this process failed, or lost the connection to another one; see the "
            "other processes' messages.",
            1,
        )


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(_with_config_paths(argv))
    except flags.Error as error:
        _fail(f"{error}", 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(f"--config: {error}", 2)


def _with_config_paths(argv: list[str]) -> list[str]:
    """Returns the arguments, with the names of known configs replaced by paths."""
    found = list(argv)
    for index, argument in enumerate(argv[1:], 1):
        flag, equals, value = argument.partition("=")
        if flag.lstrip("-") == "config" and equals:
            found[index] = f"{flag}={configs.find(value)}"
        elif argv[index - 1] in ("--config", "-config"):
            found[index] = str(configs.find(argument))
    return found


def _check_flags(argv: list[str], required: Sequence[str]) -> None:
    if len(argv) > 1:
        raise InputError(
            f"unexpected argument {argv[1]!r}; flags look like --name=value."
        )
    for name in required:
        if flags.FLAGS[name].value is None:
            raise MissingInputError(f"--{name} is missing; --help lists the flags.")
    if "config" not in flags.FLAGS:
        return
    config: Any = flags.FLAGS["config"]  # of a class that ml_collections hides
    if not isinstance(config.value, ml_collections.ConfigDict | None):
        raise MissingInputError(configs.missing(pathlib.Path(config.config_filename)))


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    hosts.leave(code)
