"""Times SETE's inference with and without each option that XLA offers on this CPU.

    XLA_FLAGS=--xla_cpu_max_isa=AVX2 python scripts/measure_cpu_options.py

`svtas_jax.streaming` chooses by the CPU's features. One chunk of 32 frames, batch 1,
all options in turns; medians in milliseconds, and the median over the rounds of how
many times as fast as without options.
"""

import functools
import os
import time

import jax
import numpy as np
from absl import app

from data_pipeline.known import class_names_of
from svtas_jax.config import default_config
from svtas_jax.cost import measure
from svtas_jax.models import build_model
from svtas_jax.runtime import provenance
from svtas_jax.streaming import segment_chunk

EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
WIDE = {"xla_cpu_prefer_vector_width": 512}
OPTIONS = {"none": {}, "Eigen": EIGEN, "512 bit": WIDE, "both": EIGEN | WIDE}
SIZES = (112, 224)
ROUNDS = 12


def main(argv) -> None:
    """Prints a line for each size."""
    del argv
    print(provenance.hardware(), os.environ.get("XLA_FLAGS", ""))
    for size in SIZES:
        times = in_turns(programs(size))
        columns = [
            f"{name} {np.median(own):.0f} ({np.median(times['none'] / own):.2f})"
            for name, own in times.items()
        ]
        print(f"{size}x{size}: {', '.join(columns)}", flush=True)


def programs(size: int):
    """Returns a call by the name of its options, compiled and run once."""
    config = default_config()
    config.data.update(dataset="gtea", crop=size)
    model = build_model(config, class_names_of(config.data))
    given = model.initial_state(1), measure.noise(config, 1)
    given = (measure.random_variables(model, *given), *given)
    segment = functools.partial(segment_chunk, model=model)
    found = {}
    for name, options in OPTIONS.items():
        run = jax.jit(segment, compiler_options=options).lower(*given).compile()
        jax.block_until_ready(run(*given))
        found[name] = functools.partial(run, *given)
    return found


def in_turns(calls) -> dict[str, np.ndarray]:
    """Returns the times of every call in ms, one a round."""
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: np.array(own) for name, own in times.items()}


if __name__ == "__main__":
    app.run(main)
