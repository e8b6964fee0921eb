"""What the systems are made of; how they stream: tests/test_contract.py."""

import jax
import pytest

from data_pipeline.chunks import blank_chunk
from svtas_jax.config import default_config
from svtas_jax.models import build_model
from svtas_jax.structs import StreamSpec

GTEA = tuple("take open pour close shake scoop stir put fold spread background".split())
SALADS = tuple(f"action {k}" for k in range(19))


@pytest.mark.parametrize(
    "system, names, clip_steps, expected",
    [
        ("sete", GTEA, 32, 2_373_131),
        ("sete", SALADS, 32, 2_373_651),
        ("mete", GTEA, 32, 37_980_299),
        ("transeger", GTEA, 32, 38_444_939),
        ("transeger", SALADS, 32, 38_478_739),
        ("transeger", GTEA, 8, 37_830_539),
        ("transeger", GTEA, 16, 38_035_339),
        ("transeger", GTEA, 64, 39_264_139),
    ],
)
def test_parameters_are_as_many_as_in_the_paper(system, names, clip_steps, expected):
    config = default_config()
    config.model.system = system
    if system == "mete":
        config.model.update(prompt="fixed", prompt_len=40)
    if system == "transeger":
        config.model.prompt_len = 50
    config.data.clip_frames = clip_steps * config.data.frame_stride
    model = build_model(config, names)
    chunk = blank_chunk(1, StreamSpec(config.data.clip_frames, 4), 32)
    state = model.initial_state(1)
    variables = jax.eval_shape(model.init, jax.random.key(0), state, chunk)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
