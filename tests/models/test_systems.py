"""What the systems are made of; how they stream: tests/test_contract.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
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


def test_frozen_norms_keep_their_statistics_in_training():
    config = default_config()
    config.data.update(clip_frames=16, crop=32)
    config.model.update(image_width=0.25, image_stages=3, head_norm="layer")
    config.model.image_norm = "frozen"
    model = build_model(config, GTEA)
    chunk = blank_chunk(2, StreamSpec(16, 4), 32)
    rng = np.random.default_rng(0)
    chunk = dataclasses.replace(
        chunk,
        frames=rng.integers(0, 256, chunk.frames.shape, np.uint8),
        valid=np.ones_like(chunk.valid),
    )
    state = model.initial_state(2)
    variables = model.init(jax.random.key(0), state, chunk)
    stats = jax.tree.map(
        lambda leaf: leaf + rng.uniform(-0.2, 0.2, leaf.shape).astype(np.float32),
        variables["batch_stats"],
    )

    @functools.partial(jax.jit, static_argnames="train")
    def logits(params, train):
        (_, output), after = model.apply(
            {"params": params, "batch_stats": stats},
            state,
            chunk,
            train=train,
            mutable=["batch_stats"],
        )
        return output.logits, after["batch_stats"]

    trained, after = logits(variables["params"], True)
    jax.tree.map(np.testing.assert_array_equal, after, stats)
    np.testing.assert_array_equal(trained, logits(variables["params"], False)[0])
    gradient = jax.grad(lambda params: jnp.sum(logits(params, True)[0] ** 2))
    stem = gradient(variables["params"])["image"]["backbone"]["conv1"]
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(stem))
