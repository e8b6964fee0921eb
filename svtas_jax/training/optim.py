"""The optimizers and the schedules of their rate."""

from typing import Any

import jax
import ml_collections
import optax

from svtas_jax.models.text_encoder import VOCABULARY
from svtas_jax.structs import Params

_ADAM = dict(b1=0.9, b2=0.999, eps=1e-8)


def make_optimizer(
    *,
    learning_rate: float | optax.Schedule,
    weight_decay: float,
    milestones: tuple[int, ...] = (),
    decay: float = 0.1,
    kind: str = "adam",
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Returns Adam with L2 regularisation in the gradient of every parameter, or AdamW.

    The first is PyTorch's `Adam(weight_decay=...)`: the decay passes through the moment
    estimates. AdamW (Loshchilov and Hutter, ICLR 2019) takes it off the parameters, see
    `decays`.

    Args:
        learning_rate: rate until the first milestone, or a schedule without any.
        weight_decay: factor of the L2 gradient or, times the rate, of the parameters.
        milestones: optimizer steps after which the rate is multiplied by `decay`.
        decay: see `milestones`.
        kind: "adam" or "adamw".
        clip_norm: longer gradients are first scaled to this length; 0: none are.
    """
    rates = learning_rate
    if not callable(rates):
        steps = {step: decay for step in milestones}
        rates = optax.piecewise_constant_schedule(rates, steps)
    clip = (optax.clip_by_global_norm(clip_norm),) if clip_norm else ()
    if kind == "adamw":
        adamw = optax.adamw(rates, weight_decay=weight_decay, mask=decays, **_ADAM)
        return optax.chain(*clip, adamw)
    return optax.chain(
        *clip,
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(**_ADAM),
        optax.scale_by_learning_rate(rates),
    )


def decays(params: Params) -> Params:
    """Returns which arrays AdamW's decay makes smaller: not the biases, nor the factors
    of norms, nor the token table, of which a step sees only a few rows."""

    def is_matrix(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        return leaf.ndim > 1 and path[-1].key not in ("bias", VOCABULARY)

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def make_schedule(
    kind: str,
    *,
    learning_rate: float,
    num_steps: int,
    warmup_steps: int = 0,
    milestones: tuple[int, ...] = (),
    decay: float = 0.1,
) -> optax.Schedule:
    """Returns the rate of every optimizer step.

    Args:
        kind: "steps" (see `make_optimizer`) or "cosine": half a cosine wave down to 0
            (Loshchilov and Hutter, ICLR 2017), without restarts.
        learning_rate: the highest rate.
        num_steps: of the whole training, at whose end "cosine" reaches 0.
        warmup_steps: the first steps, in which the rate rises linearly from
            `learning_rate / (warmup_steps + 1)`.
        milestones, decay: see `make_optimizer`; counted from the first step.
    """
    if kind == "cosine":
        falling = max(1, num_steps - warmup_steps)
        rates = optax.cosine_decay_schedule(learning_rate, falling)
    else:
        rates = optax.piecewise_constant_schedule(
            learning_rate, {step - warmup_steps: decay for step in milestones}
        )
    if not warmup_steps:
        return rates
    lowest = learning_rate / (warmup_steps + 1)
    rising = optax.linear_schedule(lowest, learning_rate, warmup_steps)
    return optax.join_schedules([rising, rates], [warmup_steps])


def optimizer_of(
    config: ml_collections.ConfigDict, steps_per_epoch: int, num_steps: int = 0
) -> optax.GradientTransformation:
    """Returns the optimizer that `config.train` describes.

    Args:
        config: see `svtas_jax.config`.
        steps_per_epoch: optimizer steps of an epoch.
        num_steps: of the whole training; 0: `num_epochs` times as many.
    """
    train = config.train
    rates = make_schedule(
        train.schedule,
        learning_rate=train.learning_rate,
        num_steps=num_steps or train.num_epochs * steps_per_epoch,
        warmup_steps=round(train.warmup_epochs * steps_per_epoch),
        milestones=tuple(e * steps_per_epoch for e in train.lr_milestones),
        decay=train.lr_decay,
    )
    return make_optimizer(
        learning_rate=rates,
        weight_decay=train.weight_decay,
        kind=train.optimizer,
        clip_norm=train.clip_norm,
    )
