"""One optimizer step from a batch of whole videos, a few chunks at a time.

A carry that crosses calls sums the gradients over the chunks of a video batch. Memory
is therefore that of a few chunks, however long the videos are, and the grouping of
chunks into calls does not change the result. The stream's state enters each chunk as
data, so gradients stop at the chunk's border, unless `gradient_chunks` lets them flow
through a few chunks; see `through_time`.

On several devices, each sums the gradients of its own slots, and the sums meet once a
step. Where large parameters are split over the devices (FSDP), the compiler adds the
communication instead, and gradients meet in every chunk.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from svtas_jax.models.layers import BLOCK
from svtas_jax.models.text_encoder import VOCABULARY
from svtas_jax.runtime import parts
from svtas_jax.streaming import apply_chunk, keep_unless, reset_streams
from svtas_jax.structs import (
    IGNORE_LABEL,
    BatchCarry,
    Chunk,
    Model,
    Params,
    StreamState,
    TrainState,
)
from svtas_jax.training import averaging
from svtas_jax.training.cross_entropy import CrossEntropy
from svtas_jax.training.losses import PLAIN, chunk_loss
from svtas_jax.training.prompting import Prompting
from svtas_jax.training.through_time import in_groups, loss_of_group

# What a chunk's forward pass stores for the backward pass, which recomputes the rest.
REMAT = {
    "none": None,  # stores everything
    "products": jax.checkpoint_policies.dots_saveable,
    "blocks": jax.checkpoint_policies.save_only_these_names(BLOCK),
}
# Parameters, batch statistics, stream, chunk, key and optimizer step to the loss, and
# with it stream, statistics and metrics.
LossFn = Callable[
    [Params, Params, StreamState, Chunk, jax.Array, jax.Array],
    tuple[jax.Array, tuple[StreamState, Params, dict[str, jax.Array]]],
]
METRICS = ("loss", "segmentation_loss", "clip_loss", "correct_steps", "valid_steps")


def init_train_state(
    model: Model, tx: optax.GradientTransformation, chunk: Chunk, key: jax.Array
) -> TrainState:
    """Returns the state before the first step; only the shapes of `chunk` matter."""
    return begin_with(init_variables(model, chunk, key), tx)


def begin_with(variables: Params, tx: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step, with these variables."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(jnp.int32(0), params, batch_stats, tx.init(params))


def init_variables(model: Model, chunk: Chunk, key: jax.Array) -> Params:
    """Returns freshly initialised variables; only the shapes of `chunk` matter."""
    # Optimising hundreds of small random kernels takes longer than running them.
    quick = {"xla_backend_optimization_level": 0}
    init = jax.jit(model.init, compiler_options=quick)
    return init(key, model.initial_state(chunk.starts.shape[0]), chunk)


def init_carry(state: TrainState, model: Model, batch_size: int) -> BatchCarry:
    """Returns the carry before the first step, for one device."""
    return _emptied(state.params, model.initial_state(batch_size))


def _emptied(grads: Params, stream: StreamState) -> BatchCarry:
    return BatchCarry(
        grads=jax.tree.map(jnp.zeros_like, grads),
        stream=stream,
        metrics={name: jnp.float32(0) for name in METRICS},
        chunk_index=jnp.int32(0),
        bad_chunk=jnp.int32(-1),
        num_bad=jnp.int32(0),
    )


def make_loss(
    model: Model,
    *,
    smooth_weight: float,
    clip_weight: float,
    remat: str = "none",
    prompting: Prompting | None = None,
    entropy: CrossEntropy = PLAIN,
) -> LossFn:
    """Returns a function that computes the loss of one chunk.

    It maps (params, batch_stats, stream, chunk, key, step) to the loss and, as
    auxiliary output, the next (stream, batch_stats, metrics). On several devices, the
    loss is a device's share of the batch's, and the rest is the batch's.

    Args:
        model: see `svtas_jax.models`.
        smooth_weight, clip_weight: see `losses.chunk_loss`.
        remat: see `REMAT`.
        prompting: chooses the labels of the next chunk's prompts; None: the true ones.
        entropy: see `losses.segmentation_loss`.
    """

    def loss_fn(params, batch_stats, stream, chunk, key, step):
        variables = {"params": params, "batch_stats": batch_stats}
        rngs = {"dropout": key, "templates": jax.random.fold_in(key, 1)}
        stream, output, batch_stats = apply_chunk(
            model, variables, stream, chunk, rngs=rngs
        )
        if prompting is not None:
            logits = output.logits[-1]
            stream = prompting.choose(model, stream, chunk, logits, key, step)
        loss, terms = chunk_loss(
            output,
            chunk,
            smooth_weight=smooth_weight,
            clip_weight=clip_weight,
            entropy=entropy,
        )
        metrics = {"loss": loss, **terms, **_count_correct(output.logits[-1], chunk)}
        return loss, (stream, batch_stats, parts.total(metrics))

    if REMAT[remat] is None:
        return loss_fn
    return jax.checkpoint(loss_fn, policy=REMAT[remat])


def accumulate(
    state: TrainState,
    carry: BatchCarry,
    chunks: Chunk,
    key: jax.Array,
    *,
    loss_fn: LossFn,
    gradient_chunks: int = 1,
    skip_with: Callable[[StreamState, jax.Array], StreamState] | None = None,
) -> tuple[TrainState, BatchCarry]:
    """Adds the gradients of consecutive chunks to the carry.

    Of the state, only `batch_stats` changes. A chunk without a valid frame has no loss
    and changes neither statistics nor stream.

    Args:
        state: of the training.
        carry: the step's sums so far.
        chunks: leaves (K, B, ...).
        key: the run's random key.
        loss_fn: see `make_loss`.
        gradient_chunks: chunks in a group through which gradients flow; divides K.
        skip_with: skip groups with a loss or a gradient that is not finite, as if they
            had no valid frame. The function resets the streams that start in them, see
            `reset_streams`.
    """
    step_key = jax.random.fold_in(key, state.step)
    group_loss = loss_of_group(loss_fn, gradient_chunks)
    gradients = jax.value_and_grad(group_loss, has_aux=True)
    params = _own_but_vocabulary(state.params)

    def add_group(inner, group):
        batch_stats, carry = inner
        place = (step_key, carry.chunk_index, state.step)
        (_, (stream, new_stats, metrics, bad)), grads = gradients(
            params, batch_stats, carry.stream, group, *place
        )
        counts = parts.any_of(group.valid)
        is_bad, before = jnp.any(bad), carry.stream
        sums = {k: v + metrics.get(k, 0) for k, v in carry.metrics.items()}
        grads = jax.tree.map(jnp.add, carry.grads, grads)
        if skip_with:
            is_bad |= parts.any_of(~jnp.isfinite(optax.tree.norm(grads)))
            counts &= ~is_bad
            grads, sums = keep_unless(
                counts, (grads, sums), (carry.grads, carry.metrics)
            )
            starts = group.starts.reshape(-1, group.starts.shape[-1])
            before = skip_with(before, jnp.any(starts, axis=0))
        first_bad = is_bad & (carry.bad_chunk < 0)
        bad_chunk = carry.chunk_index + jnp.argmax(bad).astype(jnp.int32)
        carry = dataclasses.replace(
            carry,
            grads=grads,
            stream=keep_unless(counts, stream, before),
            metrics=sums,
            chunk_index=carry.chunk_index + gradient_chunks,
            bad_chunk=jnp.where(first_bad, bad_chunk, carry.bad_chunk),
            num_bad=carry.num_bad + gradient_chunks * is_bad,
        )
        return (keep_unless(counts, new_stats, batch_stats), carry), None

    (batch_stats, carry), _ = jax.lax.scan(
        add_group, (state.batch_stats, carry), in_groups(chunks, gradient_chunks)
    )
    return dataclasses.replace(state, batch_stats=batch_stats), carry


def _own_but_vocabulary(params: Params) -> Params:
    """Marks what `placement.share_out` gives shares of."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if path[-1].key == VOCABULARY else parts.own(leaf),
        params,
    )


def accumulate_on(
    shardings: tuple[TrainState, BatchCarry],
    state: TrainState,
    carry: BatchCarry,
    chunks: Chunk,
    key: jax.Array,
    **options: Any,
) -> tuple[TrainState, BatchCarry]:
    """Calls `accumulate`, on every device for its own slots if they have shares.

    Args:
        shardings: see `placement.lay_out`.
        state, chunks, key: see `accumulate`.
        carry: after `placement.share_out`.
        **options: of `accumulate`.
    """
    has_share = jax.tree.map(
        lambda grad, param: grad.ndim > param.ndim, carry.grads, state.params
    )
    if not any(jax.tree.leaves(has_share)):
        return accumulate(state, carry, chunks, key, **options)

    def on_device(state, carry, chunks, key):
        grads = jax.tree.map(lambda has, g: g[0] if has else g, has_share, carry.grads)
        carry = dataclasses.replace(carry, grads=grads)
        state, carry = accumulate(state, carry, chunks, key, **options)
        grads = jax.tree.map(
            lambda has, g: g[None] if has else g, has_share, carry.grads
        )
        return state, dataclasses.replace(carry, grads=grads)

    specs = jax.tree.map(lambda each: each.spec, shardings)
    return jax.shard_map(
        on_device,
        mesh=jax.tree.leaves(shardings)[0].mesh,
        in_specs=(*specs, PartitionSpec(None, parts.AXIS), PartitionSpec()),
        out_specs=specs,
    )(state, carry, chunks, key)


def apply_gradients(
    state: TrainState,
    carry: BatchCarry,
    *,
    tx: optax.GradientTransformation,
    mesh: Mesh | None = None,
    ema: float = 0.0,
) -> tuple[TrainState, BatchCarry, dict[str, jax.Array]]:
    """Takes an optimizer step with the carry's gradients.

    The streams' states stay in the carry, for videos that continue in the next step;
    `starts` resets the others.

    Args:
        state, carry: of the training.
        tx: the optimizer.
        mesh: the devices that have shares of the gradients, if any have.
        ema: see `averaging.update`.

    Returns:
        The next state, the carry for the next step, and the metrics.
    """
    grads = carry.grads if mesh is None else _add_up(carry.grads, state.params, mesh)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    metrics = {**carry.metrics, "grad_norm": optax.tree.norm(grads)}
    metrics |= {"bad_chunk": carry.bad_chunk, "num_bad": carry.num_bad}
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
    )
    state = averaging.update(state, ema)
    return state, _emptied(carry.grads, carry.stream), metrics


def _add_up(grads: Params, params: Params, mesh: Mesh) -> Params:
    """Returns the gradients of all devices, from their shares."""
    leaves, tree = jax.tree.flatten(grads)
    ranks = [param.ndim for param in jax.tree.leaves(params)]
    shares = {n: g for n, g in enumerate(leaves) if g.ndim > ranks[n]}
    sums = jax.shard_map(
        lambda each: parts.total(jax.tree.map(lambda share: share[0], each)),
        mesh=mesh,
        in_specs=PartitionSpec(parts.AXIS),
        out_specs=PartitionSpec(),
    )(shares)
    return tree.unflatten([sums.get(n, g) for n, g in enumerate(leaves)])


def make_train_functions(
    model: Model,
    tx: optax.GradientTransformation,
    *,
    shardings: tuple[TrainState, BatchCarry] | None = None,
    skip_bad: bool = False,
    ema: float = 0.0,
    gradient_chunks: int = 1,
    **loss_options: Any,
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
    """Returns `accumulate` and `apply_gradients` for this model, jitted.

    Args:
        model: see `svtas_jax.models`.
        tx: the optimizer.
        shardings: of state and carry, kept by every call; see `placement.lay_out`.
        ema: see `averaging.update`.
        skip_bad: whether to skip what is not finite, see `accumulate`.
        gradient_chunks: see `accumulate`.
        **loss_options: see `make_loss`.
    """
    loss_fn = make_loss(model, **loss_options)
    state, carry = shardings or (None, None)
    metrics = carry.chunk_index if carry else None  # replicated
    donate = dict(donate_argnums=(0, 1))
    options = dict(
        loss_fn=loss_fn,
        gradient_chunks=gradient_chunks,
        skip_with=functools.partial(reset_streams, model) if skip_bad else None,
    )
    add, mesh = accumulate, None
    if shardings:
        add = functools.partial(accumulate_on, shardings)
        mesh = jax.tree.leaves(shardings)[0].mesh
    return (
        jax.jit(
            functools.partial(add, **options),
            out_shardings=(state, carry),
            **donate,
        ),
        jax.jit(
            functools.partial(apply_gradients, tx=tx, mesh=mesh, ema=ema),
            out_shardings=(state, carry, metrics),
            **donate,
        ),
    )


def _count_correct(logits: jax.Array, chunk: Chunk) -> dict[str, jax.Array]:
    labels = chunk.step_labels
    labelled = labels != IGNORE_LABEL
    correct = labelled & (jnp.argmax(logits, axis=-1) == labels)
    return {
        "correct_steps": jnp.sum(correct, dtype=jnp.float32),
        "valid_steps": jnp.sum(labelled, dtype=jnp.float32),
    }
