"""What the systems are made of; how they stream: tests/test_contract.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.chunks import blank_chunk
from svtas_jax.config import default_config, stream_spec
from svtas_jax.models import build_model
from svtas_jax.models.image import FeatureBranch
from svtas_jax.structs import StreamSpec
from svtas_jax.training.step import init_variables

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
    config.data.update(clip_frames=8, crop=16, resize=(16, 20))
    config.model.update(image_width=0.25, image_stages=2, num_layers=1)
    config.model.update(head_norm="layer", image_norm="frozen")
    model = build_model(config, GTEA)
    chunk = blank_chunk(2, stream_spec(config), 16)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, chunk.frames.shape, np.uint8)
    chunk = chunk.replace(frames=frames, valid=np.ones_like(chunk.valid))
    state = model.initial_state(2)
    variables = init_variables(model, chunk, jax.random.key(0))
    stats = jax.tree.map(
        lambda leaf: leaf + rng.uniform(-0.2, 0.2, leaf.shape).astype(np.float32),
        variables["batch_stats"],
    )

    def loss(params, train):
        given = {"params": params, "batch_stats": stats}
        (_, output), after = model.apply(
            given, state, chunk, train=train, mutable=["batch_stats"]
        )
        return jnp.sum(output.logits**2), (output.logits, after["batch_stats"])

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, (trained, after)), gradient = compiled(variables["params"], True)
    jax.tree.map(np.testing.assert_array_equal, after, stats)
    evaluated = compiled(variables["params"], False)[0][1][0]
    np.testing.assert_array_equal(trained, evaluated)
    stem = gradient["image"]["backbone"]["conv1"]
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(stem))


def test_image_dropout_drops_whole_channels_of_a_chunk_in_training():
    features = np.random.default_rng(0).normal(size=(2, 8, 64)).astype(np.float32)
    branch = FeatureBranch(dropout=0.25)
    chunk = blank_chunk(2, StreamSpec(16, 2), 32, feature_width=64)
    chunk = dataclasses.replace(
        chunk, frames=features, valid=np.ones_like(chunk.valid, bool)
    )

    def features_of(**options):
        return branch.apply({}, (), chunk, **options)[1]

    dropped = features_of(train=True, rngs={"dropout": jax.random.key(0)})
    is_zero = np.all(np.asarray(dropped) == 0, axis=1)
    assert 0.1 < is_zero.mean() < 0.4
    assert np.any(is_zero[0] != is_zero[1])  # videos drop different ones
    kept = np.broadcast_to(~is_zero[:, None], dropped.shape)
    np.testing.assert_allclose(dropped[kept], features[kept] / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(features_of(train=False), features)
