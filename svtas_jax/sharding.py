"""How arrays lie on the devices: videos are split over them, parameters repeated."""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from svtas_jax.structs import Chunk


def make_mesh(batch_size: int) -> Mesh:
    """Returns a mesh over as many devices as divide the batch evenly."""
    num_devices = math.gcd(batch_size, jax.device_count())
    return jax.make_mesh(
        (num_devices,),
        ("data",),
        axis_types=(AxisType.Auto,),
        devices=jax.devices()[:num_devices],
    )


def replicate(tree, mesh: Mesh):
    """Puts a copy of every leaf on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(chunks: Chunk, mesh: Mesh) -> Chunk:
    """Splits chunks, leaves (K, B, ...), over the devices by video."""
    return jax.device_put(chunks, NamedSharding(mesh, PartitionSpec(None, "data")))
