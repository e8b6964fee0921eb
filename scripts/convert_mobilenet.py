"""Makes a checkpoint to start training from out of a folded ImageNet MobileNetV2.

    python scripts/convert_mobilenet.py --weights=mobilenet_v2.npz \\
        --config=configs/gtea_sete.py --workdir=runs/imagenet
    python -m svtas_jax.train --config=configs/gtea_sete.py --workdir=runs/x \\
        --config.train.init_from=runs/imagenet

Batch norm's statistics are measured on the config's training videos.
"""

import itertools
import zipfile

import jax
import numpy as np
from absl import flags, logging

from svtas_jax import checkpoint, cli, folded, train
from svtas_jax.config import stream_spec, validate_config
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.models import build_model
from svtas_jax.streaming import blank_chunk

WEIGHTS = flags.DEFINE_string("weights", None, "The .npz file of folded arrays.")
_NUM_CALLS = 8  # batches to calibrate on: a few hundred frames


def main() -> None:
    """Runs the command."""
    config, workdir = cli.CONFIG.value, cli.WORKDIR.value
    validate_config(config)
    weights, unplaced = folded.unfold(read_arrays(WEIGHTS.value))
    logging.info("without a place here: %s", ", ".join(unplaced) or "nothing")
    data = train.read_training_data(config)
    model = build_model(config, data.class_names)
    chunk = blank_chunk(1, stream_spec(config), config.data.crop)
    variables = jax.jit(model.init)(
        jax.random.key(config.seed), model.initial_state(1), chunk
    )
    variables = checkpoint.merge_matching(variables, weights, source=WEIGHTS.value)
    variables = folded.calibrate(model, variables, calibration_chunks(config, data))
    meta = train.describe_run(config, data, step=0, epoch=0)
    checkpoint.save_model(workdir, variables, meta)
    logging.info("start from it with --config.train.init_from=%s", workdir)


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Reads an .npz file; never runs code from it.

    Raises:
        MissingInputError: if it does not exist.
        InputError: if it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise MissingInputError(f"--weights={path} does not exist.") from error
    except (AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"--weights={path} is not an .npz file of arrays: {error}"
        ) from error


def calibration_chunks(config, data):
    """Yields a few chunks of the training videos, augmented as in training."""
    for batch in itertools.islice(train.training_batches(config, data), _NUM_CALLS):
        for index in range(len(batch.chunks.starts)):
            yield jax.tree.map(lambda leaf, i=index: leaf[i], batch.chunks)


if __name__ == "__main__":
    cli.run(main, required=("config", "workdir", "weights"))
