"""Times the formulations of the depthwise 3x3 convolution on this device.

    python scripts/measure_depthwise.py [--frames=32]

`svtas_jax.models.convolution.depthwise_conv3x3` chooses by backend: shifted
multiply-adds on a CPU, XLA's grouped convolution elsewhere. float32, the layers of
MobileNetV2 at 224x224 that cost most; medians, milliseconds.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from svtas_jax.cost.measure import measure
from svtas_jax.models import convolution
from svtas_jax.runtime import provenance

SHAPES = ((112, 32, 1), (112, 96, 2), (56, 144, 1), (14, 576, 1))  # size, channels
FRAMES = flags.DEFINE_integer("frames", 32, "Pictures at once.", lower_bound=1)
FORWARD = {
    "shifted": convolution._shifted_conv,
    "grouped": convolution._grouped_conv,
}
BACKWARD = {
    "shifted": convolution._shifted_gradients,
    "grouped": convolution._grouped_gradients,
}


def main(argv) -> None:
    """Prints a table."""
    del argv
    print(provenance.hardware())
    print(f"{'layer':22} {'forward':>22} {'gradients':>22}")
    for size, channels, stride in SHAPES:
        told = [times(size, channels, stride, kinds) for kinds in (FORWARD, BACKWARD)]
        columns = [" / ".join(f"{n} {t:.1f}" for n, t in row.items()) for row in told]
        layer = f"{size}x{size}x{channels}, stride {stride}"
        print(f"{layer:22} {columns[0]:>28} {columns[1]:>28}")


def times(size: int, channels: int, stride: int, kinds) -> dict[str, float]:
    """Returns milliseconds by formulation."""
    rng = np.random.default_rng(0)
    small = size // stride
    x = jnp.asarray(rng.standard_normal((FRAMES.value, size, size, channels), "f4"))
    kernel = jnp.asarray(rng.standard_normal((3, 3, 1, channels), "f4"))
    grad = jnp.asarray(
        rng.standard_normal((FRAMES.value, small, small, channels), "f4")
    )
    arguments = (x, kernel) if kinds is FORWARD else (x, kernel, grad)
    found = {}
    for name, function in kinds.items():
        run = jax.jit(functools.partial(function, stride=stride))
        found[name] = float(np.median(measure(lambda f=run: f(*arguments))))
    return found


if __name__ == "__main__":
    app.run(main)
