"""The optimizer: PyTorch's Adam with a multi-step schedule."""

import ml_collections
import optax


def make_optimizer(
    *,
    learning_rate: float,
    weight_decay: float,
    milestones: tuple[int, ...] = (),
    decay: float = 0.1,
) -> optax.GradientTransformation:
    """Adam with L2 regularisation added to the gradient of every parameter.

    This is PyTorch's `Adam(weight_decay=...)`, not AdamW: the decay passes through the
    moment estimates.

    Args:
        learning_rate: until the first milestone.
        weight_decay: coupled L2.
        milestones: optimizer steps after which the rate is multiplied by `decay`.
        decay: see `milestones`.
    """
    schedule = optax.piecewise_constant_schedule(
        learning_rate, {step: decay for step in milestones}
    )
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(schedule),
    )


def optimizer_of(
    config: ml_collections.ConfigDict, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Returns the optimizer that `config.train` describes."""
    return make_optimizer(
        learning_rate=config.train.learning_rate,
        weight_decay=config.train.weight_decay,
        milestones=tuple(e * steps_per_epoch for e in config.train.lr_milestones),
        decay=config.train.lr_decay,
    )
