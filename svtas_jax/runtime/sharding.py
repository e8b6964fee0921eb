"""Distributes arrays over the devices of one process or of several.

The mesh's data axis splits a batch by slots, with their frames, labels and stream
states. Parameters, gradients and the optimizer's moments are replicated, or their large
arrays are split over the same devices and gathered for use (Zhao et al.: PyTorch FSDP,
VLDB 2023; Rajbhandari et al.: ZeRO, SC 2020). If they are split, the program is
written as for one device, and the compiler adds the communication; see
`svtas_jax.runtime.parts` for the other case.
"""

import functools
import math
from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from svtas_jax.errors import InputError
from svtas_jax.runtime import parts

Tree = TypeVar("Tree")  # of arrays

_DATA, _MODEL = parts.AXIS, "model"  # the model axis has size 1


def make_mesh(batch_size: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh over as many devices as divide the batch evenly.

    Args:
        batch_size: slots (B).
        devices: the devices to choose from; by default those of all processes.

    Raises:
        InputError: if there are several processes and not all devices can be used.
    """
    devices = jax.devices() if devices is None else devices
    used = devices[: math.gcd(batch_size, len(devices))]
    processes = {device.process_index for device in devices}
    if len(processes) > 1 and len(used) < len(devices):
        raise InputError(
            f"config.train.batch_size={batch_size} is not a multiple of the "
            f"{len(devices)} devices of {len(processes)} processes that share a batch; "
            f"try --config.train.batch_size={len(devices)}."
        )
    axis_types = (AxisType.Auto, AxisType.Auto)
    grid = np.array(used).reshape(-1, 1)
    return Mesh(grid, (_DATA, _MODEL), axis_types=axis_types)


def local_mesh(batch_size: int) -> Mesh:
    """Returns a mesh over devices of this process only."""
    return make_mesh(batch_size, jax.local_devices())


def local_slots(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """Returns the slots of a batch that are on this process's devices."""
    parts = by_slot(mesh).addressable_devices_indices_map((batch_size,)).values()
    every = range(batch_size)
    return tuple(sorted({slot for part in parts if part for slot in every[part[0]]}))


def num_parts(mesh: Mesh) -> int:
    """Returns over how many devices a batch is split."""
    return mesh.shape[_DATA]


def repeated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def by_slot(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """Returns the sharding of an array whose `axis` counts slots."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, _DATA))


def in_parts(shape: tuple[int, ...], mesh: Mesh, split_from: int) -> NamedSharding:
    """Returns the sharding of a weight array: split along its longest axis that the
    devices divide evenly if it is large, otherwise replicated.

    Args:
        shape: of the array.
        mesh: see `make_mesh`.
        split_from: arrays with at least this many elements are split; 0: none.
    """
    fitting = [n for n, size in enumerate(shape) if size % num_parts(mesh) == 0]
    if not split_from or math.prod(shape) < split_from or not fitting:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(fitting, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, _DATA))


def put(array: jax.Array | np.ndarray, sharding: Sharding) -> jax.Array:
    """Puts an array, which is the same in every process, on the devices."""
    if isinstance(array, jax.Array) and array.sharding == sharding:
        return array
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    # `device_put` would first compare the processes' arrays.
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])


def put_first(array: jax.Array, mesh: Mesh) -> jax.Array:
    """Returns an array (N, ...) of one part per device: that of the first is `array`,
    which is the same in every process, and the others are zero."""
    first = np.asarray(array)[None]
    shape = (num_parts(mesh), *array.shape)

    def part(index):
        return first if not index[0].start else np.zeros_like(first)

    return jax.make_array_from_callback(shape, by_slot(mesh), part)


def shard_batch(chunks: Tree, mesh: Mesh) -> Tree:
    """Splits chunks over the devices by slot.

    Args:
        chunks: leaves (K, B, ...); with several processes, each has its `local_slots`.
        mesh: see `make_mesh`.
    """
    sharding = by_slot(mesh, axis=1)
    if sharding.is_fully_addressable:
        return jax.device_put(chunks, sharding)
    make = functools.partial(jax.make_array_from_process_local_data, sharding)
    return jax.tree.map(make, chunks)


def local_copy(tree: Tree, mesh: Mesh) -> Tree:
    """Copies arrays whole to each device of a `local_mesh`."""

    def copy(array):
        if not array.is_fully_replicated:
            array = jax.device_put(array, repeated(array.sharding.mesh))
        if not array.is_fully_addressable:
            array = array.addressable_data(0)
        return jax.device_put(array, repeated(mesh))

    return jax.tree.map(copy, tree)


def any_of(flag: bool) -> jax.Array:
    """Returns whether the flag of any process is True, as a scalar on the devices.

    The call does not wait for the result.
    """
    devices = np.array(jax.devices())
    sharding = NamedSharding(Mesh(devices, (_DATA,)), PartitionSpec(_DATA))
    own = np.full(len(jax.local_devices()), flag)
    flags = jax.make_array_from_process_local_data(sharding, own)
    return _any(flags)


@jax.jit
def _any(flags: jax.Array) -> jax.Array:
    return flags.any()
