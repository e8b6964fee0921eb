"""Checks bare operators, losses and the optimizer: files with numbered cases."""

from collections.abc import Iterator
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from golden_checks import results
from golden_checks.components import channels_last, every_step, frame_mask
from golden_checks.files import Arrays, GoldenFile, below
from golden_checks.results import Result
from svtas_jax.models.convolution import temporal_shift
from svtas_jax.models.image import pool
from svtas_jax.models.layers import Linear, where_valid
from svtas_jax.structs import Chunk
from svtas_jax.training import losses
from svtas_jax.training.optim import make_optimizer
from svtas_jax.weights import convert
from svtas_jax.weights import rules as weight_rules

# Shifting is exact. The public code computes its zeros as x - x, whose gradient adds
# and subtracts the same number: two roundings of at most twice the largest value.
SHIFT_GRADIENT = 4 * 2.0**-24
LOSS = 1e-5  # relative
LOSS_GRADIENT = dict(rtol=1e-4, atol=1e-6)
POOLING = dict(rtol=1e-5, atol=1e-6)
EMBEDDING = dict(rtol=1e-5, atol=1e-5)
OPTIMIZER = 1e-7  # absolute


def cases(file: GoldenFile) -> Iterator[tuple[str, dict, Arrays]]:
    """Yields the prefix, settings and arrays of every case."""
    for index, case in enumerate(file.meta["cases"]):
        yield f"{index}/", case, below(file.arrays, f"{index}/")


def _with_gradient(function, x: np.ndarray, cotangent):
    """Returns the function's value and the gradient of its product with cotangent."""

    @jax.jit
    def run(x, cotangent):
        y, pull_back = jax.vjp(function, x)
        return y, pull_back(cotangent)

    return run(x, cotangent)


def check_temporal_shift(file: GoldenFile) -> Iterator[Result]:
    """Checks output and gradient for x [N * T, C, H, W]."""
    for where, case, arrays in cases(file):

        def shift(x, case=case):
            split = x.reshape((-1, case["num_segments"], *x.shape[1:]))
            shifted = temporal_shift(jnp.moveaxis(split, 2, -1), case["shift_div"])
            return jnp.moveaxis(shifted, -1, 2).reshape(x.shape)

        y, (gradient,) = _with_gradient(shift, arrays["x"], arrays["cotangent"])
        yield results.exact("output", where + "y", y, arrays["y"])
        path, reference = where + "grad_x", arrays["grad_x"]
        yield results.relative("gradient", path, gradient, reference, SHIFT_GRADIENT)


def check_pooling_neck(file: GoldenFile) -> Iterator[Result]:
    """Checks x [N * T, C, H, W], mask [N, 1, T]; some cases add a classifier."""
    for where, case, arrays in cases(file):
        state = below(arrays, "state/")
        rules = (weight_rules.Rule("backbone_cls_fc", "fc", "linear"),)
        params = convert.from_torch(state, rules)[0].get("params")
        valid = frame_mask(arrays["mask"])

        def neck(x, case=case, params=params, valid=valid):
            x = jnp.moveaxis(x.reshape((*valid.shape, *x.shape[1:])), 2, -1)
            pooled = pool(x, valid)
            feature = pooled if case["need_pool"] else where_valid(valid, x)
            outputs = [feature]
            if case["need_pre_cls"]:
                width = params["fc"]["bias"].shape[0]
                logits: Any = Linear(width).apply({"params": params["fc"]}, pooled)
                outputs.append(logits)
            return [jnp.moveaxis(y, (1, -1), (2, 1)) for y in outputs]

        cotangents = [arrays[f"cot{i}"] for i in range(1 + case["need_pre_cls"])]
        ours, (gradient,) = _with_gradient(neck, arrays["x"], cotangents)
        for i, y in enumerate(ours):
            reference = arrays[f"y{i}"]
            yield results.elementwise("output", f"{where}y{i}", y, reference, **POOLING)
        path, reference = where + "grad_x", arrays["grad_x"]
        yield results.elementwise("gradient", path, gradient, reference, **POOLING)


def check_embedding_head(file: GoldenFile) -> Iterator[Result]:
    """Checks x [N, D, T]: Transeger's projection, or masking if widths are equal."""
    for where, case, arrays in cases(file):
        rules = (weight_rules.Rule("project", "project", "conv1d"),)
        state = below(arrays, "state/")
        params = convert.from_torch(state, rules)[0].get("params", {})
        module: nn.Module = Linear(case["out_channels"], use_bias=False)
        x = channels_last(arrays["x"])
        valid = every_step(frame_mask(arrays["mask"]), x)

        def embed(params, x, module=module, valid=valid):
            if params:
                x = module.apply({"params": params["project"]}, x)
            return where_valid(valid, x)

        y, pull_back = jax.vjp(embed, jax.tree.map(jnp.asarray, params), x)
        gradients, x_gradient = pull_back(channels_last(arrays["cot"]))
        ours = {"y": jnp.swapaxes(y, 1, 2), "grad_x": jnp.swapaxes(x_gradient, 1, 2)}
        named = convert.to_torch({"params": gradients}, rules)
        ours |= {f"grad/{name}": gradient for name, gradient in named.items()}
        references = {"y", "grad_x"} | {k for k in arrays if k.startswith("grad/")}
        for name in sorted(references):
            mode = "output" if name == "y" else "gradient"
            mine = ours.get(name, np.zeros(0))
            yield results.elementwise(
                mode, where + name, mine, arrays[name], **EMBEDDING
            )


def loss_chunk(arrays: Arrays, num_steps: int) -> Chunk:
    """Returns a chunk of the labels and masks of a loss file, without pictures."""
    batch_size = len(arrays["labels"])
    return Chunk(
        frames=jnp.zeros((batch_size, num_steps, 1, 1, 3)),
        labels=jnp.asarray(arrays["labels"], jnp.int32),
        valid=jnp.asarray(arrays["masks"] > 0),
        starts=jnp.zeros(batch_size, bool),
        num_chunks=jnp.asarray(arrays["precise_sliding_num"]),
    )


def check_segmentation_loss(file: GoldenFile) -> Iterator[Result]:
    """Checks the loss of logits [stages, N, classes, F]."""
    for where, case, arrays in cases(file):
        chunk = loss_chunk(arrays, arrays["labels"].shape[1])
        weights = arrays.get("class_weight")

        def loss(logits, case=case, chunk=chunk, weights=weights):
            value = losses.segmentation_loss(
                jnp.swapaxes(logits, 2, 3),
                chunk,
                smooth_weight=case["smooth"],
                class_weights=None if weights is None else jnp.asarray(weights),
            )
            return case.get("loss_weight", 1.0) * value

        value, gradient = jax.jit(jax.value_and_grad(loss))(arrays["score"])
        yield from _loss_results(where, arrays, {"loss": value, "grad_score": gradient})


def check_clip_loss(file: GoldenFile) -> Iterator[Result]:
    """Checks img_feature, text_feature [N, D, T]; also with the segmentation loss."""
    for where, case, arrays in cases(file):
        chunk = loss_chunk(arrays, arrays["img_feature"].shape[2])

        def contrast(features, case=case, chunk=chunk):
            image, text = (jnp.swapaxes(features[k], 1, 2) for k in ("img", "text"))
            scale = features["logit_scale"]
            return case.get("w", 1.0) * losses.clip_loss(image, text, scale, chunk)

        def both(features, case=case, chunk=chunk, contrast=contrast):
            logits = jnp.swapaxes(features["score"], 2, 3)
            segmentation = case.get("seg_w", 1.0) * losses.segmentation_loss(
                logits, chunk, smooth_weight=case["smooth"]
            )
            clip = contrast(features)
            return segmentation + clip, {
                "img_seg_loss": segmentation,
                "clip_loss": clip,
            }

        features = {
            "img": jnp.asarray(arrays["img_feature"]),
            "text": jnp.asarray(arrays["text_feature"]),
            "logit_scale": jnp.float32(case["logit_scale"]),
        }
        value, gradients = jax.jit(jax.value_and_grad(contrast))(features)
        ours = {"loss": value} | {f"grad_{k}": g for k, g in gradients.items()}
        yield from _loss_results(f"{where}clip/", below(arrays, "clip/"), ours)
        features["score"] = jnp.asarray(arrays["score"])
        step = jax.jit(jax.value_and_grad(both, has_aux=True))
        (value, parts), gradients = step(features)
        ours = {"loss": value, **parts} | {f"grad_{k}": g for k, g in gradients.items()}
        yield from _loss_results(f"{where}seg_clip/", below(arrays, "seg_clip/"), ours)


def _loss_results(where: str, arrays: Arrays, ours: dict) -> Iterator[Result]:
    for name, value in ours.items():
        if name.startswith("grad"):
            limits: dict[str, Any] = dict(mode="gradient", **LOSS_GRADIENT)
        else:
            limits = dict(mode="loss", rtol=LOSS)
        if name in arrays:
            yield results.elementwise(
                name=where + name, ours=value, reference=arrays[name], **limits
            )


def check_optimizer(file: GoldenFile) -> Iterator[Result]:
    """Checks the parameters after every step on given gradients, by optimizer."""
    meta = file.meta
    if tuple(meta["betas"]) != (0.9, 0.999) or meta["eps"] != 1e-8:
        raise ValueError("our optimizer has betas 0.9, 0.999 and eps 1e-8")
    for optimizer in sorted({name.split("/")[0] for name in file.arrays}):
        arrays = below(file.arrays, f"{optimizer}/")
        rates = arrays["lr"].astype(np.float64)
        drops = [i for i in range(1, len(rates)) if rates[i] != rates[i - 1]]
        tx = make_optimizer(
            learning_rate=meta["learning_rate"],
            weight_decay=meta["weight_decay"],
            milestones=tuple(drops),
            decay=float(rates[drops[0]] / rates[drops[0] - 1]) if drops else 1.0,
        )
        params = {k: jnp.asarray(a) for k, a in below(arrays, "init/").items()}
        state, update = tx.init(params), jax.jit(tx.update)
        for step in range(len(rates)):
            gradients = below(arrays, f"{step}/grad/")
            updates, state = update(gradients, state, params)
            params = cast(dict[str, jax.Array], optax.apply_updates(params, updates))
            for name, reference in below(arrays, f"{step}/param/").items():
                path = f"{optimizer}/{step}/param/{name}"
                mine = params[name]
                yield results.absolute("parameter", path, mine, reference, OPTIMIZER)
