"""Converts weights of other programs to a checkpoint, and back.

    python scripts/convert_torch_checkpoint.py --weights=FILE \\
        --config=configs/gtea_sete.py --workdir=runs/converted
    python -m svtas_jax.train --config=configs/gtea_sete.py --workdir=runs/x \\
        --config.train.init_from=runs/converted
    python scripts/convert_torch_checkpoint.py --workdir=runs/x \\
        --export=FILE.safetensors

Training reads such a file by itself: --config.train.init_from=FILE. There, weights of a
MobileNetV2 are also adapted to the config's data.mean and data.std; here they are not.

FILE (.pth .pt .pkl .safetensors .npz) is a checkpoint of the public SVTAS code, of
mmaction2 (TSM-MobileNetV2, I3D), torchvision's or timm's MobileNetV2, OpenAI's CLIP, or
a MobileNetV2 with folded batch norm, whose statistics are then measured on the config's
training videos. No code in FILE is run. Weights that do not fit are listed.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import flax.traverse_util
import jax
import ml_collections
from absl import flags, logging

from data_pipeline.known import class_names_of
from svtas_jax import runs
from svtas_jax.checkpoints import store
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import cli, lock, provenance
from svtas_jax.runtime.sharding import make_mesh
from svtas_jax.structs import Chunk, Params
from svtas_jax.training.data import read_training_data, training_batches
from svtas_jax.training.step import init_variables
from svtas_jax.weights import convert, folded_mobilenet, pretrained
from svtas_jax.weights.files import write_safetensors
from svtas_jax.weights.rules import Rules

_READS_FEATURES = (
    "head/stage1/conv_1x1/kernel",
    "head/encoder/conv_1x1/kernel",
    "project/kernel",
)
_NUM_CALLS = 8  # batches to calibrate on: a few hundred frames


def main() -> None:
    """Runs the command."""
    if flags.FLAGS.export:
        return export(flags.FLAGS.workdir, flags.FLAGS.export)
    for name, value in (
        ("weights", flags.FLAGS.weights),
        ("config", flags.FLAGS.config),
    ):
        if value is None:
            raise MissingInputError(f"--{name} is missing; --help lists the flags.")
    take_over(flags.FLAGS.weights, flags.FLAGS.config, flags.FLAGS.workdir)


def take_over(path: str, config: ml_collections.ConfigDict, workdir: str) -> None:
    """Writes a checkpoint of the config's model with the weights of a file."""
    validate_config(config)
    with lock.held(workdir):
        store.check_new(workdir)
        variables, meta = converted(path, config)
        store.save_model(workdir, variables, meta)
    logging.info("start from it with --config.train.init_from=%s", workdir)


def converted(
    path: str, config: ml_collections.ConfigDict
) -> tuple[Params, store.Meta]:
    """Returns the variables of the config's model with the weights of a file."""
    weights = pretrained.read(path, config.model)
    pretrained.warn_of_pixels(weights, config)
    for name in weights.unplaced:
        logging.info("skipped: %s is not in this model", name)
    names = class_names_of(config.data)
    width = feature_width(config, weights.variables, path)
    model, chunk = runs.model_and_chunk(config, names, width)
    variables = init_variables(model, chunk, jax.random.key(config.seed))
    variables = store.merge_matching(variables, weights.variables, source=path)
    if weights.is_folded:
        variables = folded_mobilenet.calibrate(
            model, variables, training_chunks(config)
        )
    return variables, store.Meta(
        config.to_dict(),
        names,
        fps=0.0,
        step=0,
        epoch=0,
        versions=provenance.versions(),
        feature_width=width,
    )


def feature_width(config: ml_collections.ConfigDict, weights: Params, path: str) -> int:
    """Returns the dimension of the features that these weights read; 0: pictures.

    Raises:
        InputError: if the config's model reads features, but no weight does.
    """
    if config.model.backbone != "features":
        return 0
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(
        weights.get("params", {}), sep="/"
    )
    for name in _READS_FEATURES:
        if name in flat:
            return len(flat[name])
    raise InputError(
        f"{path} has no layer that reads features ({', '.join(_READS_FEATURES)} here); "
        "does it hold another model than --config describes?"
    )


def rules_of(config: ml_collections.ConfigDict) -> Rules:
    """Returns the names of the weights of a config's model."""
    return pretrained.rules_of(config.model)


def training_chunks(config: ml_collections.ConfigDict) -> Iterator[Chunk]:
    """Yields a few chunks of the training videos, augmented as in training."""
    mesh = make_mesh(config.train.batch_size)
    data = read_training_data(config)
    batches = training_batches(config, data, mesh)
    with contextlib.closing(iter(batches)) as batches:
        for batch in itertools.islice(batches, _NUM_CALLS):
            for index in range(len(batch.chunks.starts)):
                yield jax.tree.map(lambda leaf, i=index: leaf[i], batch.chunks)


def export(workdir: str, path: str) -> None:
    """Writes the best checkpoint of a run for PyTorch."""
    if not path.endswith(".safetensors"):
        raise InputError(
            f"--export={path} must end with .safetensors, the format of the file."
        )
    run = runs.load_trained(workdir)
    state = convert.to_torch(run.variables, rules_of(run.config))
    write_safetensors(path, state)
    logging.info("%d arrays: %s", len(state), path)


if __name__ == "__main__":
    cli.define("config", "workdir")
    flags.DEFINE_string("weights", None, "The file to read.")
    flags.DEFINE_string(
        "export", None, "Write the run's weights under PyTorch's names to this file."
    )
    cli.run(main)
