"""Segments a video file, camera or URL as it comes: one JSON line per chunk.

    python -m svtas_jax.stream --workdir=runs/x --source=video.mp4|0|rtsp://...|-
        [--checkpoint=best|latest|STEP]

The labels are those of `svtas_jax.evaluate`, the times those of the source's time
stamps.
"""

import json
import sys
from typing import TextIO

from absl import flags

from svtas_jax import runs
from svtas_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    stream(runs.load(given.workdir, given.checkpoint), given.source, sys.stdout)


def stream(run: runs.Run, source: str, out: TextIO) -> None:
    """Writes a JSON line for every chunk of a source, as soon as it is segmented."""
    for result in run.stream(source):
        out.write(json.dumps(result.to_json(), ensure_ascii=False) + "\n")
        out.flush()


if __name__ == "__main__":
    cli.define("workdir", "checkpoint")
    flags.DEFINE_string(
        "source", None, "Video file, camera number, URL, pipe, or - for standard input."
    )
    cli.run(main, required=("workdir", "source"))
