"""Runs a component over the chunks of a golden file, in evaluation and in training."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks import results
from golden_checks.components import Component
from golden_checks.files import Arrays, GoldenFile, below, indices
from golden_checks.results import Result
from svtas_jax.models import prompts
from svtas_jax.structs import Params
from svtas_jax.weights import convert

# The README of the golden directory, "Tolerances".
EVAL_OUTPUT = 1e-4  # of the larger of 1 and the array's largest value
TRAIN_OUTPUT = 5e-4  # of the array's largest value; also losses
STATISTICS = 1e-4  # of the array's largest value
GRADIENT = 2e-3  # of the array's largest value, plus
GRADIENT_FLOOR = 1e-5  # of the largest gradient of the chunk

# Under out/: inputs that the public code draws at random, and a mask it never uses.
_NOT_COMPARED = ("template_idx", "pad_mask")


def check_stream(file: GoldenFile, build: Callable[..., Component]) -> Iterator[Result]:
    """Compares every array of the file.

    Training through ReLU6 and batch statistics is ill-conditioned: where an activation
    lies within rounding of a kink, the gradients of two correct float32 programs differ
    by several percent. The files were chosen so that the public code's float32 and
    float64 agree. Therefore a training result that misses its tolerance is computed
    again in float64, where it must agree; an error of ours would remain. Both results
    are shown.

    Args:
        file: the inputs and the expected outputs.
        build: makes the component for a file and a dtype.
    """
    yield from check_eval(file, build(file))
    yield from retry_in_float64(lambda dtype: check_train(file, build(file, dtype)))


def retry_in_float64(check: Callable[[Any], Iterator[Result]]) -> Iterator[Result]:
    """Yields the results of a check in float32; modes that miss their tolerance are
    followed by their results in float64, which count."""
    first = list(check(jnp.float32))
    failed = {result.mode for result in first if not result.passed}
    for result in first:
        yield dataclasses.replace(result, retried=result.mode in failed)
    if failed:
        with jax.enable_x64(True):
            again = list(check(jnp.float64))
        for result in again:
            if result.mode in failed:
                yield dataclasses.replace(result, mode=f"{result.mode} (float64)")


def check_eval(file: GoldenFile, component: Component) -> Iterator[Result]:
    """Compares the stream in evaluation: outputs, memories, label feedback."""
    step = jax.jit(lambda *args: component.apply(*args, False)[:2])
    state = component.state
    for index in indices(file.arrays, "eval/"):
        where = f"eval/{index}/"
        chunk = below(file.arrays, where)
        inputs = component.prepare(chunk)
        state, outputs = step(component.variables, state, inputs)
        limits = dict(tolerance=EVAL_OUTPUT, least=1.0)
        yield from _compare_outputs("eval output", where, outputs, chunk, **limits)
        contexts = component.contexts(state)
        yield from _compare_memory("eval memory", where, contexts, chunk, **limits)


def check_train(file: GoldenFile, component: Component) -> Iterator[Result]:
    """Compares a training step per chunk: outputs, memories, label feedback, losses,
    batch norm statistics, gradients."""

    def objective(params, batch_stats, state, inputs):
        variables = {"params": params, "batch_stats": batch_stats}
        state, outputs, batch_stats = component.apply(variables, state, inputs, True)
        loss, parts = component.loss(outputs, inputs)
        return loss, (state, batch_stats, outputs, parts)

    step = jax.jit(jax.value_and_grad(objective, has_aux=True))
    params, batch_stats = (
        component.variables["params"],
        component.variables["batch_stats"],
    )
    state = component.state
    for index in indices(file.arrays, "train/"):
        where = f"train/{index}/"
        chunk = below(file.arrays, where)
        (loss, (state, batch_stats, outputs, parts)), grads = step(
            params, batch_stats, state, component.prepare(chunk)
        )
        limits = dict(tolerance=TRAIN_OUTPUT)
        yield from _compare_outputs("train output", where, outputs, chunk, **limits)
        contexts = component.contexts(state)
        yield from _compare_memory("train memory", where, contexts, chunk, **limits)
        for name, ours in {"loss": loss, **parts}.items():
            reference = chunk.get(name)
            if reference is not None:
                path = where + name
                yield results.relative("train loss", path, ours, reference, **limits)
        after = {"params": params, "batch_stats": batch_stats}
        yield from _compare_statistics(where, after, chunk, component.rules)
        yield from _compare_gradients(where, grads, chunk, file.arrays, component.rules)


def _compare_outputs(mode, where, outputs, chunk: Arrays, **limits) -> Iterator[Result]:
    for name, reference in below(chunk, "out/").items():
        path = f"{where}out/{name}"
        if name in _NOT_COMPARED:
            continue
        ours = outputs.get(name, np.zeros(0))
        if reference.dtype.kind in "iub":
            # Ours are labels of the decoded steps, the file's of all frames.
            labels = prompts.prompt_labels(jnp.asarray(reference), np.shape(ours)[-1])
            yield results.exact("label feedback", path, ours, labels)
        else:
            yield results.relative(mode, path, ours, reference, **limits)


def _compare_memory(mode, where, contexts, chunk: Arrays, **limits) -> Iterator[Result]:
    memories = below(chunk, "memory/")
    if not memories:
        return
    for name, context in zip(sorted(memories, key=_layer), contexts, strict=True):
        ours, path = np.swapaxes(context, 1, 2), f"{where}memory/{name}"
        yield results.relative(mode, path, ours, memories[name], **limits)


def _layer(name: str) -> tuple[int, int]:
    """Sort key of the names of memory layers: stage, then layer."""
    stage = re.search(r"stages\.(\d+)", name)
    return (1 + int(stage[1]) if stage else 0, int(name.split(".")[-1]))


def _compare_statistics(
    where, variables: Params, chunk: Arrays, rules
) -> Iterator[Result]:
    references = below(chunk, "bn_after/")
    if not references:
        return
    state = convert.to_torch(variables, rules)
    for name, reference in references.items():
        if not name.endswith("num_batches_tracked"):
            path = f"{where}bn_after/{name}"
            ours = state.get(name, np.zeros(0))
            yield results.relative(
                "batch statistics", path, ours, reference, tolerance=STATISTICS
            )


def _compare_gradients(
    where, grads: Params, chunk: Arrays, arrays: Arrays, rules
) -> Iterator[Result]:
    """Parameters without a gradient in the file must have zero gradient."""
    given = below(chunk, "grad/")
    if not given:
        return
    references = {**given, **below(chunk, "loss_param_grad/")}
    largest = max(float(np.max(np.abs(r), initial=0)) for r in given.values())
    least = GRADIENT_FLOOR / GRADIENT * largest
    ours = convert.to_torch({"params": grads}, rules)
    for name in sorted(ours | references):
        path, gradient = f"{where}grad/{name}", ours.get(name, np.zeros(0))
        reference = references.get(name, np.zeros_like(gradient))
        if f"row_ids/{name}" in arrays and name in references:
            table = np.zeros_like(gradient)
            table[arrays[f"row_ids/{name}"]] = reference
            reference = table
        yield _gradient_result(path, gradient, reference, least)


def _gradient_result(path, ours, reference, least) -> Result:
    scale = float(np.max(np.abs(reference), initial=0)) + least
    difference = results.absolute("", path, ours, reference, 0).error
    return Result("gradient", path, results.ratio(difference, scale), GRADIENT)
