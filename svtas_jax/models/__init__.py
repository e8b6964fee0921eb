"""Builds a model from a config. Every model has two functions:

initial_state(batch_size) -> StreamState
apply(variables, state, chunk, train=...) -> (StreamState, ChunkOutput)
"""

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from svtas_jax.config import stream_spec
from svtas_jax.errors import InputError
from svtas_jax.models import joint, prompts
from svtas_jax.models.asformer import ASFormer
from svtas_jax.models.causal_transeger import CausalTranseger
from svtas_jax.models.gru_gtrm import MultiGRU
from svtas_jax.models.image import FeatureBranch, ImageBranch
from svtas_jax.models.mobilenet_tsm import STAGES, MobileNetTSM
from svtas_jax.models.resnet3d import BLOCKS, ResNet3D
from svtas_jax.models.sete import Sete
from svtas_jax.models.tcn import TCN
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.models.transeger import Transeger
from svtas_jax.models.vit import VisionTransformer

# The kind of TCN for each `config.model.head` that is one.
_TCN_KINDS = {"memory_tcn": "memory", "ms_tcn": "plain", "tcn_3d": "3d"}


def build_model(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...]
) -> nn.Module:
    """Returns the model that `config.model` describes, for these classes."""
    model = config.model
    clip_steps = stream_spec(config).clip_steps
    image = _build_image(config)
    if model.system == "transeger":
        system = CausalTranseger if model.causal else Transeger
        return system(
            image=image,
            text=_build_text(model, class_names, clip_steps),
            joint=_build_joint(model, len(class_names), clip_steps),
            clip_steps=clip_steps,
            features=model.features,
            dtype=jnp.dtype(model.dtype),
            soft=model.feedback == "soft",
        )
    is_mete = model.system == "mete"
    return Sete(
        image=image,
        head=_build_head(model, len(class_names)),
        clip_steps=clip_steps,
        causal=model.causal,
        text=_build_text(model, class_names, clip_steps) if is_mete else None,
        train_logit_scale=model.train_logit_scale,
    )


def _build_image(config) -> ImageBranch | FeatureBranch:
    model = config.model
    if model.backbone == "features":
        return FeatureBranch(dropout=model.image_dropout)
    return ImageBranch(
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        backbone=_build_backbone(model, config.data.crop),
        pooled=model.head != "tcn_3d",
        frozen_norm=model.image_norm == "frozen",
        dropout=model.image_dropout,
    )


def _build_backbone(model, size: int) -> nn.Module:
    if model.backbone == "vit":
        width = VisionTransformer.width * model.image_width
        return VisionTransformer(
            width=round(width),
            num_layers=model.image_layers,
            num_heads=max(1, round(width) // 64),
            dtype=jnp.dtype(model.dtype),
        )
    if model.backbone == "mobilenet_tsm":
        return MobileNetTSM(
            width=model.image_width,
            stages=STAGES[: model.image_stages],
            causal=model.causal,
            size=size,
            **_with_norm(model),
        )
    width = round(ResNet3D.width * model.image_width)
    return ResNet3D(
        kind=model.backbone,
        width=width,
        blocks=BLOCKS[: model.image_stages],
        **_with_norm(model),
    )


def _build_head(model, num_classes) -> nn.Module:
    sizes = dict(
        num_classes=num_classes, features=model.features, num_layers=model.num_layers
    )
    if model.head in _TCN_KINDS:
        return TCN(
            kind=_TCN_KINDS[model.head],
            num_stages=model.num_stages,
            norm=model.head_norm,
            **sizes,
            **_with_norm(model),
        )
    sizes |= dict(dropout=model.dropout, dtype=jnp.dtype(model.dtype))
    if model.head == "asformer":
        return ASFormer(
            num_decoders=model.num_stages - 1,
            channel_masking=model.channel_masking,
            reference_padding=model.reference_padding,
            **sizes,
        )
    return MultiGRU(refined=model.head == "gtrm", **sizes)


def _with_norm(model) -> dict:
    return dict(
        norm_momentum=model.norm_momentum,
        reference_padding=model.reference_padding,
        dtype=jnp.dtype(model.dtype),
    )


def _build_text(model, class_names, clip_steps) -> TextEncoder | None:
    if model.prompt == "none":
        return None
    tables = prompts.build_tables(
        class_names,
        kind=model.prompt,
        clip_steps=clip_steps,
        max_len=model.prompt_len,
        num_context=model.num_context,
        class_position=model.class_position,
        parts=model.prompt_parts,
        history_runs=model.history_runs,
    )
    _check_length(tables, model.prompt_len)
    learned = model.prompt == "learned" and "context" in model.prompt_parts
    return TextEncoder(
        tables=tables,
        num_classes=len(class_names),
        clip_steps=clip_steps,
        features=model.features,
        width=model.text_width,
        num_layers=model.text_layers,
        num_heads=model.text_heads,
        num_context=model.num_context if learned else 0,
        shared_context=model.shared_context,
        dtype=jnp.dtype(model.dtype),
    )


def _check_length(tables: prompts.PromptTables, given: int) -> None:
    """Checks that prompts with a history are not cut: their end, the last chunk's
    action, would be lost.

    Raises:
        InputError: says how long the longest prompt is.
    """
    longest = prompts.longest_prompt(tables)
    if tables.history_runs and longest > given:
        raise InputError(
            f"config.model.prompt_len={given} cuts prompts: with the last "
            f"{tables.history_runs} runs the longest one has {longest} tokens; use "
            f"--config.model.prompt_len={longest}, or fewer config.model.history_runs."
        )


def _build_joint(model, num_classes, clip_steps) -> nn.Module:
    dtype = jnp.dtype(model.dtype)
    if model.joint == "memory_tcn":
        return joint.MemoryTCNJoint(
            num_classes=num_classes,
            features=model.joint_features,
            num_layers=model.num_layers,
            norm=model.head_norm,
            norm_momentum=model.norm_momentum,
            reference_padding=model.reference_padding,
            dtype=dtype,
        )
    if model.joint == "fc":
        return joint.FullyConnectedJoint(num_classes, model.joint_features, dtype)
    return joint.TransformerJoint(
        num_classes=num_classes,
        clip_steps=clip_steps,
        features=model.joint_features,
        num_layers=model.joint_layers,
        num_heads=model.joint_heads,
        dropout=model.joint_dropout,
        positions=model.joint_positions,
        causal=model.causal,
        width=model.features,
        dtype=dtype,
    )
