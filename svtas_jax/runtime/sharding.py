"""How arrays lie on the devices, of one process or of several.

The mesh has a data axis, over which the slots of a batch are split with all that
belongs to them: frames, labels, stream state. Parameters, gradients and the optimizer's
moments are repeated, or their large arrays lie in parts on the same devices and are
gathered where they are used (Zhao et al.: PyTorch FSDP, VLDB 2023; Rajbhandari et al.:
ZeRO, SC 2020). The program is that of one device: batch norm and losses see the whole
batch, and the compiler adds what devices tell each other.
"""

import functools
import math
from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from svtas_jax.errors import InputError

Tree = TypeVar("Tree")  # of arrays

_DATA, _MODEL = "data", "model"  # the second is one device wide


def make_mesh(batch_size: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh over as many devices as divide the batch evenly.

    Args:
        batch_size: slots (B).
        devices: to choose from; those of all processes by default.

    Raises:
        InputError: if several processes would not all have a part.
    """
    devices = jax.devices() if devices is None else devices
    used = devices[: math.gcd(batch_size, len(devices))]
    processes = {device.process_index for device in devices}
    if len(processes) > 1 and len(used) < len(devices):
        raise InputError(
            f"config.train.batch_size={batch_size} is no multiple of the "
            f"{len(devices)} devices of {len(processes)} processes, over which its "
            f"videos are split; try --config.train.batch_size={len(devices)}."
        )
    axis_types = (AxisType.Auto, AxisType.Auto)
    grid = np.array(used).reshape(-1, 1)
    return Mesh(grid, (_DATA, _MODEL), axis_types=axis_types)


def local_mesh(batch_size: int) -> Mesh:
    """Returns a mesh over devices of this process alone."""
    return make_mesh(batch_size, jax.local_devices())


def local_slots(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """Returns which slots of a batch lie on devices of this process."""
    parts = by_slot(mesh).addressable_devices_indices_map((batch_size,)).values()
    every = range(batch_size)
    return tuple(sorted({slot for (part,) in parts for slot in every[part]}))


def repeated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device holds."""
    return NamedSharding(mesh, PartitionSpec())


def by_slot(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """Returns the sharding of an array whose `axis` counts slots."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, _DATA))


def in_parts(shape: tuple[int, ...], mesh: Mesh, split_from: int) -> NamedSharding:
    """Returns the sharding of an array: large ones are split along the longest axis
    that the devices divide evenly, the others repeated.

    Args:
        shape: of the array.
        mesh: see `make_mesh`.
        split_from: arrays of so many numbers and more are split; 0: none.
    """
    num_parts = mesh.shape[_DATA]
    fitting = [axis for axis, size in enumerate(shape) if size % num_parts == 0]
    if not split_from or math.prod(shape) < split_from or not fitting:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(fitting, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, _DATA))


def put(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    """Puts an array, the same in every process, on the devices."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    # `device_put` would first compare it among the processes.
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])


def shard_batch(chunks: Tree, mesh: Mesh) -> Tree:
    """Splits chunks over the devices by slot.

    Args:
        chunks: leaves (K, B, ...), of several processes each its `local_slots`.
        mesh: see `make_mesh`.
    """
    sharding = by_slot(mesh, axis=1)
    if sharding.is_fully_addressable:
        return jax.device_put(chunks, sharding)
    make = functools.partial(jax.make_array_from_process_local_data, sharding)
    return jax.tree.map(make, chunks)


def local_copy(tree: Tree, mesh: Mesh) -> Tree:
    """Returns arrays as whole copies on each device of a `local_mesh`."""

    def copy(array):
        if not array.is_fully_replicated:
            array = jax.device_put(array, repeated(array.sharding.mesh))
        if not array.is_fully_addressable:
            array = array.addressable_data(0)
        return jax.device_put(array, repeated(mesh))

    return jax.tree.map(copy, tree)


def any_of(flag: bool) -> jax.Array:
    """Returns whether any process says True; the answer is under way, not there."""
    devices = np.array(jax.devices())
    sharding = NamedSharding(Mesh(devices, (_DATA,)), PartitionSpec(_DATA))
    own = np.full(len(jax.local_devices()), flag)
    flags = jax.make_array_from_process_local_data(sharding, own)
    return _any(flags)


@jax.jit
def _any(flags: jax.Array) -> jax.Array:
    return flags.any()
