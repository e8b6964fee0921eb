"""Times the steps of a stream by engine: the model itself, and its exports.

    python scripts/measure_engines.py --config=gtea_sete_live [--seconds=10]
        [--config.data.crop=112]

All take turns in one process: one stream, random weights, from pictures in memory to
logits in memory. Prints milliseconds a frame, the median and the fastest tenth, and how
many times as fast as the model itself an engine is by each. Needs the extra onnx.
"""

import numpy as np
from absl import flags

from svtas_jax.cost import engines
from svtas_jax.runtime import cli, provenance


def main() -> None:
    """Prints a table."""
    config = flags.FLAGS.config
    run, size = engines.random_run(config), config.data.crop
    print(f"{provenance.hardware()}, {size} x {size} pixels")
    print("frames  engine              median      p10  times as fast")
    for steps, times in engines.time_engines(run, seconds=flags.FLAGS.seconds):
        native = ranks(times[engines.NATIVE])
        for name, own in times.items():
            found = ranks(own)
            faster = " / ".join(f"{ratio:.2f}" for ratio in native / found)
            median, fastest = found / steps
            print(f"{steps:6}  {name:17} {median:8.2f} {fastest:8.2f}  {faster:>13}")


def ranks(times: list[float]) -> np.ndarray:
    """Returns the median and the tenth percentile."""
    return np.percentile(times, (50, 10))


if __name__ == "__main__":
    cli.define("config")
    flags.DEFINE_float("seconds", 10.0, "Of each measurement.", lower_bound=0.0)
    cli.run(main, required=("config",))
