"""Trains two steps on 1, 2, 4 and 8 devices; prints how far each is from the first,
and how far what they wrote in a checkpoint is once two devices have read it.

    python tests/sharded_training.py SYSTEM [quick]

A program of its own: the number of simulated devices is set before JAX starts. It
computes in float64: in float32 the order of a sum turns some ReLU6 the other way, and
batch norm over few pixels makes much of it.
"""

import json
import sys
import tempfile

import conftest
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from svtas_jax.checkpoints import small_arrays, store
from svtas_jax.runtime.process import simulate_devices
from svtas_jax.runtime.sharding import make_mesh, repeated, shard_batch
from svtas_jax.structs import IGNORE_LABEL
from svtas_jax.training import averaging
from svtas_jax.training.cross_entropy import CrossEntropy
from svtas_jax.training.placement import place
from svtas_jax.training.step import init_carry, init_train_state, make_train_functions

SLOTS = 8
ENTROPY = CrossEntropy(0.1, 2.0, shifts=(-1.0, -2.0, -1.0, -3.0), border_frames=2)
simulate_devices(8)
jax.config.update("jax_enable_x64", True)
small_arrays.SMALL = 500  # of these small models some arrays shall be large


def wide(tree):
    """Makes float32 leaves float64."""
    floats = jax.numpy.float32
    return jax.tree.map(
        lambda leaf: leaf.astype("float64") if leaf.dtype == floats else leaf, tree
    )


def batches(packed: bool):
    """Two steps of two chunks; every other video ends after the first chunk, and in
    packed streams the next one follows."""
    for seed in range(2):
        chunks = conftest.random_chunks(2, SLOTS, seed=seed)
        valid, labels, starts = map(
            np.array, (chunks.valid, chunks.labels, chunks.starts)
        )
        if packed:
            starts[:] = [[seed == 0] * SLOTS, [False, True] * (SLOTS // 2)]
        else:
            valid[1, ::2], labels[1, ::2] = False, IGNORE_LABEL
        valid[1, 3, 5:], labels[1, 3, 5:] = False, IGNORE_LABEL
        yield chunks.replace(valid=valid, labels=labels, starts=starts)


def train(system: str, num_devices: int, *, packed: bool, split_from: int):
    """Returns the gradients of the second step, and state and metrics after both."""
    model, tx = conftest.tiny_model(system, dtype="float64"), optax.sgd(0.1)
    mesh = make_mesh(SLOTS, jax.devices()[:num_devices])
    one = jax.tree.map(lambda leaf: leaf[0, :1], conftest.random_chunks(1, 1))
    state = wide(init_train_state(model, tx, one, jax.random.key(0)))
    state = averaging.begin(state, 0.9)
    carry = wide(init_carry(state, model, SLOTS))
    state, carry, shardings = place(state, carry, mesh, split_from)
    accumulate, apply = make_train_functions(
        model,
        tx,
        shardings=shardings,
        ema=0.9,
        smooth_weight=0.15,
        clip_weight=1.0,
        entropy=ENTROPY,
    )
    for chunks in batches(packed):
        chunks = shard_batch(chunks, mesh)
        state, carry = accumulate(state, wide(carry), chunks, jax.random.key(1))
        grads = jax.tree.map(whole, carry.grads, state.params)
        kept = jax.tree.map(np.array, (grads, carry.stream))
        state, carry, metrics = apply(state, carry)
    parts = max(len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.params))
    split = sum(
        not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params)
    )
    found = (*kept, metrics["loss"], state.batch_stats, state.average)
    told = {"devices": parts, "split": split, "reread": reread(state.average)}
    assert layouts(state.average["params"]) == layouts(state.params)
    return jax.tree.map(np.array, found), told


def layouts(tree):
    """Returns how every array lies on the devices."""
    return [leaf.sharding for leaf in jax.tree.leaves(tree)]


def whole(grad, param):
    """Returns a gradient, summed over the devices that each have a share."""
    return grad.sum(axis=0) if grad.ndim > param.ndim else grad


def reread(tree) -> float:
    """Writes a checkpoint, reads it on two devices; returns the largest difference."""
    two = jax.tree.map(jax.numpy.zeros_like, tree)
    two = jax.device_put(two, repeated(make_mesh(SLOTS, jax.devices()[:2])))
    with tempfile.TemporaryDirectory() as folder:
        with store.open_manager(folder) as manager:
            args = ocp.args.Composite(model=store.packed(tree))
            manager.save(1, args=args)
        with store.open_manager(folder, read_only=True) as manager:
            found = store.read(manager, 1, model=two)["model"]
    assert all(leaf.sharding.num_devices == 2 for leaf in jax.tree.leaves(found))
    return distance(*jax.tree.map(np.array, (found, tree)))


def distance(ours, expected) -> float:
    """Returns the largest difference, as a share of a tree's largest value."""
    apart = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (ours, expected)), strict=True)
    ]
    return float(max(apart) / max(np.abs(b).max() for b in jax.tree.leaves(expected)))


def main() -> None:
    """Prints a list of rows as JSON."""
    rows, cases = [], ((2, 0), (4, 0), (8, 0), (8, 500))
    quick = sys.argv[2:] == ["quick"]
    for packed in (True,) if quick else (False, True):
        expected, _ = train(sys.argv[1], 1, packed=packed, split_from=0)
        for num_devices, split_from in cases[-1:] if quick else cases:
            found, told = train(
                sys.argv[1], num_devices, packed=packed, split_from=split_from
            )
            far = [distance(a, b) for a, b in zip(found, expected, strict=True)]
            names = ("gradients", "stream", "loss", "statistics", "average")
            rows.append(
                {"packed": packed, "split_from": split_from, **told}
                | dict(zip(names, far, strict=True))
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
