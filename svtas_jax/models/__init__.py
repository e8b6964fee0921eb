"""Builds a model from a config. Every model has

initial_state(batch_size) -> StreamState
apply(variables, state, chunk, train=...) -> (StreamState, ChunkOutput)
"""

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from svtas_jax.config import stream_spec
from svtas_jax.models import joint, prompts
from svtas_jax.models.image import ImageBranch
from svtas_jax.models.memory_tcn import MemoryTCN
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.models.sete import Sete
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.models.transeger import Transeger


def build_model(
    config: ml_collections.ConfigDict, class_names: tuple[str, ...]
) -> nn.Module:
    """Returns the system that `config.model` describes, for these classes."""
    model = config.model
    common = dict(
        norm_momentum=model.norm_momentum,
        reference_padding=model.reference_padding,
        dtype=jnp.dtype(model.dtype),
    )
    clip_steps = stream_spec(config).clip_steps
    image = ImageBranch(
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        width=model.image_width,
        stages=STAGES[: model.image_stages],
        **common,
    )
    if model.system == "transeger":
        return Transeger(
            image=image,
            text=_build_text(model, class_names, clip_steps),
            joint=_build_joint(model, len(class_names), clip_steps),
            clip_steps=clip_steps,
            features=model.features,
            dtype=common["dtype"],
        )
    is_mete = model.system == "mete"
    return Sete(
        image=image,
        head=MemoryTCN(
            num_classes=len(class_names),
            features=model.features,
            num_layers=model.num_layers,
            num_stages=model.num_stages,
            **common,
        ),
        clip_steps=clip_steps,
        text=_build_text(model, class_names, clip_steps) if is_mete else None,
        train_logit_scale=model.train_logit_scale,
    )


def _build_text(model, class_names, clip_steps) -> TextEncoder:
    tables = prompts.build_tables(
        class_names,
        kind=model.prompt,
        clip_steps=clip_steps,
        max_len=model.prompt_len,
        num_context=model.num_context,
        class_position=model.class_position,
    )
    return TextEncoder(
        tables=tables,
        num_classes=len(class_names),
        clip_steps=clip_steps,
        features=model.features,
        width=model.text_width,
        num_layers=model.text_layers,
        num_heads=model.text_heads,
        num_context=model.num_context if model.prompt == "learned" else 0,
        shared_context=model.shared_context,
        dtype=jnp.dtype(model.dtype),
    )


def _build_joint(model, num_classes, clip_steps) -> nn.Module:
    dtype = jnp.dtype(model.dtype)
    if model.joint == "memory_tcn":
        return joint.MemoryTCNJoint(
            num_classes=num_classes,
            features=model.joint_features,
            num_layers=model.num_layers,
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
        dtype=dtype,
    )
