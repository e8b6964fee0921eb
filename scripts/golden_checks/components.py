"""Wraps our modules so that one driver runs any of them on a golden file.

Golden axes: images [N, T, 3, H, W], features [N, D, T], logits [stages, N, classes, F],
memories [N, D, 2 * dilation]. Ours have features last.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.files import Arrays, GoldenFile, below, indices
from svtas_jax.models import asformer, joint, prompts, tcn, tokenizer
from svtas_jax.models.asformer import ASFormer
from svtas_jax.models.mobilenet_tsm import MobileNetTSM
from svtas_jax.models.resnet3d import ResNet3D
from svtas_jax.models.tcn import TCN
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.structs import NO_LABEL, Model, Params
from svtas_jax.weights import convert
from svtas_jax.weights import rules as weight_rules

Outputs = dict[str, Any]
Loss = tuple[jax.Array, dict[str, jax.Array]]


def sum_of_products(outputs: Outputs, inputs: dict[str, jax.Array]) -> Loss:
    """Returns the training loss of bare components: sum(y * cot)."""
    return jnp.sum(outputs["y"] * inputs["cot"]), {}


@dataclasses.dataclass(frozen=True)
class Component:
    """A module with the weights of a golden file.

    Attributes:
        rules: map its variables to PyTorch's names.
        variables: "params" and "batch_stats".
        state: of new streams.
        prepare: converts a chunk of the file to the inputs of `apply`.
        apply: maps (variables, state, inputs, train) to (state, outputs, batch_stats),
            outputs with the file's names and axes.
        loss: maps (outputs, inputs) to the loss and its parts.
        contexts: returns the left contexts in a state, in the order of the layers.
    """

    rules: weight_rules.Rules
    variables: Params
    state: Any
    prepare: Callable[[Arrays], Any]
    apply: Callable[..., tuple[Any, Outputs, Params]]
    loss: Callable[[Outputs, Any], Loss] = sum_of_products
    contexts: Callable[[Any], tuple[jax.Array, ...]] = lambda state: state


def full_state(arrays: Arrays, prefix: str = "") -> dict[str, np.ndarray]:
    """Returns a file's state dict; omitted rows of token tables are zero."""
    state = below(arrays, f"{prefix}state/")
    for name, rows in below(arrays, f"{prefix}rows/").items():
        table = np.zeros((tokenizer.VOCAB_SIZE, rows.shape[1]), rows.dtype)
        table[arrays[f"row_ids/{name}"]] = rows
        state[name] = table
    return state


def load_variables(
    state: Arrays,
    rules: weight_rules.Rules,
    module: nn.Module | Model,
    *args: Any,
    **kwargs: Any,
) -> Params:
    """Converts a state dict.

    Raises:
        ValueError: if it does not match the variables that the module has when called
            with these arguments.
    """
    variables, unplaced = convert.from_torch(state, rules)
    if unplaced:
        raise ValueError(f"the module has no {', '.join(unplaced)}")
    init = functools.partial(module.init, **kwargs)
    wanted = _shapes(jax.eval_shape(init, jax.random.key(0), *args))
    given = _shapes(variables)
    wrong = sorted(k for k in wanted | given if wanted.get(k) != given.get(k))
    if wrong:
        found = [f"{k}: {given.get(k)} for {wanted.get(k)}" for k in wrong]
        raise ValueError(f"weights do not fit the module: {'; '.join(found)}")
    return {"batch_stats": {}, **jax.tree.map(jnp.asarray, variables)}


def _shapes(variables: Params) -> dict[str, tuple[int, ...]]:
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}


def channels_last(x: np.ndarray) -> jax.Array:
    """Converts [N, D, T, ...] to (B, T, ..., D)."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


def frame_mask(mask: np.ndarray) -> jax.Array:
    """Converts [N, T * stride] or [N, 1, T * stride] to (B, T * stride) bool."""
    return jnp.asarray(mask.reshape(len(mask), -1) > 0)


def every_step(frames: jax.Array, steps: jax.Array) -> jax.Array:
    """Selects from frames (B, T * stride) those of the decoded steps (B, T, ...)."""
    return frames[:, :: frames.shape[1] // steps.shape[1]]


def full_rate_scores(logits: jax.Array, num_frames: int) -> jax.Array:
    """Repeats logits (S, B, T, K) over all frames: [S, N, K, T * stride]."""
    logits = jnp.repeat(logits, num_frames // logits.shape[2], axis=2)
    return jnp.swapaxes(logits, 2, 3)


def mobilenet_tsm(file: GoldenFile, dtype: Any = jnp.float32) -> Component:
    """The backbone: x [N * T, 3, H, W], mask [N * T, 1, 1, 1]."""
    settings = file.settings
    num_steps = settings.get("clip_seg_num") or settings["T"]
    module = MobileNetTSM(
        width=settings["widen_factor"],
        shift_div=settings.get("shift_div", 8),
        reference_padding=True,
        dtype=dtype,
    )

    def prepare(chunk):  # [N * T, D, H, W] -> (B, T, H, W, D)
        x = jnp.asarray(chunk["in/x"])
        x = jnp.moveaxis(x.reshape((-1, num_steps, *x.shape[1:])), 2, -1)
        valid = jnp.asarray(chunk["in/mask"].reshape(x.shape[:2]) > 0)
        return {"x": x, "valid": valid, **_cotangent(chunk)}

    def restore(y):
        y = jnp.moveaxis(y, -1, 2)
        return y.reshape((-1, *y.shape[2:]))

    return _backbone(file, module, weight_rules.MOBILENET_TSM, prepare, restore)


def resnet_3d(file: GoldenFile, dtype: Any = jnp.float32) -> Component:
    """A 3D residual network: x [N, 3, T, H, W], mask [N, 1, T, 1, 1]."""
    state = full_state(file.arrays)
    module = ResNet3D(
        kind="r2plus1d" if "conv1.conv.conv_s.weight" in state else "i3d",
        width=len(state["conv1.bn.weight"]),
        reference_padding=True,
        dtype=dtype,
    )

    def prepare(chunk):
        x, mask = channels_last(chunk["in/x"]), frame_mask(chunk["in/mask"])
        return {"x": x, "valid": mask, **_cotangent(chunk)}

    def restore(y):
        return jnp.moveaxis(y, -1, 1)

    return _backbone(file, module, weight_rules.RESNET_3D, prepare, restore)


def _backbone(
    file: GoldenFile,
    module: nn.Module,
    rules: weight_rules.Rules,
    prepare: Callable,
    restore: Callable,
) -> Component:
    """Maps frames and their validity to feature maps; `prepare` and `restore` move the
    axes."""

    def apply(variables, state, inputs, train):
        (_, y), updates = module.apply(
            variables,
            (),
            inputs["x"],
            inputs["valid"],
            train=train,
            mutable="batch_stats",
        )
        return state, {"y": restore(y)}, updates["batch_stats"]

    first = prepare(first_chunk(file))
    given = (), first["x"], first["valid"]
    variables = load_variables(
        full_state(file.arrays), rules, module, *given, train=False
    )
    return Component(rules, variables, (), prepare, apply)


def tcn_head(
    file: GoldenFile,
    dtype: Any = jnp.float32,
    *,
    kind: str,
    rules: weight_rules.Rules = weight_rules.TCN,
) -> Component:
    """One or more stages: x [N, D, T] or, of kind "3d", [N, D, T, H, W], mask
    [N, 1, F]."""
    state = full_state(file.arrays)
    first = "stage1." if "stage1.conv_1x1.weight" in state else ""
    module = TCN(
        num_classes=len(state[f"{first}conv_out.bias"]),
        features=len(state[f"{first}conv_1x1.bias"]),
        num_layers=_count(state, f"{first}layers."),
        num_stages=1 + _count(state, "stages."),
        kind=kind,
        reference_padding=True,
        dtype=dtype,
    )
    return _temporal_head(file, module, rules)


def asformer_head(file: GoldenFile, dtype: Any = jnp.float32) -> Component:
    """ASFormer without dropout: x [N, D, T], mask [N, 1, F]."""
    state = full_state(file.arrays)
    width = len(state["encoder.conv_1x1.bias"])
    module = ASFormer(
        num_classes=len(state["encoder.conv_out.bias"]),
        features=width,
        num_layers=_count(state, "encoder.layers."),
        num_decoders=_count(state, "decoders."),
        reduction=width // len(state["encoder.layers.0.att_layer.query_conv.bias"]),
        dropout=0.0,
        channel_masking=0.0,
        reference_padding=True,
        dtype=dtype,
    )
    return _temporal_head(file, module, weight_rules.ASFORMER)


def mixed_up_asformer_head(file: GoldenFile, dtype: Any = jnp.float32) -> Component:
    """ASFormer as the public code computes it for several videos: it pairs the queries
    of one video with the keys and values of another. Our model never does."""
    component = asformer_head(file, dtype)
    blocks_of_keys = asformer._with_halves

    def mixed(x, size):
        blocks = blocks_of_keys(x, size)
        return jnp.swapaxes(blocks, 0, 1).reshape(blocks.shape)

    def apply(*args):
        with mock.patch.object(asformer, "_with_halves", mixed):
            return component.apply(*args)

    return dataclasses.replace(component, apply=apply)


def _temporal_head(
    file: GoldenFile, module: nn.Module, rules: weight_rules.Rules
) -> Component:
    """A head that takes a context, features and the validity of steps."""

    def prepare(chunk):
        x, mask = channels_last(chunk["in/x"]), frame_mask(chunk["in/mask"])
        return {"x": x, "mask": mask, **_cotangent(chunk)}

    def arguments(context, inputs):
        x, mask = inputs["x"], inputs["mask"]
        return context, x, every_step(mask, x)

    def apply(variables, context, inputs, train):
        (context, logits, projected), updates = module.apply(
            variables, *arguments(context, inputs), train=train, mutable=["batch_stats"]
        )
        y = full_rate_scores(logits, inputs["mask"].shape[1])
        # A single stage has no axis of stages in the file.
        y = y.reshape(np.shape(reference)) if y.size == np.size(reference) else y
        outputs = {"y": y, "feature": jnp.swapaxes(projected, 1, 2)}
        return context, outputs, updates.get("batch_stats", {})

    first = first_chunk(file)
    reference, inputs = first["out/y"], prepare(first)
    context = module.initial_context(len(inputs["x"]))
    variables = load_variables(
        full_state(file.arrays), rules, module, *arguments(context, inputs), train=False
    )
    return Component(rules, variables, context, prepare, apply)


def joint_net(file: GoldenFile, dtype: Any = jnp.float32) -> Component:
    """Any of the joint nets: img and text [N, D, T], masks [N, F]."""
    state = full_state(file.arrays)

    def prepare(chunk):
        image, text = channels_last(chunk["in/img"]), channels_last(chunk["in/text"])
        mask = frame_mask(chunk["in/masks"])
        return {"image": image, "text": text, "mask": mask, **_cotangent(chunk)}

    def arguments(context, inputs):
        image, mask = inputs["image"], inputs["mask"]
        return context, image, inputs["text"], every_step(mask, image)

    def apply(variables, context, inputs, train):
        (context, logits), updates = module.apply(
            variables, *arguments(context, inputs), train=train, mutable=["batch_stats"]
        )
        y = full_rate_scores(logits, inputs["mask"].shape[1])
        return context, {"y": y}, updates.get("batch_stats", {})

    inputs = prepare(first_chunk(file))
    module, context = _joint_module(state, file.settings, inputs["image"].shape, dtype)
    rules = weight_rules.JOINT
    variables = load_variables(
        state, rules, module, *arguments(context, inputs), train=False
    )
    return Component(rules, variables, context, prepare, apply)


def _joint_module(state, settings, image_shape, dtype) -> tuple[nn.Module, tuple]:
    """Chooses the joint net by the names of its weights."""
    batch_size, num_steps, _ = image_shape
    if "fc1.weight" in state:
        sizes = dict(
            num_classes=len(state["fc2.bias"]), features=len(state["fc1.bias"])
        )
        return joint.FullyConnectedJoint(**sizes, dtype=dtype), ()
    if "conv_cls.weight" in state:
        fixed = settings.get("positional_encoding_type", "learned") == "fixed"
        module = joint.TransformerJoint(
            num_classes=len(state["conv_cls.bias"]),
            clip_steps=num_steps,
            features=len(state["decoder.layers.0.conv1.bias"]),
            num_layers=_count(state, "decoder.layers."),
            num_heads=settings.get("encoder_heads_num", 8),
            dropout=0.0,
            positions="fixed_by_row" if fixed else "learned",
            dtype=dtype,
        )
        return module, ()
    sizes = dict(
        features=len(state["conv_1x1.bias"]), num_layers=_count(state, "layers.")
    )
    module = joint.MemoryTCNJoint(
        num_classes=len(state["conv_out.bias"]),
        reference_padding=True,
        dtype=dtype,
        **sizes,
    )
    return module, tcn.initial_context(batch_size, **sizes)


def text_encoder(file: GoldenFile, dtype: Any = jnp.float32) -> Component:
    """The text branch alone: labels [N, F], absent in a stream's first chunk."""
    settings, state = file.settings, full_state(file.arrays)
    kind = "learned" if "prompt_learner.ctx" in state else "fixed"
    context_shape = state.get("prompt_learner.ctx", np.zeros((0, 0))).shape
    num_steps, max_len, width = state["positional_embedding"].shape
    class_names = tuple(settings["classes"])
    tables = prompts.build_tables(
        class_names,
        kind=kind,
        clip_steps=num_steps,
        max_len=max_len,
        num_context=context_shape[-2],
        class_position=settings.get("class_token_position", "end"),
    )
    module = TextEncoder(
        tables=tables,
        num_classes=len(class_names),
        clip_steps=num_steps,
        features=len(state["squeeze_sentence.bias"]),
        width=width,
        num_layers=_count(state, "transformer.resblocks."),
        num_heads=settings.get("heads") or settings["encoder_heads_num"],
        num_context=context_shape[-2],
        shared_context=kind == "learned" and len(context_shape) == 2,
        dtype=dtype,
    )

    def prepare(chunk):
        shape = (len(chunk["in/masks"]), num_steps)
        labels = jnp.full(shape, NO_LABEL, jnp.int32)
        if "in/labels" in chunk:
            given = jnp.asarray(chunk["in/labels"], jnp.int32)
            labels = prompts.prompt_labels(given, num_steps)
        templates = np.maximum(chunk.get("out/template_idx", np.zeros(shape)), 0)
        return {
            "labels": labels,
            "templates": jnp.asarray(templates, jnp.int32),
            **_cotangent(chunk),
        }

    def apply(variables, state, inputs, train):
        del train  # the text branch has neither dropout nor statistics
        arguments = inputs["labels"], inputs["templates"]
        y: Any = module.apply(variables, *arguments)
        vectors: Any = module.apply(variables, *arguments, method="embed_prompts")
        outputs = {"y": jnp.swapaxes(y, 1, 2), "prompt_embedding": vectors}
        return state, outputs, variables["batch_stats"]

    rules = weight_rules.TEXT_ENCODER[kind]
    labels = prepare(first_chunk(file))["labels"]
    variables = load_variables(state, rules, module, labels)
    return Component(rules, variables, (), prepare, apply)


def first_chunk(file: GoldenFile) -> dict[str, np.ndarray]:
    """Returns the arrays of the first chunk of the file's first mode."""
    for mode in ("eval", "train"):
        for index in indices(file.arrays, f"{mode}/"):
            return below(file.arrays, f"{mode}/{index}/")
    raise ValueError("the file has neither eval/0/... nor train/0/...")


def _count(state: Arrays, prefix: str) -> int:
    """Returns the number of modules numbered after a prefix."""
    return len({name.split(".")[0] for name in below(state, prefix)})


def _cotangent(chunk: Arrays) -> dict[str, jax.Array]:
    return {"cot": jnp.asarray(chunk["in/cot"])} if "in/cot" in chunk else {}
