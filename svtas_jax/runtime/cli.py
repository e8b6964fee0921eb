"""The flags that commands share, and how a command ends when the input is wrong.

Flags are defined when a command starts, never when a module is imported.
"""

import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence

import jax
import ml_collections
from absl import app, flags
from ml_collections import config_flags

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import configs, hosts, interruption, process

_TEXTS = {
    "workdir": (None, "Folder of a run: checkpoints, logs, reports."),
    "checkpoint": ("best", "best, latest or a step of the run."),
    "json": (None, "File to write the figures to."),
    "distributed": (
        "",
        "Several processes as one: auto (what SLURM, MPI or Kubernetes report), "
        "HOST:PORT,N,I (this is process I, from 0, of N; the first listens at "
        "HOST:PORT) or none. By default auto under srun and mpirun.",
    ),
}
_LISTS = {
    "clip_frames": "Raw frames in a chunk, instead of the run's: cuts the whole videos "
    "that a model of features was trained on into a stream. 0: whole videos. Several, "
    "with commas between them, evaluate several times.",
}


def define(*names: str) -> None:
    """Defines shared flags; a command refuses those that it does not define.

    Args:
        names: of "config", "workdir", "checkpoint", "json", "distributed" and
            "clip_frames".
    """
    for name in names:
        if name == "config":
            config_flags.DEFINE_config_file(
                name, None, "Config file, or the name of one in configs/: gtea_sete."
            )
        elif name in _LISTS:
            flags.DEFINE_list(name, [], _LISTS[name])
        else:
            flags.DEFINE_string(name, *_TEXTS[name])


def integers(name: str) -> tuple[int, ...]:
    """Returns the value of a list flag.

    Raises:
        InputError: if an item is not a whole number from 0.
    """
    items = flags.FLAGS[name].value
    for item in items:
        if not item.isdecimal():
            raise InputError(
                f"--{name}: {item!r} is not a whole number; write --{name}=64,128."
            )
    return tuple(int(item) for item in items)


def run(main: Callable[[], None], *, required: Sequence[str] = ("workdir",)) -> None:
    """Parses the flags and calls `main`.

    A user's mistake ends with one message on stderr and exit code 2, without a
    traceback; an unfinished disk operation likewise with 1, SIGTERM with 75.
    """
    process.log_to_stderr()
    process.quiet_threads()
    try:
        app.run(lambda argv: _guard(main, argv, required), flags_parser=_parse_flags)
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
        _fail(str(error), 2)
    except interruption.Interrupted as error:  # all processes at once
        print(error, file=sys.stderr)
        sys.exit(interruption.EXIT_CODE)
    except Exception as error:
        folder = flags.FLAGS.workdir if "workdir" in flags.FLAGS else None
        if explanation := process.explain_disk_error(error, folder or ""):
            _fail(explanation, 1)
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        _fail("this process failed, or lost another: see what that one says.", 1)


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(_with_config_paths(argv))
    except flags.Error as error:
        _fail(f"{error}", 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(f"--config: {error}", 2)


def _with_config_paths(argv: list[str]) -> list[str]:
    """Returns the arguments with the names of known configs as paths."""
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
    config = flags.FLAGS["config"]
    if not isinstance(config.value, ml_collections.ConfigDict | None):
        raise MissingInputError(configs.missing(pathlib.Path(config.config_filename)))


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    hosts.leave(code)
