"""The functions of a training step that a config describes."""

from collections.abc import Sequence

import jax
import ml_collections
import numpy as np
import optax

from svtas_jax.structs import BatchCarry, Model, TrainState
from svtas_jax.training.cross_entropy import cross_entropy_of
from svtas_jax.training.prompting import prompting_of
from svtas_jax.training.step import make_train_functions


def functions_of(
    config: ml_collections.ConfigDict,
    model: Model,
    tx: optax.GradientTransformation,
    *,
    class_counts: Sequence[int] | np.ndarray,
    steps_per_epoch: int = 1,
    shardings: tuple[TrainState, BatchCarry] | None = None,
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
    """Returns `step.accumulate` and `step.apply_gradients` of a config, jitted.

    A call of `accumulate` takes a multiple of `train.gradient_chunks` chunks.

    Args:
        config: see `svtas_jax.config`.
        model, tx: the model and the optimizer.
        class_counts: (K,) frames of each class in the training videos.
        steps_per_epoch: optimizer steps.
        shardings: of state and carry, see `placement.lay_out`.
    """
    train = config.train
    return make_train_functions(
        model,
        tx,
        shardings=shardings,
        skip_bad=train.max_bad_chunks > 0,
        ema=train.ema,
        gradient_chunks=train.gradient_chunks,
        smooth_weight=train.smooth_weight,
        clip_weight=train.clip_weight,
        remat=train.remat,
        prompting=prompting_of(config, steps_per_epoch),
        entropy=cross_entropy_of(config, class_counts),
    )
