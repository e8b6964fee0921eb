"""One optimizer step from a batch of whole videos, a few chunks at a time.

Gradients add up over the chunks of a video batch in a carry that crosses calls, so
memory is that of a few chunks however long the videos are, and how chunks are grouped
into calls changes nothing. The stream enters every chunk as data: gradients stop at the
chunk's border.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from svtas_jax.models.layers import BLOCK
from svtas_jax.runtime import sharding
from svtas_jax.streaming import apply_chunk, keep_unless
from svtas_jax.structs import (
    IGNORE_LABEL,
    BatchCarry,
    Chunk,
    Model,
    Params,
    StreamState,
    TrainState,
)
from svtas_jax.training.losses import chunk_loss

# What the backward pass keeps of a chunk's forward pass; the rest it computes again.
REMAT = {
    "none": None,  # keeps all
    "products": jax.checkpoint_policies.dots_saveable,
    "blocks": jax.checkpoint_policies.save_only_these_names(BLOCK),
}
METRICS = ("loss", "segmentation_loss", "clip_loss", "correct_steps", "valid_steps")


def init_train_state(
    model: Model, tx: optax.GradientTransformation, chunk: Chunk, key: jax.Array
) -> TrainState:
    """Returns the state before the first step; `chunk` tells shapes only."""
    return begin_with(init_variables(model, chunk, key), tx)


def begin_with(variables: Params, tx: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step of a training of these variables."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(jnp.int32(0), params, batch_stats, tx.init(params))


def init_variables(model: Model, chunk: Chunk, key: jax.Array) -> Params:
    """Returns freshly initialised variables; `chunk` tells shapes only."""
    # Hundreds of small random kernels: optimising them takes longer than running them.
    quick = {"xla_backend_optimization_level": 0}
    init = jax.jit(model.init, compiler_options=quick)
    return init(key, model.initial_state(chunk.starts.shape[0]), chunk)


def init_carry(state: TrainState, model: Model, batch_size: int) -> BatchCarry:
    """Returns the carry with which training begins."""
    return _emptied(state.params, model.initial_state(batch_size))


def _emptied(params: Params, stream: StreamState) -> BatchCarry:
    return BatchCarry(
        grads=jax.tree.map(jnp.zeros_like, params),
        stream=stream,
        metrics={name: jnp.float32(0) for name in METRICS},
        chunk_index=jnp.int32(0),
        bad_chunk=jnp.int32(-1),
        num_bad=jnp.int32(0),
    )


def lay_out(
    state: TrainState, carry: BatchCarry, mesh: Mesh, split_from: int = 0
) -> tuple[TrainState, BatchCarry]:
    """Returns the sharding of every array of state and carry: streams with their slots.

    Args:
        state: of the training, arrays or shapes.
        carry: of a batch of B slots.
        mesh: see `sharding.make_mesh`.
        split_from: arrays of so many numbers and more lie in parts on the devices; 0
            repeats all.
    """

    def weights(leaf):
        return sharding.in_parts(leaf.shape, mesh, split_from)

    one, slots = sharding.repeated(mesh), sharding.by_slot(mesh)
    return (
        jax.tree.map(weights, state),
        carry.replace(
            grads=jax.tree.map(weights, carry.grads),
            stream=jax.tree.map(lambda _: slots, carry.stream),
            metrics=jax.tree.map(lambda _: one, carry.metrics),
            chunk_index=one,
            bad_chunk=one,
            num_bad=one,
        ),
    )


def place(
    state: TrainState, carry: BatchCarry, mesh: Mesh, split_from: int = 0
) -> tuple[TrainState, BatchCarry, tuple[TrainState, BatchCarry]]:
    """Puts state and carry on the devices as `lay_out` says; returns both, and that."""
    shardings = lay_out(state, carry, mesh, split_from)
    return (*jax.tree.map(sharding.put, (state, carry), shardings), shardings)


def make_loss(
    model: Model, *, smooth_weight: float, clip_weight: float, remat: str = "none"
):
    """Returns the loss of one chunk, as a function of parameters, batch statistics,
    stream, chunk and random key; also the stream, the statistics and metrics after it.

    Args:
        model: see `svtas_jax.models`.
        smooth_weight, clip_weight: see `losses.chunk_loss`.
        remat: see `REMAT`.
    """

    def loss_fn(params, batch_stats, stream, chunk, key):
        variables = {"params": params, "batch_stats": batch_stats}
        rngs = {"dropout": key, "templates": jax.random.fold_in(key, 1)}
        stream, output, batch_stats = apply_chunk(
            model, variables, stream, chunk, rngs=rngs
        )
        loss, parts = chunk_loss(
            output, chunk, smooth_weight=smooth_weight, clip_weight=clip_weight
        )
        metrics = {"loss": loss, **parts, **_count_correct(output.logits[-1], chunk)}
        return loss, (stream, batch_stats, metrics)

    if REMAT[remat] is None:
        return loss_fn
    return jax.checkpoint(loss_fn, policy=REMAT[remat])


def accumulate(
    state: TrainState,
    carry: BatchCarry,
    chunks: Chunk,
    key: jax.Array,
    *,
    loss_fn,
    skip_bad: bool = False,
) -> tuple[TrainState, BatchCarry]:
    """Adds the gradients of consecutive chunks to the carry.

    Only `batch_stats` of the state changes. A chunk without a valid frame has no loss
    and leaves statistics and stream alone.

    Args:
        state: of the training.
        carry: what the step has gathered so far.
        chunks: leaves (K, B, ...).
        key: of the run.
        loss_fn: what `make_loss` returns.
        skip_bad: leaves chunks whose loss or gradient is not finite out, as if they had
            no valid frame.
    """
    step_key = jax.random.fold_in(key, state.step)
    gradients = jax.value_and_grad(loss_fn, has_aux=True)

    def add_chunk(inner, chunk):
        batch_stats, carry = inner
        chunk_key = jax.random.fold_in(step_key, carry.chunk_index)
        (_, (stream, new_stats, metrics)), grads = gradients(
            state.params, batch_stats, carry.stream, chunk, chunk_key
        )
        counts = jnp.any(chunk.valid)
        is_bad = ~jnp.isfinite(metrics["loss"])
        sums = {k: v + metrics.get(k, 0) for k, v in carry.metrics.items()}
        grads = jax.tree.map(jnp.add, carry.grads, grads)
        if skip_bad:
            is_bad |= ~jnp.isfinite(optax.tree.norm(grads))
            counts &= ~is_bad
            grads, sums = keep_unless(
                counts, (grads, sums), (carry.grads, carry.metrics)
            )
        first_bad = is_bad & (carry.bad_chunk < 0)
        carry = carry.replace(
            grads=grads,
            stream=keep_unless(counts, stream, carry.stream),
            metrics=sums,
            chunk_index=carry.chunk_index + 1,
            bad_chunk=jnp.where(first_bad, carry.chunk_index, carry.bad_chunk),
            num_bad=carry.num_bad + is_bad,
        )
        return (keep_unless(counts, new_stats, batch_stats), carry), None

    (batch_stats, carry), _ = jax.lax.scan(
        add_chunk, (state.batch_stats, carry), chunks
    )
    return state.replace(batch_stats=batch_stats), carry


def apply_gradients(
    state: TrainState,
    carry: BatchCarry,
    *,
    tx: optax.GradientTransformation,
) -> tuple[TrainState, BatchCarry, dict[str, jax.Array]]:
    """Steps the optimizer with the carry's gradients.

    Streams go on: only packed videos cross a step, any other begins with `starts`.

    Returns:
        The next state, the carry that its next step begins with, and the metrics.
    """
    updates, opt_state = tx.update(carry.grads, state.opt_state, state.params)
    metrics = {**carry.metrics, "grad_norm": optax.tree.norm(carry.grads)}
    metrics |= {"bad_chunk": carry.bad_chunk, "num_bad": carry.num_bad}
    state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
    )
    return state, _emptied(state.params, carry.stream), metrics


def make_train_functions(
    model: Model,
    tx: optax.GradientTransformation,
    *,
    shardings: tuple[TrainState, BatchCarry] | None = None,
    skip_bad: bool = False,
    **loss_options,
):
    """Returns `accumulate` and `apply_gradients` for this model, compiled.

    Args:
        model: see `svtas_jax.models`.
        tx: the optimizer.
        shardings: how state and carry lie on the devices, after every call as before.
        skip_bad: see `accumulate`.
        **loss_options: see `make_loss`.
    """
    loss_fn = make_loss(model, **loss_options)
    state, carry = shardings or (None, None)
    metrics = carry.chunk_index if carry else None  # lies everywhere
    donate = dict(donate_argnums=(0, 1))
    return (
        jax.jit(
            functools.partial(accumulate, loss_fn=loss_fn, skip_bad=skip_bad),
            out_shardings=(state, carry),
            **donate,
        ),
        jax.jit(
            functools.partial(apply_gradients, tx=tx),
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
