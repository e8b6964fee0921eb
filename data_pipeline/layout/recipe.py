"""Proposes how to train: from scratch, or from weights that know pictures."""

import dataclasses
import math
from typing import Any

from svtas_jax import recipes
from svtas_jax.config import default_config

_UPDATES = 500  # optimizer steps, about as many as the demo configs take
_EPOCHS = (20, 100)
_BATCH = 2  # videos, from scratch
_SMALL_CROP = 96
# Of the recipe's fields in a config, in this order.
_REASONS = {
    "train.init_from": "weights that know pictures need far fewer videos",
    "model.image_norm": "a few videos have poor statistics: those of the weights stay",
    "model.head_norm": "each step has a norm of its own, of no other video",
    "model.image_dropout": "no feature can be relied on alone",
    "data.random_start": "borders of chunks differ between epochs",
    "data.colour": "other people and rooms have other colours; 0 if colours tell your "
    "classes apart",
    "data.zoom": "and stand elsewhere; 0 if places tell your classes apart",
    "train.batch_size": "chunks of several videos in a step",
    "train.chunks_per_step": "a step of a few chunks instead of whole videos",
    "train.learning_rate": "low, to keep what the weights know",
    "train.schedule": "the learning rate falls to 0",
    "train.warmup_epochs": "in which it rises",
    "train.ema": "averaged weights are steadier",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field of a config, its value, and why.

    Attributes:
        field: such as "data.crop".
        value: of the field; a path is in the data set's folder.
        reason: for people.
    """

    field: str
    value: Any
    reason: str


def from_scratch(num_train: int, crop: int) -> tuple[Setting, ...]:
    """Returns the recipe of the demo configs, which train on some dozen videos.

    Args:
        num_train: videos to train on.
        crop: side of the pictures.
    """
    momentum = Setting(
        *("model.norm_momentum", 0.05),
        "statistics over 20 chunks: short training evaluates better",
    )
    return (momentum, *_network(crop), *_training(num_train))


def from_weights(init_from: str, num_chunks: float) -> tuple[Setting, ...]:
    """Returns `recipes.plus_from_imagenet`, which did best on real videos of a few
    people (docs/accuracy.md).

    Args:
        init_from: `config.train.init_from`.
        num_chunks: of all the videos to train on.
    """
    recipe = recipes.plus_from_imagenet(default_config())
    recipe.train.init_from = init_from
    chosen = []
    for field, reason in _REASONS.items():
        section, name = field.split(".")
        chosen.append(Setting(field, recipe[section][name], reason))
    per_step = recipe.train.batch_size * recipe.train.chunks_per_step
    steps = max(1, round(num_chunks / per_step))
    epochs = _limited(math.ceil(_UPDATES / steps))
    return (*chosen, *_length(epochs, epochs * steps))


def _training(num_train: int) -> tuple[Setting, ...]:
    epochs = _limited(math.ceil(_UPDATES * _BATCH / max(1, num_train)))
    num_epochs, smooth, every = _length(epochs, epochs * math.ceil(num_train / _BATCH))
    return (
        Setting("train.batch_size", _BATCH, f"of {num_train} videos to train on"),
        num_epochs,
        Setting("train.learning_rate", 2e-3, "large, for training is short"),
        Setting(
            "train.lr_milestones",
            (round(0.6 * epochs), round(0.85 * epochs)),
            "the learning rate falls twice",
        ),
        Setting("train.lr_decay", 0.2, "by this factor"),
        Setting("train.weight_decay", 1e-5, "small, for training is short"),
        *(smooth, every),
    )


def _limited(epochs: int) -> int:
    return min(max(epochs, _EPOCHS[0]), _EPOCHS[1])


def _length(epochs: int, steps: int) -> tuple[Setting, Setting, Setting]:
    return (
        Setting("train.num_epochs", epochs, f"about {steps} optimizer steps"),
        Setting("train.smooth_weight", 0.5, "against segments that are too short"),
        Setting(
            *("train.eval_every_epochs", max(1, epochs // 4)),
            "held-out videos choose the checkpoint; measuring them takes time",
        ),
    )


def holding_out(group: str, num_train_groups: int) -> tuple[Setting, ...]:
    """Returns what is held out to choose the checkpoint: as new to the model as what
    tests it."""
    if not group:
        return ()
    if num_train_groups < 2:
        reason = f"no pattern: a split trains on one group of --group={group} alone"
        return (Setting("train.validation_group", "", reason),)
    reason = "whole groups are held out, as whole groups are tested on"
    return (Setting("train.validation_group", group, reason),)


def _network(crop: int) -> tuple[Setting, ...]:
    if crop > _SMALL_CROP:
        return ()
    reason = "a small network learns faster from small pictures and few videos"
    return (
        Setting("model.image_width", 0.5, reason),
        Setting("model.image_stages", 4 if crop <= 48 else 5, "likewise"),
    )
