"""Runs a model over a stream; training, evaluation and live streams share this code.

A stream is a pure function (state, chunk) -> (state, logits). Evaluation scans it over
the chunks of a video, a live stream calls it chunk by chunk, training differentiates
it.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from svtas_jax.folding import folded
from svtas_jax.models.convolution import steps_at
from svtas_jax.structs import Array, Chunk, ChunkOutput, Model, Params, StreamState

Segmenter = Callable[[Params, StreamState, Chunk], tuple[StreamState, jax.Array]]


def start_streams(model: Model, variables: Params, batch_size: int) -> StreamState:
    """Returns the state of new streams, on the device of the variables.

    On any other device, a segmenter would compile twice: for this state, and for the
    next one.
    """
    sharding = jax.tree.leaves(variables)[0].sharding
    return jax.device_put(model.initial_state(batch_size), sharding)


def reset_streams(model: Model, state: StreamState, starts: Array) -> StreamState:
    """Returns the state with the rows reset where `starts` (B,) is True."""
    fresh = model.initial_state(starts.shape[0])

    def choose(new, old):
        return jnp.where(starts.reshape((-1,) + (1,) * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, state)


def apply_chunk(
    model: Model,
    variables: Params,
    state: StreamState,
    chunk: Chunk,
    *,
    rngs: dict[str, jax.Array] | None = None,
    ahead: jax.Array | None = None,
) -> tuple[StreamState, ChunkOutput, Params]:
    """Resets streams that start, then runs the model on one chunk.

    With `rngs` the model runs in training mode: it uses and updates batch statistics.
    `ahead` is the result of `look_ahead` for the state, which must then be fresh where
    `chunk.starts` is True.

    Returns:
        The next state, the model's output, and the batch statistics.
    """
    state = reset_streams(model, state, chunk.starts)
    chunk, restore = _with_valid_first(model, chunk)
    if rngs is None:
        state, output = model.apply(variables, state, chunk, ahead=ahead)
        return state, restore(output), variables.get("batch_stats", {})
    (state, output), updates = model.apply(
        variables, state, chunk, train=True, rngs=rngs, mutable=["batch_stats"]
    )
    return state, restore(output), updates.get("batch_stats", {})


def _with_valid_first(
    model: Model, chunk: Chunk
) -> tuple[Chunk, Callable[[ChunkOutput], ChunkOutput]]:
    """Moves the valid steps of a causal model's chunk to its front, so that they follow
    each other; the function returned moves the output back."""
    valid = chunk.step_valid
    if not model.causal or valid.shape[1] == 1:
        return chunk, lambda output: output
    order = jnp.argsort(~valid, axis=1, stable=True)
    place = jnp.argsort(order, axis=1)

    def moved(leaf):  # (B, F)
        steps = leaf.reshape(*valid.shape, -1)
        return steps_at(steps, order).reshape(leaf.shape)

    def restore(output):
        logits = jax.vmap(steps_at, in_axes=(0, None))(output.logits, place)
        features = (output.image_features, output.text_features)
        features = jax.tree.map(lambda x: steps_at(x, place), features)
        return dataclasses.replace(
            output,
            logits=logits,
            image_features=features[0],
            text_features=features[1],
        )

    chunk = dataclasses.replace(
        chunk,
        frames=steps_at(jnp.asarray(chunk.frames), order),
        labels=moved(chunk.labels),
        valid=moved(chunk.valid),
    )
    return chunk, restore


def look_ahead(
    variables: Params, state: StreamState, *, model: Model
) -> jax.Array | None:
    """Computes the part of the next chunk that needs no frames: Transeger's text
    features. Done while the camera records the frames, it adds no latency."""
    return model.apply(variables, state, method="ahead")


def segment_chunk(
    variables: Params,
    state: StreamState,
    chunk: Chunk,
    ahead: jax.Array | None = None,
    *,
    model: Model,
) -> tuple[StreamState, jax.Array]:
    """Computes the next state and the logits of one chunk.

    Args:
        variables: "params" and "batch_stats" of the model.
        state: of the B streams before this chunk.
        chunk: leaves (B, ...).
        ahead: the result of `look_ahead` for the state; computed here if None.
        model: see `svtas_jax.models`.

    Returns:
        The state after the chunk, and logits (B, T, K), zero in invalid steps.
    """
    state, output, _ = apply_chunk(model, variables, state, chunk, ahead=ahead)
    return state, output.logits[-1]


def segment_video(
    variables: Params, state: StreamState, chunks: Chunk, *, model: Model
) -> tuple[StreamState, jax.Array]:
    """Runs N consecutive chunks, leaves (N, B, ...); returns logits (N, B, T, K).

    A chunk that is all padding does not change the state.
    """

    def step(variables, state, chunk):
        after, logits = segment_chunk(variables, state, chunk, model=model)
        return keep_unless(jnp.any(chunk.valid), after, state), logits

    return scan_chunks(step, variables, state, chunks)


def scan_chunks(
    step: Callable[[Params, StreamState, Chunk], tuple[StreamState, jax.Array]],
    variables: Params,
    state: StreamState,
    chunks: Chunk,
) -> tuple[StreamState, jax.Array]:
    """Scans a step over N chunks, leaves (N, B, ...); what depends on the variables
    alone is computed once, not for every chunk."""
    one = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], chunks))
    values, run = folded(step, variables, state, one)
    return jax.lax.scan(functools.partial(run, values), state, chunks)


def keep_unless(changes: jax.Array, new: Params, old: Params) -> Params:
    """Returns `new` if `changes` () is True, else `old`.

    A `lax.cond` around the model would skip the work on padding, but make everything
    else twice as slow on CPU: XLA does not run its branches on several cores.
    """
    return jax.tree.map(lambda a, b: jnp.where(changes, a, b), new, old)


def make_segmenter(
    model: Model, sharding: jax.sharding.Sharding | None = None
) -> Segmenter:
    """Returns `segment_video` for this model, jitted; `sharding` is for the states."""
    run = functools.partial(segment_video, model=model)
    return compile_inference(run, out_shardings=(sharding, None))


def with_weights(
    function: Callable[..., Any], variables: Params, **options: Any
) -> Callable[..., Any]:
    """Returns `function(variables, ...)` as a jitted function of the other arguments.

    What depends on the variables alone is computed at the first call with arguments of
    some shapes, and not in every call.

    Args:
        function: can be traced by JAX.
        variables: of a model.
        options: of `jax.jit`; the number of an argument counts the variables.
    """
    known: dict[Any, functools.partial[Any]] = {}

    def call(*arguments):
        leaves, tree = jax.tree.flatten(arguments)
        key = (tree, *((leaf.shape, leaf.dtype) for leaf in leaves))
        if key not in known:
            values, run = folded(function, variables, *arguments)
            known[key] = functools.partial(compile_inference(run, **options), values)
        return known[key](*arguments)

    return call


def compile_inference(
    function: Callable[..., Any], **options: Any
) -> jax.stages.Wrapped:
    """Returns `jax.jit(function, **options)`, with compiler options for inference."""
    return jax.jit(function, compiler_options=_inference_options(), **options)


# By the feature of an x86 CPU that they need; measured in docs/benchmarks.md. Training
# goes without: gradients are much slower with Eigen's products.
_CPU_OPTIONS = {
    "sse4_2": {"xla_cpu_experimental_ynn_fusion_type": ""},  # products by Eigen
    "avx512f": {"xla_cpu_prefer_vector_width": 512},
}


@functools.cache
def _inference_options() -> dict[str, str | int]:
    """Returns the options that this backend and this version of XLA know."""
    known = {}
    if jax.default_backend() != "cpu":
        return known
    features = _cpu_features()
    wanted = (own.items() for name, own in _CPU_OPTIONS.items() if name in features)
    for name, value in itertools.chain.from_iterable(wanted):
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError:  # "No such compile option"
            continue
        known[name] = value
    return known


def _cpu_features() -> frozenset[str]:
    """Returns the CPU's features as Linux lists them on x86; none on other systems."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
