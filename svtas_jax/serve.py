"""Serves a page for cameras, uploaded videos and browsers, or one to label videos.

    python -m svtas_jax.serve --workdir=runs/x [--source=0|rtsp://...|video.mp4 ...]
        [--checkpoint=best|latest|STEP] [--engine=jax|onnxruntime|openvino]
        [--host=127.0.0.1] [--port=8000] [--token=SECRET] [--once] [--gap_reset=2]
        [--max_upload_mb=500]
        [--min_duration=0.5] [--min_confidence=0.5] [--hysteresis=0.1]
    python -m svtas_jax.serve --label=FOLDER [--workdir=runs/x]
        [--checkpoint=best|latest|STEP] [--engine=jax|onnxruntime|openvino]
        [--host=127.0.0.1] [--port=8000] [--token=SECRET]

FOLDER is a data root, or has only Videos/ yet; a run proposes labels. All this needs
the extra serve: pip install "svtas_jax[serve]". The page is for this machine only; with
a token, --host=0.0.0.0 opens it to others. See docs/serving.md and docs/labelling.md.
"""

import importlib.util

from absl import flags

from data_pipeline.reader import GAP_RESET_S
from svtas_jax import runs
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import cli, process
from svtas_jax.smoothing import of_flags

_EXTRA = ("starlette", "uvicorn", "websockets", "python_multipart")


def main() -> None:
    """Runs the command.

    Raises:
        InputError: if flags are missing, contradict each other, or are wrong.
    """
    check_extra()
    from svtas_jax.serving import server, state

    given = flags.FLAGS
    server.check_access(given.host, given.token)
    if given.label is not None:
        label()
        return
    if given.workdir is None:
        raise MissingInputError(
            "--workdir=runs/x is missing, a run that segments; or --label=FOLDER to "
            "label videos. --help lists the flags."
        )
    with server.open_socket(given.host, given.port) as listening:
        found = state.open_state(
            runs.load(given.workdir, given.checkpoint, engine=given.engine),
            given.source or [],
            once=given.once,
            gap_reset_s=given.gap_reset,
            max_upload_mb=given.max_upload_mb,
            smoothing=of_flags(given),
        )
        server.serve(found, listening, host=given.host, token=given.token)


def label() -> None:
    """Serves the labelling page.

    Raises:
        InputError: if flags contradict each other, or the folder cannot be labelled.
    """
    from svtas_jax.serving import server
    from svtas_jax.serving.labelling import state

    given = flags.FLAGS
    if given.source:
        raise InputError(
            "--label shows the videos of its folder; leave out --source, or show "
            "cameras with a second server on another --port."
        )
    for name in cli.SMOOTHING:
        if getattr(given, name):
            raise InputError(
                f"--{name} smooths what a run answers live; --label does not, so leave "
                "it out."
            )
    with server.open_socket(given.host, given.port) as listening:
        run = None
        if given.workdir is not None:
            run = runs.load(given.workdir, given.checkpoint, engine=given.engine)
        found = state.open_state(given.label, run)
        server.serve(found, listening, host=given.host, token=given.token)


def main_to_the_end() -> None:
    """Runs the command and ends the process: sources may stall, models compile."""
    main()
    process.end_at_once()


def check_extra() -> None:
    """Checks that the packages of the extra are there.

    Raises:
        InputError: if one is missing.
    """
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the server needs {', '.join(missing)}, which the extra serve installs: "
            'pip install "svtas_jax[serve]".'
        )


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_float(
        "gap_reset",
        GAP_RESET_S,
        "Seconds without a frame after which a new stream begins.",
        lower_bound=0.0,
    )
    flags.DEFINE_string(
        "label", None, "Data folder whose videos the page labels; it may be new."
    )
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
    flags.DEFINE_integer("port", 8000, "Port to listen on; 0: any that is free.")
    flags.DEFINE_string("token", "", "Secret that every request must show.")
    flags.DEFINE_float(
        "max_upload_mb",
        500.0,
        "Size of an uploaded video in megabytes.",
        lower_bound=0.0,
    )


if __name__ == "__main__":
    cli.define("workdir", "checkpoint", "engine", "source", "once")
    cli.define(*cli.SMOOTHING)
    define_flags()
    cli.run(main_to_the_end, required=())
