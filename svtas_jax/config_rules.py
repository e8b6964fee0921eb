"""The rules that a config must keep, which ml_collections does not check."""

import math
import re

import ml_collections

from svtas_jax.config import (
    BACKBONES,
    HEAD_NORMS,
    HEADS,
    IMAGENET,
    JOINTS,
    PROMPT_PARTS,
    PROMPTS,
    SYSTEMS,
)
from svtas_jax.errors import InputError


def validate_config(config: ml_collections.ConfigDict) -> None:
    """Checks ranges and relations, which ml_collections does not check.

    Raises:
        InputError: names the first field that breaks its rule, and a fix.
    """
    if config.seed < 0:
        raise InputError(f"config.seed={config.seed} must be at least 0.")
    _check_data(config.data)
    _check_model(config.model)
    _check_train(config.train)
    _check_prompting(config.train, config.model)
    _check_features(config.data, config.model)
    _check_start(config.train, config.model)
    _check_at_least(config.eval, "eval", batch_size=1)


def _check_data(data: ml_collections.ConfigDict) -> None:
    _check_choice(data, "data", layout=("flat", "breakfast"))
    _check_choice(data, "data", augment=("video", "frame", "none"))
    _check_at_least(data, "data", frame_stride=1, clip_frames=0, split=1, crop=8)
    _check_at_least(data, "data", num_workers=0)
    _check_augmentation(data)
    if not 0 <= data.max_length_gap <= 1:
        raise InputError(
            f"config.data.max_length_gap={data.max_length_gap} must lie between 0 and "
            "1: it is a share of the labels' or the video's length."
        )
    if data.clip_frames % data.frame_stride:
        nearest = (
            max(1, round(data.clip_frames / data.frame_stride)) * data.frame_stride
        )
        raise InputError(
            f"config.data.clip_frames={data.clip_frames} is not a multiple of "
            f"config.data.frame_stride={data.frame_stride}; "
            f"try --config.data.clip_frames={nearest}."
        )
    for name, length in (("resize", 2), ("mean", 3), ("std", 3)):
        value = data[name]
        if len(value) != length or not all(v > 0 for v in value):
            raise InputError(
                f"config.data.{name}={value} must be {length} positive numbers."
            )
    if data.crop > min(data.resize):
        raise InputError(
            f"config.data.crop={data.crop} is larger than config.data.resize="
            f"{data.resize}; try --config.data.crop={min(data.resize)}."
        )


def _check_augmentation(data: ml_collections.ConfigDict) -> None:
    if not 0 <= data.colour < 1:
        raise InputError(
            f"config.data.colour={data.colour} must lie in [0, 1): 0.2 changes colours "
            "by up to 20 %."
        )
    if not 0 <= data.zoom <= 1:
        raise InputError(
            f"config.data.zoom={data.zoom} must lie between 0 and 1: 0.3 makes the "
            "crop's side up to 1.3 times smaller or larger."
        )
    if not 0 <= data.erase <= 1:
        raise InputError(
            f"config.data.erase={data.erase} must lie between 0 and 1: it is a share "
            "of the videos."
        )
    for name in ("colour", "zoom", "erase"):
        if data[name] and data.features:
            raise InputError(
                f"config.data.{name}={data[name]} changes pictures, but config.data."
                f"features={data.features!r} are read instead of them; use "
                f"--config.data.{name}=0."
            )
    if data.random_start and not data.clip_frames:
        raise InputError(
            "config.data.random_start=True moves the borders of chunks, and with "
            "config.data.clip_frames=0, a whole video in one chunk, there are none; "
            "use --config.data.random_start=False."
        )


def _check_model(model: ml_collections.ConfigDict) -> None:
    _check_choice(model, "model", system=SYSTEMS, dtype=("float32", "bfloat16"))
    _check_choice(model, "model", backbone=BACKBONES, head=HEADS)
    _check_choice(model, "model", joint=JOINTS)
    _check_prompt(model)
    _check_causal(model)
    _check_head_norm(model)
    positions = ("learned", "fixed", "fixed_by_row")
    _check_choice(model, "model", joint_positions=positions)
    _check_choice(model, "model", class_position=("end", "middle", "front"))
    _check_choice(model, "model", image_stages=tuple(range(1, 8)))
    _check_at_least(model, "model", features=1, num_layers=1, num_stages=1)
    _check_at_least(model, "model", joint_features=1, joint_layers=1, joint_heads=1)
    _check_at_least(model, "model", prompt_len=8, num_context=1)
    _check_at_least(model, "model", text_width=1, text_layers=1, text_heads=1)
    _check_at_least(model, "model", image_layers=1)
    _check_positive(model, "model", "image_width")
    if not 0 < model.norm_momentum <= 1:
        raise InputError(
            f"config.model.norm_momentum={model.norm_momentum} must lie in (0, 1]."
        )
    for name in ("joint_dropout", "dropout", "channel_masking", "image_dropout"):
        if not 0 <= model[name] < 1:
            raise InputError(f"config.model.{name}={model[name]} must lie in [0, 1).")
    if model.head == "tcn_3d" and model.backbone == "features":
        raise InputError(
            "config.model.head='tcn_3d' convolves images and cannot read features; "
            "use --config.model.head=ms_tcn, or an image backbone."
        )
    for width, heads in (("text_width", "text_heads"), ("features", "joint_heads")):
        if width == "features" and model.joint != "transformer":
            continue
        if model[width] % model[heads]:
            raise InputError(
                f"config.model.{width}={model[width]} is not a multiple of "
                f"config.model.{heads}={model[heads]}; heads split the width evenly, "
                f"try --config.model.{heads}={math.gcd(model[width], model[heads])}."
            )


def _check_head_norm(model) -> None:
    _check_choice(model, "model", head_norm=HEAD_NORMS)
    name = "joint" if model.system == "transeger" else "head"
    if model.head_norm != "batch" and "tcn" not in model[name]:
        raise InputError(
            f"config.model.head_norm={model.head_norm!r} has no effect on "
            f"config.model.{name}={model[name]!r}, which has no batch norm; use "
            f"--config.model.{name}=memory_tcn, or --config.model.head_norm=batch."
        )


def _check_causal(model) -> None:
    """A causal model is built of parts that see no later step, and no batch row."""
    allowed = {
        "backbone": ("mobilenet_tsm", "vit", "features"),
        "head": HEADS if model.system == "transeger" else ("memory_tcn",),
        "joint_positions": ("learned", "fixed"),
        "reference_padding": (False,),
    }
    for name, values in allowed.items():
        if model.causal and model[name] not in values:
            choice = " or ".join(map(repr, values))
            raise InputError(
                f"config.model.causal=True does not go with config.model.{name}="
                f"{model[name]!r}, with which a step's scores depend on later steps or "
                f"on other videos; use {choice}, or --config.model.causal=False."
            )


def _check_prompt(model) -> None:
    _check_choice(model, "model", prompt=PROMPTS, feedback=("labels", "soft"))
    if model.feedback == "soft" and (
        model.system != "transeger"
        or model.prompt == "none"
        or model.class_position == "front"
    ):
        raise InputError(
            "config.model.feedback='soft' needs a Transeger with prompts that end with "
            f"the class, not config.model.system={model.system!r} with config.model."
            f"prompt={model.prompt!r} and config.model.class_position="
            f"{model.class_position!r}; use --config.model.feedback=labels."
        )
    if model.prompt == "none" and model.system == "mete":
        raise InputError(
            "config.model.prompt='none' leaves METE nothing to match, which makes it "
            "SETE; use --config.model.system=sete."
        )
    parts = model.prompt_parts
    known = (*PROMPT_PARTS, "history")
    if not parts or len(set(parts)) < len(parts) or set(parts) - set(known):
        raise InputError(
            f"config.model.prompt_parts={parts} must be some of {known}, each "
            "once; for no prompt at all, use --config.model.prompt=none."
        )
    if "history" in parts and model.system != "transeger":
        raise InputError(
            f"config.model.prompt_parts={parts}: only Transeger's prompts can tell the "
            "'history'; leave it out, or use --config.model.system=transeger."
        )
    _check_at_least(model, "model", history_runs=1)


def _check_features(data, model) -> None:
    if bool(data.features) != (model.backbone == "features"):
        raise InputError(
            f"config.data.features={data.features!r} and config.model.backbone="
            f"{model.backbone!r} do not go together: a model of features needs "
            "--config.model.backbone=features --config.data.features=FOLDER, a model "
            "of videos neither."
        )
    if not data.clip_frames and (not data.features or model.system != "sete"):
        raise InputError(
            "config.data.clip_frames=0, a whole video in one chunk, requires features "
            "and config.model.system='sete'; set the frames of a chunk, such as "
            f"--config.data.clip_frames={32 * data.frame_stride}."
        )


def _check_start(train, model) -> None:
    if train.init_from == IMAGENET and model.backbone != "mobilenet_tsm":
        raise InputError(
            f"config.train.init_from={IMAGENET!r} finds a MobileNetV2, which does not "
            f"fit config.model.backbone={model.backbone!r}; use --config.model.backbone"
            "=mobilenet_tsm, or name a run or a file of weights."
        )
    _check_choice(model, "model", image_norm=("batch", "frozen"))
    if model.image_norm == "frozen" and not train.init_from:
        raise InputError(
            "config.model.image_norm=frozen keeps the statistics of the weights that a "
            "training starts from, and fresh weights have none; name some with "
            "--config.train.init_from, or use --config.model.image_norm=batch."
        )


def _check_train(train: ml_collections.ConfigDict) -> None:
    _check_choice(train, "train", selection=("validation", "test"))
    _check_choice(train, "train", remat=("none", "products", "blocks"))
    _check_at_least(train, "train", batch_size=1, num_epochs=1, chunks_per_call=1)
    _check_at_least(train, "train", eval_every_epochs=1, log_every_steps=1)
    _check_at_least(train, "train", chunks_per_step=0, split_from=0)
    _check_at_least(train, "train", save_every_steps=0, max_bad_chunks=0)
    _check_at_least(train, "train", gradient_chunks=1)
    _check_multiple(train, "chunks_per_call", "gradient_chunks")
    _check_multiple(train, "chunks_per_step", "gradient_chunks")
    fix = f"chunks_per_call={train.gradient_chunks}"
    _check_multiple(train, "chunks_per_step", "chunks_per_call", fix=fix)
    _check_positive(train, "train", "learning_rate")
    _check_positive(train, "train", "lr_decay")
    _check_at_least(train, "train", weight_decay=0, smooth_weight=0, clip_weight=0)
    _check_optimizer(train)
    _check_at_least(train, "train", focal_gamma=0, logit_adjustment=0)
    _check_at_least(train, "train", boundary_smoothing=0)
    if not 0 <= train.label_smoothing < 1:
        raise InputError(
            f"config.train.label_smoothing={train.label_smoothing} must lie in [0, 1)."
        )
    if not 0 <= train.max_damaged_share < 1:
        raise InputError(
            f"config.train.max_damaged_share={train.max_damaged_share} must lie "
            "between 0 (the first damaged video is an error) and 1."
        )
    if not 0 < train.validation_share < 1:
        raise InputError(
            f"config.train.validation_share={train.validation_share} must lie strictly "
            "between 0 and 1, such as 0.2; to select on the test videos as the paper "
            "does, use --config.train.selection=test."
        )
    _check_group(train.validation_group)


def _check_group(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"config.train.validation_group={pattern!r} is no regular expression "
            rf"({error}); write for example '(S\d+)' for names such as S1_Tea."
        ) from error


def _check_optimizer(train: ml_collections.ConfigDict) -> None:
    _check_choice(train, "train", optimizer=("adam", "adamw"))
    _check_choice(train, "train", schedule=("steps", "cosine"))
    _check_at_least(train, "train", warmup_epochs=0, clip_norm=0)
    ends = {"num_epochs": train.num_epochs}
    if train.schedule == "steps" and train.lr_milestones:
        ends["lr_milestones"] = min(train.lr_milestones)
    for name, end in ends.items():
        if not train.warmup_epochs <= end:
            raise InputError(
                f"config.train.warmup_epochs={train.warmup_epochs} goes on after epoch "
                f"{end}, see config.train.{name}={train[name]}: the rate must have "
                "risen by then; use a shorter warm-up."
            )
    if not 0 <= train.ema < 1:
        raise InputError(
            f"config.train.ema={train.ema} must lie in [0, 1): it is the share of the "
            "last average in the next, such as 0.99; 0 keeps no averages."
        )


def _check_prompting(train, model) -> None:
    _check_at_least(train, "train", own_labels_from=0, own_labels_ramp=0)
    for name in ("own_labels", "label_noise"):
        if not 0 <= train[name] <= 1:
            raise InputError(
                f"config.train.{name}={train[name]} must lie between 0 and 1: it is a "
                "share of the chunks or segments that prompts describe."
            )
        if train[name] and (model.system != "transeger" or model.prompt == "none"):
            raise InputError(
                f"config.train.{name}={train[name]} is about prompts of the last "
                f"chunk's labels, which config.model.system={model.system!r} with "
                f"config.model.prompt={model.prompt!r} does not have; use "
                f"--config.train.{name}=0.0, or Transeger with prompts."
            )


def _check_multiple(train, name: str, of: str, *, fix: str = "") -> None:
    if train[name] % train[of]:
        fix = fix or f"{name}={-(-train[name] // train[of]) * train[of]}"
        raise InputError(
            f"config.train.{name}={train[name]} is not a multiple of "
            f"config.train.{of}={train[of]}; try --config.train.{fix}."
        )


def _check_choice(section: ml_collections.ConfigDict, where: str, **choices) -> None:
    for name, allowed in choices.items():
        if section[name] not in allowed:
            raise InputError(
                f"config.{where}.{name}={section[name]!r} is not one of "
                f"{', '.join(map(repr, allowed))}."
            )


def _check_at_least(section: ml_collections.ConfigDict, where: str, **least) -> None:
    for name, minimum in least.items():
        if not section[name] >= minimum:
            raise InputError(
                f"config.{where}.{name}={section[name]} must be at least {minimum}."
            )


def _check_positive(section: ml_collections.ConfigDict, where: str, name: str) -> None:
    if not 0 < section[name] < math.inf:
        raise InputError(
            f"config.{where}.{name}={section[name]} must be a positive number."
        )
