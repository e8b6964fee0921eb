"""Trains the contract's systems on one device and on two; prints how far apart they
are, and what it changes to save a position within a step and to read it again, on as
many devices and on the other number of them.

    python tests/two_devices.py [--gradient_chunks=1] [SYSTEM ...]

With dropout, prompts drawn at random, those of Transeger also of its own labels and of
wrong ones, and a chunk that is not finite and is left out.
A program of its own: the number of simulated devices is set before JAX starts.
"""

import argparse
import json
import tempfile

import contract
import jax
import numpy as np
import optax
from sharded_training import distance, whole

from svtas_jax.checkpoints import resume, store
from svtas_jax.runtime.sharding import make_mesh, shard_batch
from svtas_jax.training.placement import place, share_out
from svtas_jax.training.prompting import Prompting
from svtas_jax.training.step import make_train_functions

DROPOUT = dict(dropout=0.3, joint_dropout=0.3, channel_masking=0.3)
META = store.Meta({}, contract.CLASS_NAMES, fps=15, step=0, epoch=0, versions={})
LOSS = dict(smooth_weight=0.15, clip_weight=1.0)
PROMPTING = Prompting(own_labels=0.5, label_noise=0.5)


class Trainer:
    """Trains a system on some devices."""

    def __init__(self, kit: contract.Kit, num_devices: int, gradient_chunks: int):
        self.kit, self.tx, self.group = kit, optax.sgd(1), gradient_chunks
        self.model = contract.small_model(kit.system, dtype="float64", **DROPOUT)
        self.mesh = make_mesh(2, jax.devices()[:num_devices])

    def begin(self):
        """Returns train state and carry, not yet on the devices."""
        # Training takes over the memory of what it is given.
        state, carry = jax.tree.map(np.array, self.kit.start_training())
        state = contract.wide(state.replace(opt_state=self.tx.init(state.params)))
        return state, share_out(state, carry, self.mesh)

    def train(self):
        """Returns train state and carry after three groups of chunks, the second of
        which is not finite in one slot, and the function that takes the step."""
        state, carry, shardings = place(*self.begin(), self.mesh)
        options = dict(shardings=shardings, skip_bad=True, **LOSS)
        if self.kit.system.labels or self.kit.system.scores:
            options |= dict(prompting=PROMPTING)
        options |= dict(gradient_chunks=self.group)
        accumulate, apply = make_train_functions(self.model, self.tx, **options)
        chunks = self.kit.video(3 * self.group)
        chunks.frames[self.group, 1] = np.nan
        chunks.valid[-1, 0, 4:], chunks.labels[-1, 0, 4:] = False, -100
        chunks = shard_batch(chunks, self.mesh)
        state, carry = accumulate(state, carry, chunks, jax.random.key(1))
        assert carry.chunk_index.sharding.num_devices == self.mesh.size
        assert int(carry.num_bad) == self.group
        return state, carry, apply

    def read(self, folder: str):
        """Returns the gradients in a folder as training goes on with them, shared."""
        begin = resume.Position(*self.begin(), {"calls": 3})
        found = resume.restore(folder, resume.INTERRUPTED, 0, begin)
        return place(found.state, found.carry, self.mesh)[1].grads


def compare(system: contract.System, gradient_chunks: int) -> dict[str, float]:
    """Returns the largest differences, as shares of the largest value."""
    one, two = (
        Trainer(contract.Kit(system), number, gradient_chunks) for number in (1, 2)
    )
    found, saved = {}, {}
    for trainer, other in ((one, two), (two, one)):
        state, carry, apply = trainer.train()
        shares = jax.tree.map(np.array, carry.grads)
        sums = jax.tree.map(whole, shares, state.params)
        with tempfile.TemporaryDirectory() as folder:
            position = resume.Position(state, carry, {"calls": 3})
            resume.save_interrupted(folder, position, META)
            same, elsewhere = trainer.read(folder), other.read(folder)
        elsewhere = jax.tree.map(whole, elsewhere, state.params)
        saved[trainer] = max(distance(same, shares), distance(elsewhere, sums))
        kept = jax.tree.map(np.array, (carry.stream, carry.metrics, state.batch_stats))
        found[trainer] = (sums, *kept, np.array(apply(state, carry)[2]["grad_norm"]))
    both = zip(found[two], found[one], strict=True)
    apart = max(distance(a, b) for a, b in both if jax.tree.leaves(b))
    return {"apart": apart, "reread": max(saved.values())}


def main() -> None:
    """Prints what it found for each system as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gradient_chunks", type=int, default=1)
    parser.add_argument("systems", nargs="*")
    given = parser.parse_args()
    wanted = given.systems or [system.name for system in contract.SYSTEMS]
    systems = [system for system in contract.SYSTEMS if system.name in wanted]
    print(json.dumps({s.name: compare(s, given.gradient_chunks) for s in systems}))


if __name__ == "__main__":
    main()
