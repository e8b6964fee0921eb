"""Lowers a config's programs for some devices, from shapes alone."""

from typing import Any, NamedTuple

import jax
import ml_collections
from jax.sharding import Mesh

from data_pipeline.chunks import blank_chunk
from data_pipeline.known import class_names_of
from svtas_jax.config import stream_spec, with_clip_frames
from svtas_jax.cost.measure import FEATURE_WIDTH, WHOLE_VIDEO
from svtas_jax.folding import folded
from svtas_jax.models import build_model
from svtas_jax.runtime.sharding import by_slot, repeated
from svtas_jax.streaming import look_ahead, segment_chunk
from svtas_jax.structs import BatchCarry, TrainState
from svtas_jax.training import averaging, optim
from svtas_jax.training.functions import functions_of
from svtas_jax.training.placement import lay_out, share_out
from svtas_jax.training.step import begin_with, init_carry


class Lowered(NamedTuple):
    """A program that is not yet compiled.

    Attributes:
        function: jitted.
        program: the result of its `lower`.
        arguments: their shapes.
        carried: how many of the first arguments the first results replace in the next
            call.
        frames: frames that the model reads in a call.
    """

    function: jax.stages.Wrapped
    program: jax.stages.Lowered
    arguments: tuple[Any, ...]
    carried: int
    frames: int


def lower_inference(
    config: ml_collections.ConfigDict, batch_size: int, mesh: Mesh
) -> dict[str, Lowered]:
    """Lowers `segment_chunk` with folded weights, whole and, of a model with a text
    branch, after a chunk's last frame.

    Args:
        config: see `build_model`.
        batch_size: streams.
        mesh: the devices, over which the streams are split.
    """
    config = with_clip_frames(config, [WHOLE_VIDEO])
    model = build_model(config, class_names_of(config.data))

    def make():
        state, chunk = model.initial_state(batch_size), _blank(config, batch_size)
        return model.init(jax.random.key(0), state, chunk), state, chunk

    def segment(variables, state, chunk, ahead=None):
        return segment_chunk(variables, state, chunk, ahead, model=model)

    variables, *streams = jax.eval_shape(make)
    ahead = jax.eval_shape(
        lambda v, s: look_ahead(v, s, model=model), variables, streams[0]
    )
    calls = {"a chunk": streams}
    if ahead is not None:
        calls["after its last frame"] = [*streams, ahead]
    found = {}
    for name, call in calls.items():
        runs: list[Any] = []  # a function is no result of `eval_shape`

        def values(variables, call=call, runs=runs):
            result, run = folded(segment, variables, *call)
            runs.append(run)
            return result

        weights = _placed(jax.eval_shape(values, variables), repeated(mesh))
        arguments = (weights, *_placed(tuple(call), by_slot(mesh)))
        function = jax.jit(runs[0])
        frames = batch_size * stream_spec(config).clip_steps
        lowered = function.lower(*arguments)
        found[name] = Lowered(function, lowered, arguments, 0, frames)
    return found


def lower_training(config: ml_collections.ConfigDict, mesh: Mesh) -> dict[str, Lowered]:
    """Lowers `accumulate` for one chunk of a batch, or for the `train.gradient_chunks`
    that are differentiated as one, and `apply_gradients`."""
    config = with_clip_frames(config, [WHOLE_VIDEO])
    names = class_names_of(config.data)
    model = build_model(config, names)
    tx, size = optim.optimizer_of(config, steps_per_epoch=1), config.train.batch_size

    def make():
        variables = model.init(
            jax.random.key(0), model.initial_state(1), _blank(config, 1)
        )
        state = averaging.begin(begin_with(variables, tx), config.train.ema)
        return state, init_carry(state, model, size), jax.random.key(0)

    shapes: tuple[TrainState, BatchCarry, jax.Array] = jax.eval_shape(make)
    state, carry = shapes[:2]
    carry = share_out(state, carry, mesh, config.train.split_from)
    shardings = lay_out(state, carry, mesh, config.train.split_from)
    state, carry = jax.tree.map(_placed, (state, carry), shardings)
    chunks = jax.eval_shape(lambda: _blank(config, size))
    count = config.train.gradient_chunks
    chunks = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), chunks
    )
    chunks = _placed(chunks, by_slot(mesh, axis=1))
    key = _placed(shapes[2], repeated(mesh))
    accumulate, apply_gradients = functions_of(
        config, model, tx, class_counts=[1] * len(names), shardings=shardings
    )
    chunk, step = (state, carry, chunks, key), (state, carry)
    frames = count * size * stream_spec(config).clip_steps
    return {
        "a chunk": Lowered(accumulate, accumulate.lower(*chunk), chunk, 2, frames),
        "a step": Lowered(apply_gradients, apply_gradients.lower(*step), step, 2, 0),
    }


def _blank(config, batch_size):
    width = FEATURE_WIDTH if config.model.backbone == "features" else 0
    return blank_chunk(
        batch_size, stream_spec(config), config.data.crop, feature_width=width
    )


def _placed(tree, sharding):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )
