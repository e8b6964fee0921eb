"""Exponential moving averages of a model's variables, which evaluation then uses.

Averages over the last optimizer steps (Polyak and Juditsky, SIAM Journal on Control and
Optimization 1992) vary less from step to step, and from seed to seed, than the weights.
Batch statistics are averaged with the weights that they belong to.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from svtas_jax.structs import TrainState


def begin(state: TrainState, decay: float) -> TrainState:
    """Returns a state whose averages are its variables, if `decay` is not 0."""
    if not decay:
        return state
    # Copies: a training step takes over the memory of every array of its state.
    average = jax.tree.map(jnp.array, _latest(state))
    return dataclasses.replace(state, average=average)


def update(state: TrainState, decay: float) -> TrainState:
    """Returns the state after an optimizer step with that step's averages.

    The first averages are shorter, so that the initial weights are soon forgotten:
    after t earlier steps the decay is at most (1 + t) / (10 + t).

    Args:
        state: after the step.
        decay: share of the last average in the next; 0 keeps none.
    """
    if not decay:
        return state
    earlier = state.step - 1
    kept = jnp.minimum(decay, (1 + earlier) / (10 + earlier))
    average = optax.incremental_update(_latest(state), state.average, 1 - kept)
    return dataclasses.replace(state, average=average)


def _latest(state: TrainState):
    return {"params": state.params, "batch_stats": state.batch_stats}
