"""Whole systems, built from the public code's config in a golden file."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks import results
from golden_checks.components import (
    Component,
    Loss,
    Outputs,
    full_rate_scores,
    full_state,
    load_variables,
)
from golden_checks.files import Arrays, GoldenFile, below, indices
from golden_checks.results import Result
from golden_checks.streams import retry_in_float64
from svtas_jax.config import default_config
from svtas_jax.models import build_model, prompts
from svtas_jax.structs import Chunk, Model, Params
from svtas_jax.training.losses import chunk_loss
from svtas_jax.training.optim import make_optimizer
from svtas_jax.training.step import begin_with, init_carry, make_train_functions
from svtas_jax.weights import convert
from svtas_jax.weights import rules as weight_rules

SYSTEMS = {
    "StreamSegmentation2D": "sete",
    "SegmentationCLIP": "mete",
    "Transeger": "transeger",
}

TRAJECTORY_LOSS = 2e-3  # relative
TRAJECTORY_MEAN = 2e-5  # of all differences of the final parameters
TRAJECTORY_STEPS = 1.5  # the largest of them, in optimizer steps at full learning rate


def system_name(file: GoldenFile) -> str | None:
    """Returns the name of our system that a file's config describes, if any."""
    config = file.meta.get("config", {})
    image = config.get("image_backbone", config)
    parts = [(image.get(part) or {}).get("name") for part in ("backbone", "head")]
    heads = ("MemoryTCNHead", "IdentityEmbeddingHead")
    if parts[0] != "MobileNetV2TSM" or parts[1] not in heads:
        return None
    return SYSTEMS.get(config.get("architecture"))


def build_system(
    file: GoldenFile, state: Arrays, dtype: Any = jnp.float32
) -> tuple[Model, weight_rules.Rules]:
    """Builds the model through our own config, and the rules of its weight names."""
    meta, golden = file.meta, file.meta["config"]
    system, chunk = system_name(file), _any_chunk(file)
    assert system is not None  # by which `kinds` chose the file
    num_steps, num_frames = chunk["in/imgs"].shape[1], chunk["in/masks"].shape[1]
    config = default_config()
    model = config.model
    model.system = system
    model.reference_padding = True
    model.dtype = jnp.dtype(dtype).name
    config.data.clip_frames = num_frames
    config.data.frame_stride = num_frames // num_steps
    image = golden.get("image_backbone", golden)
    model.image_width = float(image["backbone"]["widen_factor"])
    if model.system == "transeger":
        model.features = image["head"]["out_channels"]
        num_classes = golden["joint"]["num_classes"]
        _configure_joint(model, golden["joint"])
    else:
        model.features = image["head"]["num_f_maps"]
        model.num_layers = image["head"]["num_layers"]
        model.num_stages = image["head"]["num_stages"]
        num_classes = image["head"]["num_classes"]
    if model.system != "sete":
        _configure_text(model, golden["text_backbone"]["encoder"], state)
    model.train_logit_scale = "clip_loss.logit_scale" in state
    names = tuple(meta.get("classes") or (f"class {k}" for k in range(num_classes)))
    built = build_model(config, names)
    shift_div = image["backbone"].get("shift_div", 8)
    backbone = built.image.backbone.clone(shift_div=shift_div)
    built = built.clone(image=built.image.clone(backbone=backbone))
    return built, weight_rules.system_rules(model.system, model.prompt)


def _configure_joint(model, golden: dict[str, Any]) -> None:
    if "Transformer" in golden["name"]:
        model.joint = "transformer"
        model.joint_layers = golden.get("num_layers", 3)
        fixed = golden.get("positional_encoding_type", "learned") == "fixed"
        model.joint_positions = "fixed_by_row" if fixed else "learned"
    elif "MemoryTCN" in golden["name"]:
        model.joint = "memory_tcn"
        model.num_layers = golden.get("num_layers", 4)
    else:
        model.joint = "fc"
    model.joint_features = golden.get("hidden_channels", 128)
    model.joint_heads = golden.get("encoder_heads_num", 8)
    model.joint_dropout = 0.0


def _configure_text(model, golden: dict[str, Any], state: Arrays) -> None:
    """Configures the text branch; missing values are the public code's defaults."""
    model.prompt = "learned" if "Learner" in golden["name"] else "fixed"
    model.prompt_len = golden.get("max_len", 40)
    model.class_position = golden.get("class_token_position", "end")
    model.text_width = golden["embedding_dim"]
    model.text_layers = golden["encoder_layers_num"]
    model.text_heads = golden["encoder_heads_num"]
    contexts = [a for name, a in state.items() if name.endswith("prompt_learner.ctx")]
    if contexts:
        model.num_context = contexts[0].shape[-2]
        model.shared_context = contexts[0].ndim == 2


def system(file: GoldenFile, dtype: Any = jnp.float32) -> Component:
    """Returns SETE, METE or Transeger with its loss."""
    state = {**full_state(file.arrays), **below(file.arrays, "loss_param/")}
    model, rules = build_system(file, state, dtype)
    inputs = prepare(_any_chunk(file))
    stream = model.initial_state(len(inputs["chunk"].starts))
    variables = load_variables(
        state, rules, model, stream, inputs["chunk"], train=False
    )
    return Component(
        rules=rules,
        variables=variables,
        state=stream,
        prepare=prepare,
        apply=functools.partial(_apply, model),
        loss=functools.partial(_loss, file.meta.get("loss", {})),
        contexts=lambda stream: stream.context,
    )


def prepare(arrays: Arrays) -> dict[str, Any]:
    """Converts a golden chunk to our chunk and the templates of fixed prompts."""
    frames, masks = arrays["in/imgs"], arrays["in/masks"]
    batch_size, num_steps = frames.shape[:2]
    templates = arrays.get("out/template_idx", np.zeros((batch_size, num_steps)))
    chunk = Chunk(
        frames=jnp.asarray(np.moveaxis(frames, 2, -1)),
        labels=jnp.asarray(arrays["in/labels"], jnp.int32),
        valid=jnp.asarray(masks > 0),
        starts=jnp.zeros(batch_size, bool),
        num_chunks=jnp.asarray(arrays["in/precise_sliding_num"]),
    )
    # -1: the public code draws no template, for a row of ignored labels.
    return {
        "chunk": chunk,
        "templates": jnp.asarray(np.maximum(templates, 0), jnp.int32),
    }


def _apply(model: Model, variables, stream, inputs, train):
    """Runs the model; computes METE's text features separately where it omits them, in
    evaluation."""
    chunk, templates = inputs["chunk"], inputs["templates"]
    has_text = getattr(model, "text", None) is not None
    is_mete = has_text and hasattr(model, "head")
    used = stream.labels
    (stream, output), updates = model.apply(
        variables,
        stream,
        chunk,
        train=train,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, _: module.name == "head",
        **({"templates": templates} if is_mete else {}),
    )
    outputs: dict[str, Any] = {
        "score": full_rate_scores(output.logits, chunk.valid.shape[1]),
        "text_labels_used": used,
        "model_output": output,
    }
    if is_mete:
        projected = updates["intermediates"]["head"]["__call__"][0][2]
        text = output.text_features
        if text is None:
            given = prompts.prompt_labels(chunk.labels, model.clip_steps), templates
            text = model.apply(variables, *given, method=lambda m, *args: m.text(*args))
        outputs["img_feature"] = jnp.swapaxes(projected, 1, 2)
        outputs["text_feature"] = jnp.swapaxes(text, 1, 2)
    return stream, outputs, updates["batch_stats"]


def _loss(golden: dict[str, Any], outputs: Outputs, inputs: dict[str, Any]) -> Loss:
    _, parts = chunk_loss(
        outputs["model_output"],
        inputs["chunk"],
        smooth_weight=golden["smooth_weight"],
        clip_weight=1.0,
    )
    weight = golden.get("seg_loss_weight", golden.get("loss_weight", 1.0))
    segmentation = weight * parts["segmentation_loss"]
    if "clip_loss" not in parts:
        return segmentation, {}
    contrast = golden.get("clip_loss_weight", 1.0) * parts["clip_loss"]
    named = {"img_seg_loss": segmentation, "clip_loss": contrast}
    return segmentation + contrast, named


def check_trajectory(file: GoldenFile) -> Iterator[Result]:
    """Trains on the file's video batches with our own training step.

    In float32 the end of a training depends on the CPU's rounding, see `check_stream`.
    """
    yield from retry_in_float64(lambda dtype: _check_trajectory(file, dtype))


def _check_trajectory(file: GoldenFile, dtype: Any) -> Iterator[Result]:
    state = full_state(file.arrays)
    model, rules = build_system(file, state, dtype)
    golden = file.meta["optimizer"]
    if tuple(golden["betas"]) != (0.9, 0.999) or golden["eps"] != 1e-8:
        raise ValueError(f"our optimizer does not have the betas and eps of {golden}")
    tx = make_optimizer(learning_rate=golden["lr"], weight_decay=golden["weight_decay"])
    chunks = [
        prepare(below(file.arrays, f"{i}/"))["chunk"] for i in indices(file.arrays)
    ]
    stream = model.initial_state(len(chunks[0].starts))
    variables = load_variables(state, rules, model, stream, chunks[0], train=False)
    losses, trained = _train(file, model, tx, variables, chunks)
    reference = file.arrays["losses"]
    yield results.elementwise(
        "trajectory loss", "losses", losses, reference, rtol=TRAJECTORY_LOSS
    )
    final = {"params": trained.params, "batch_stats": trained.batch_stats}
    num_steps = len(file.meta["optimizer_steps_after_chunk"])
    limit = TRAJECTORY_STEPS * golden["lr"] * num_steps
    yield from _compare_final(file, convert.to_torch(final, rules), limit)


def _train(file: GoldenFile, model, tx, variables, chunks: list[Chunk]):
    """Returns the loss of every chunk and the state after the last one."""
    dtype = jnp.dtype(model.image.backbone.dtype)
    state = _with_floats(begin_with(variables, tx), dtype)
    accumulate, apply_gradients = make_train_functions(
        model,
        tx,
        smooth_weight=file.meta["smooth_weight"],
        clip_weight=file.meta.get("clip_loss_weight", 1.0),
    )
    carry = _with_floats(init_carry(state, model, len(chunks[0].starts)), dtype)
    losses, before = [], 0.0
    begins = {1, *(end + 1 for end in file.meta["optimizer_steps_after_chunk"])}
    for number, chunk in enumerate(chunks, 1):
        # Every optimizer step starts new videos; streams would continue otherwise.
        starts = jnp.full_like(chunk.starts, number in begins)
        chunk = dataclasses.replace(chunk, starts=starts)
        stacked = jax.tree.map(lambda leaf: leaf[None], chunk)
        state, carry = accumulate(state, carry, stacked, jax.random.key(0))
        total = float(carry.metrics["loss"])
        losses.append(total - before)
        before = total
        if number in file.meta["optimizer_steps_after_chunk"]:
            state, carry, _ = apply_gradients(state, carry)
            before = 0.0
    return np.array(losses), state


def _with_floats(tree: Params, dtype: jnp.dtype) -> Params:
    """Returns the tree with its floating-point arrays in this type."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def _compare_final(file: GoldenFile, ours: Arrays, limit: float) -> Iterator[Result]:
    """Compares parameters, and statistics, which follow them within the same limits."""
    references = below(file.arrays, "final_state/")
    references |= below(file.arrays, "final_rows/")
    differences = []
    for name, reference in references.items():
        if reference.dtype.kind == "f" and name in ours:
            final = ours[name]
            if f"row_ids/{name}" in file.arrays:
                final = final[file.arrays[f"row_ids/{name}"]]
            differences.append(np.abs(final - reference).ravel())
            yield results.absolute(
                "final state, largest", name, final, reference, limit
            )
    missing = set(ours) - set(references)
    yield Result("final state, missing", ", ".join(sorted(missing)), len(missing), 0)
    mean = float(np.mean(np.concatenate(differences), dtype=np.float64))
    yield Result("final state, mean", "all", mean, TRAJECTORY_MEAN)


def _any_chunk(file: GoldenFile) -> dict[str, np.ndarray]:
    for prefix in ("eval/", "train/", ""):
        for index in indices(file.arrays, prefix):
            return below(file.arrays, f"{prefix}{index}/")
    raise ValueError("the file holds no chunk")
