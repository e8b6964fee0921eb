"""The one way through a stream: training, evaluation and live use all come here.

A stream is a pure function (state, chunk) -> (state, scores). Evaluation scans it over
the chunks of a video, the live stream calls it chunk by chunk, training differentiates
it.
"""

import functools
import itertools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from svtas_jax.structs import Chunk, ChunkOutput, Model, Params, StreamState

Segmenter = Callable[[Params, StreamState, Chunk], tuple[StreamState, jax.Array]]


def start_streams(model: Model, variables: Params, batch_size: int) -> StreamState:
    """Returns the state of new streams, on the device of the variables.

    A state that lies elsewhere than the one that comes back would compile a segmenter
    twice.
    """
    sharding = jax.tree.leaves(variables)[0].sharding
    return jax.device_put(model.initial_state(batch_size), sharding)


def reset_streams(model: Model, state: StreamState, starts: jax.Array):
    """Returns the state with every row where `starts` (B,) is True made new."""
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

    With `rngs` the model trains: batch statistics are used and updated. `ahead` is
    what `look_ahead` made of the state; streams that start must have a new one then.

    Returns:
        The next state, what the model says, and the batch statistics.
    """
    state = reset_streams(model, state, chunk.starts)
    if rngs is None:
        state, output = model.apply(variables, state, chunk, ahead=ahead)
        return state, output, variables.get("batch_stats", {})
    (state, output), updates = model.apply(
        variables, state, chunk, train=True, rngs=rngs, mutable=["batch_stats"]
    )
    return state, output, updates.get("batch_stats", {})


def look_ahead(
    variables: Params, state: StreamState, *, model: Model
) -> jax.Array | None:
    """Returns what the next chunk needs and its frames do not matter to: Transeger's
    text features. Made while the frames are shot, it costs no latency."""
    return model.apply(variables, state, method="ahead")


def segment_chunk(
    variables: Params,
    state: StreamState,
    chunk: Chunk,
    ahead: jax.Array | None = None,
    *,
    model: Model,
) -> tuple[StreamState, jax.Array]:
    """Scores one chunk.

    Args:
        variables: "params" and "batch_stats" of the model.
        state: of the B streams before this chunk.
        chunk: leaves (B, ...).
        ahead: what `look_ahead` returned for the state; otherwise it is made here.
        model: see `svtas_jax.models`.

    Returns:
        The state after the chunk, and logits (B, T, K), zero in invalid steps.
    """
    state, output, _ = apply_chunk(model, variables, state, chunk, ahead=ahead)
    return state, output.logits[-1]


def segment_video(
    variables: Params, state: StreamState, chunks: Chunk, *, model: Model
) -> tuple[StreamState, jax.Array]:
    """Scores N consecutive chunks, leaves (N, B, ...); returns logits (N, B, T, K).

    Chunks that are all padding leave the state as it is.
    """

    def step(state, chunk):
        after, logits = segment_chunk(variables, state, chunk, model=model)
        return keep_unless(jnp.any(chunk.valid), after, state), logits

    return jax.lax.scan(step, state, chunks)


def keep_unless(changes: jax.Array, new: Params, old: Params) -> Params:
    """Returns `new` where `changes` () is True, else `old`.

    A `lax.cond` around a model would save the work on padding, but makes the CPU twice
    as slow on everything else: XLA does not spread its branches over the cores.
    """
    return jax.tree.map(lambda a, b: jnp.where(changes, a, b), new, old)


def make_segmenter(
    model: Model, sharding: jax.sharding.Sharding | None = None
) -> Segmenter:
    """Returns `segment_video` for this model, compiled.

    `sharding` says how the streams' states lie on the devices.
    """
    run = functools.partial(segment_video, model=model)
    return compile_inference(run, out_shardings=(sharding, None))


def compile_inference(function: Callable, **options) -> Callable:
    """Returns `jax.jit(function, **options)` with what makes inference fast here."""
    return jax.jit(function, compiler_options=_inference_options(), **options)


# By the feature of an x86 CPU that they need; measured in docs/benchmarks.md. Training
# goes without: gradients are much slower with Eigen's products.
_CPU_OPTIONS = {
    "sse4_2": {"xla_cpu_experimental_ynn_fusion_type": ""},  # products by Eigen
    "avx512f": {"xla_cpu_prefer_vector_width": 512},
}


@functools.cache
def _inference_options() -> dict[str, str | int]:
    """Returns the options for this CPU that this version of XLA knows."""
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
