"""How arrays lie on the devices.

The mesh has a data axis, over which the slots of a batch are split with all that
belongs to them: frames, labels, stream state. Parameters, gradients and the optimizer's
moments are repeated, or their large arrays lie in parts on the same devices and are
gathered where they are used (Zhao et al.: PyTorch FSDP, VLDB 2023; Rajbhandari et al.:
ZeRO, SC 2020). The program is that of one device: batch norm and losses see the whole
batch, and the compiler adds what devices tell each other.
"""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from svtas_jax.structs import Chunk, TrainState
from svtas_jax.train_step import BatchCarry

_DATA, _MODEL = "data", "model"  # the second is one device wide


def make_mesh(batch_size: int, num_devices: int | None = None) -> Mesh:
    """Returns a mesh over as many devices as divide the batch evenly.

    Args:
        batch_size: slots (B).
        num_devices: of this machine to choose from; all by default.
    """
    num_devices = math.gcd(batch_size, num_devices or jax.device_count())
    return jax.make_mesh(
        (num_devices, 1),
        (_DATA, _MODEL),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=jax.devices()[:num_devices],
    )


def place(
    state: TrainState, carry: BatchCarry, mesh: Mesh, split_from: int = 0
) -> tuple[TrainState, BatchCarry, tuple[TrainState, BatchCarry]]:
    """Puts state and carry on the devices: streams with their slots.

    Args:
        state: of the training.
        carry: of a batch of B slots.
        mesh: see `make_mesh`.
        split_from: arrays of so many numbers and more lie in parts on the devices; 0
            repeats all.

    Returns:
        Both, and the shardings of their leaves.
    """
    repeated = NamedSharding(mesh, PartitionSpec())
    by_slot = NamedSharding(mesh, PartitionSpec(_DATA))

    def weights(leaf):
        return _sharding(leaf.shape, mesh, split_from)

    shardings = (
        jax.tree.map(weights, state),
        carry.replace(
            grads=jax.tree.map(weights, carry.grads),
            stream=jax.tree.map(lambda _: by_slot, carry.stream),
            metrics=jax.tree.map(lambda _: repeated, carry.metrics),
            chunk_index=repeated,
            bad_chunk=repeated,
        ),
    )
    return (*jax.device_put((state, carry), shardings), shardings)


def shard_batch(chunks: Chunk, mesh: Mesh) -> Chunk:
    """Splits chunks, leaves (K, B, ...), over the devices by slot."""
    return jax.device_put(chunks, NamedSharding(mesh, PartitionSpec(None, _DATA)))


def _sharding(shape: tuple[int, ...], mesh: Mesh, split_from: int) -> NamedSharding:
    """Splits the longest axis that the devices divide evenly, of large arrays."""
    num_parts = mesh.shape[_DATA]
    fitting = [axis for axis, size in enumerate(shape) if size % num_parts == 0]
    if not split_from or math.prod(shape) < split_from or not fitting:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(fitting, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, _DATA))
