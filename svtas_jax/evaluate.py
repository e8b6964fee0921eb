"""Evaluates a run on the test videos; writes metrics, predictions and pictures.

    python -m svtas_jax.evaluate --workdir=runs/x [--config=configs/x.py]
        [--checkpoint=best|latest|STEP] [--clip_frames=64,128] [--online]
        [--true_labels] [--metrics=svtas|ms-tcn|asformer|detection]
        [--hysteresis=0.2] [--min_duration=0.5] [--min_confidence=0.5]
    python -m svtas_jax.evaluate --predictions=FOLDER --config=configs/x.py
        [--metrics=...] [--output=FOLDER] [--fps=15]

The run's own config is the default. --clip_frames sets other chunk lengths. --online
also measures when labels come, see `svtas_jax.evaluation.online`. --metrics chooses
whose conventions the metrics follow, see `docs/metrics.md`. --true_labels shows what a
Transeger would reach if it knew the true labels of every last chunk. --hysteresis,
--min_duration and --min_confidence smooth labels as `svtas_jax.stream` does.

--predictions scores files that any program wrote, one a video
(`svtas_jax.evaluation.prediction_files`); it needs labels, but neither run nor videos.
"""

from absl import flags

from svtas_jax import runs
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import presets
from svtas_jax.evaluation.score_files import score_files
from svtas_jax.runtime import cli
from svtas_jax.smoothing import of_flags

_OF_RUNS = (
    "workdir",
    "checkpoint",
    "clip_frames",
    "online",
    "true_labels",
    "distributed",
    *cli.SMOOTHING,
)
_OF_FILES = ("output", "fps")


def main() -> None:
    """Runs the command."""
    run(flags.FLAGS)


def run(given: flags.FlagValues) -> None:
    """Evaluates a run, or scores files.

    Raises:
        InputError: if the flags do not go together; for any other mistake.
    """
    if given.predictions is None:
        _evaluate_run(given)
        return
    _refuse(given, _OF_RUNS, "belongs to the evaluation of a run; leave it out with")
    if given.config is None:
        raise MissingInputError(
            "--config is missing; it names the data and the split of --predictions."
        )
    score_files(
        given.predictions,
        given.config,
        metrics=given.metrics,
        output=given.output,
        fps=given.fps,
    )


def _evaluate_run(given: flags.FlagValues) -> None:
    _refuse(given, _OF_FILES, "needs")
    if given.workdir is None:
        raise MissingInputError(
            "--workdir or --predictions is missing; --help lists the flags."
        )
    smoothing = of_flags(given)
    for frames in cli.integers("clip_frames") or (None,):
        runs.evaluate(
            given.workdir,
            given.checkpoint,
            config=given.config,
            clip_frames=frames,
            online=given.online,
            preset=given.metrics,
            true_labels=given.true_labels,
            smoothing=smoothing,
        )


def _refuse(given: flags.FlagValues, names: tuple[str, ...], why: str) -> None:
    """Raises InputError if one of these flags was given."""
    for name in names:
        if given[name].present:
            raise InputError(f"--{name} {why} --predictions.")


if __name__ == "__main__":
    cli.define("workdir", "config", "checkpoint", "clip_frames", "distributed")
    cli.define(*cli.SMOOTHING)
    flags.DEFINE_bool(
        "online",
        False,
        "Also measure when labels come: delays of starts and ends, flicker, accuracy "
        "in the first seconds, per-frame mAP.",
    )
    flags.DEFINE_bool(
        "true_labels",
        False,
        "Make Transeger's prompts of the true labels of every last chunk: a ceiling, "
        "not a result, in a folder of its own.",
    )
    flags.DEFINE_string(
        "predictions", None, "Folder of files to score instead of a run: one a video."
    )
    flags.DEFINE_string(
        "metrics",
        presets.DEFAULT,
        f"Whose conventions the metrics follow: {', '.join(presets.PRESETS)}.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the report on --predictions; by default FOLDER-scores/METRICS.",
    )
    flags.DEFINE_float(
        "fps",
        0.0,
        "Frames a second of --predictions, for tolerances in seconds; 0: unknown.",
        lower_bound=0.0,
    )
    cli.run(main, required=())
