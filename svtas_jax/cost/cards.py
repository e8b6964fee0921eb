"""GPUs that programs can be compiled for where there is none, and how fast they are.

XLA compiles for a described card (`jax.experimental.topologies`), without searching for
the fastest kernels, which needs the card.
"""

import dataclasses
import importlib.util
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging
from jax.experimental import topologies

from svtas_jax.cost.hlo import Kernel
from svtas_jax.errors import InputError

# What a search for the fastest kernel would decide. Triton's products fail to compile
# with the tiles that they have before it.
OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
_LAUNCH_S = 2.5e-6  # from one kernel to the next
_DESCRIPTION = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_block_optin: {shared_optin}
  shared_memory_per_core: {shared} threads_per_core_limit: 2048
  core_count: {cores} fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} clock_rate_ghz: {clock}
  device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{name}"
"""


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU, as its maker's data sheet describes it.

    Attributes:
        name: as the driver says it.
        bytes_per_s: of its memory, as far as programs get: 0.9 of the data sheet's.
        flops: of its matrix units a second by the operands' type; float32 as TF32.
        description: fields of XLA's GpuTargetConfig.
    """

    name: str
    bytes_per_s: float
    flops: dict[str, float]
    description: dict[str, Any]


_HOPPER = {
    "shared_optin": 232448,
    "shared": 233472,
    "cores": 132,
    "fpus": 128,
    "clock": 1.98,
    "major": 9,
}
_HOPPER_FLOPS = {"bf16": 800e12, "f16": 800e12, "f32": 400e12}
CARDS = {
    "h100": Card(
        "NVIDIA H100 80GB HBM3",
        3.0e12,
        _HOPPER_FLOPS,
        {
            **_HOPPER,
            "bandwidth": 3352320000000,
            "l2": 52428800,
            "memory": 84929347584,
        },
    ),
    "h200": Card(
        "NVIDIA H200",
        4.3e12,
        _HOPPER_FLOPS,
        {
            **_HOPPER,
            "bandwidth": 4800000000000,
            "l2": 62914560,
            "memory": 150754820096,
        },
    ),
    "a100": Card(
        "NVIDIA A100-SXM4-80GB",
        1.8e12,
        {"bf16": 280e12, "f16": 280e12, "f32": 140e12},
        {
            "shared_optin": 166912,
            "shared": 167936,
            "cores": 108,
            "fpus": 64,
            "clock": 1.41,
            "major": 8,
            "bandwidth": 2039000000000,
            "l2": 41943040,
            "memory": 84987740160,
        },
    ),
}


def described(card: str, num_devices: int) -> Sequence[Any]:
    """Returns devices that programs can be compiled for, but not run on.

    Raises:
        InputError: if JAX's CUDA packages are not installed.
    """
    if not any(map(importlib.util.find_spec, _PLUGINS)):
        raise InputError(
            "compiling for a GPU needs JAX's CUDA packages (4 GB), which are not "
            "installed; make a second environment, and there: pip install -e '.[cuda]'"
        )
    fields = {**CARDS[card].description, "name": CARDS[card].name}
    topology = topologies.get_topology_desc(
        platform="cuda",
        target_config=_DESCRIPTION.format(**fields),
        topology=f"1x1x{num_devices}",
    )
    return topology.devices


def at_hand() -> tuple[str, Sequence[jax.Device]] | None:
    """Returns the name in `CARDS` of this machine's GPUs, and them; None without.

    It must be called before anything else starts JAX.
    """
    if not any(pathlib.Path("/dev").glob("nvidia[0-9]*")):
        # Without a driver, JAX's plugin would refuse to load, also to compile.
        os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    if jax.default_backend() != "gpu":
        return None
    devices = jax.devices()
    kind = devices[0].device_kind
    for name in CARDS:
        if re.search(rf"\b{name}\b", kind.lower()):
            return name, devices
    logging.warning("%s is not described; modelled times are those of an H100", kind)
    return "h100", devices


def modelled_ms(kernels: Sequence[Kernel], card: Card) -> float:
    """Returns how long the kernels take if each moves its bytes at the memory's pace or
    computes at the matrix units', whichever takes longer, and a launch each.

    Collective operations are left out.
    """
    total = 0.0
    for kernel in kernels:
        if not kernel.is_collective:
            compute = kernel.flops / card.flops.get(kernel.dtype, card.flops["f32"])
            busy = max(kernel.num_bytes / card.bytes_per_s, compute)
            total += kernel.times * (busy + _LAUNCH_S)
    return 1e3 * total
