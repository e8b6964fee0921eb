"""Serves a page and an HTTP interface for cameras, uploaded videos and browsers.

    python -m svtas_jax.serve --workdir=runs/x [--source=0|rtsp://...|video.mp4 ...]
        [--checkpoint=best|latest|STEP] [--engine=jax|onnxruntime|openvino]
        [--host=127.0.0.1] [--port=8000] [--token=SECRET] [--once] [--gap_reset=2]
        [--max_upload_mb=500]

It needs the extra serve: pip install "svtas_jax[serve]". The page is for this machine
only; with a token, --host=0.0.0.0 opens it to others. See docs/serving.md.
"""

import importlib.util

from absl import flags

from data_pipeline.reader import GAP_RESET_S
from svtas_jax import runs
from svtas_jax.errors import InputError
from svtas_jax.runtime import cli, process

_EXTRA = ("starlette", "uvicorn", "websockets", "python_multipart")


def main() -> None:
    """Runs the command."""
    check_extra()
    from svtas_jax.serving import server, state

    given = flags.FLAGS
    server.check_access(given.host, given.token)
    with server.open_socket(given.host, given.port) as listening:
        found = state.open_state(
            runs.load(given.workdir, given.checkpoint, engine=given.engine),
            given.source or [],
            once=given.once,
            gap_reset_s=given.gap_reset,
            max_upload_mb=given.max_upload_mb,
        )
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
    define_flags()
    cli.run(main_to_the_end)
