"""What every system promises, whatever its branches compute."""

import functools
import re
import types

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.chunks import blank_chunk
from svtas_jax.config import BACKBONES, HEADS, JOINTS, PROMPTS, default_config
from svtas_jax.models import build_model
from svtas_jax.streaming import apply_chunk
from svtas_jax.structs import IGNORE_LABEL, Chunk, StreamSpec
from svtas_jax.training.losses import chunk_loss

GTEA = tuple("take open pour close shake scoop stir put fold spread background".split())
SALADS = tuple(f"action {k}" for k in range(19))
# A bias before a batch norm, and ASFormer's first layer, whose steps see themselves.
WITHOUT_GRADIENT = "layers_.*/conv_1x1/bias|layers_0/att_layer/(query|key)_conv"
SPEC = StreamSpec(clip_frames=12, frame_stride=2)
KINDS = (
    "mete",  # its stream is SETE's
    "transeger",
    "transeger transformer",
    "transeger fixed",
    "transeger none",
    "sete ms_tcn",
    "sete asformer",
    "sete gtrm",
    "sete tcn_3d",
    "sete i3d",
    "sete r2plus1d",
    "sete vit",
    "sete features",
)
CHOICES = dict(joint=JOINTS, head=HEADS, backbone=BACKBONES, prompt=PROMPTS)
TOLERANCE = 1e-5  # of float32 sums in another order


def config_of(kind, **fields):
    config = default_config()
    config.model.system, *part = kind.split()
    for name, choices in CHOICES.items():
        if part and part[0] in choices:
            config.model[name] = part[0]
    if config.model.system == "mete":
        config.model.prompt, config.model.prompt_len = "fixed", 40
    if config.model.system == "transeger":
        config.model.prompt_len = 50
    for name, value in fields.items():
        config.model[name] = value
    return config


@pytest.mark.parametrize(
    "kind, names, clip_steps, expected",
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
def test_parameters_are_as_many_as_in_the_paper(kind, names, clip_steps, expected):
    config = config_of(kind)
    config.data.clip_frames = clip_steps * config.data.frame_stride
    model = build_model(config, names)
    chunk = blank_chunk(1, StreamSpec(config.data.clip_frames, 4), 32)
    state = model.initial_state(1)
    variables = jax.eval_shape(model.init, jax.random.key(0), state, chunk)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected


@pytest.fixture(scope="module", params=KINDS)
def small(request):
    """A small system with random weights, its evaluation and its training, compiled."""
    kind = request.param
    config = config_of(kind, image_width=0.125, features=8, num_layers=2)
    config.model.update(dict(joint_features=12, joint_layers=1, joint_heads=2))
    config.model.update(dict(text_width=8, text_layers=1, text_heads=2, num_context=2))
    config.model.train_logit_scale = True
    config.model.image_stages = 2  # the others repeat them
    config.model.update(dict(joint_dropout=0.0, dropout=0.0, channel_masking=0.0))
    config.model.update(dict(num_stages=2, image_layers=1))
    config.data.clip_frames, config.data.frame_stride = 12, 2
    model = build_model(config, GTEA)
    chunks = functools.partial(random_chunk, features=kind == "sete features")
    stream, chunk = model.initial_state(2), chunks(0)
    variables = random_variables(model, stream, chunk)

    def loss(params, batch_stats, stream, chunk):
        rngs = {"templates": jax.random.key(1), "dropout": jax.random.key(2)}
        own = {"params": params, "batch_stats": batch_stats}
        stream, output, batch_stats = apply_chunk(model, own, stream, chunk, rngs=rngs)
        loss, _ = chunk_loss(output, chunk, smooth_weight=0.15, clip_weight=1.0)
        return loss, (stream, output.logits, batch_stats)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return types.SimpleNamespace(
        kind=kind,
        chunk=chunks,
        model=model,
        variables=variables,
        stream=stream,
        evaluate=jax.jit(functools.partial(apply_chunk, model)),
        train=functools.partial(step, variables["params"], variables["batch_stats"]),
    )


def random_variables(model, stream, chunk):
    """Other than `init`'s, so that nothing is zero or one by chance of its start."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), stream, chunk)

    def draw(path, leaf):
        values = 0.3 * rng.normal(size=leaf.shape)
        if path[-1].key in ("scale", "var"):
            values = 1 + np.abs(values)
        if any(part.key in ("project", "conv_out") for part in path):
            values *= 10  # more than one class wins: GTRM needs segments
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_chunk(seed, num_valid=(12, 12), *, features=False):
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, len(GTEA), (2, 6)), 2, axis=1)
    valid = np.arange(12) < np.array(num_valid)[:, None]
    shape = (24,) if features else (32, 32, 3)
    return Chunk(
        frames=jnp.asarray(rng.normal(size=(2, 6, *shape)), jnp.float32),
        labels=jnp.asarray(np.where(valid, labels, IGNORE_LABEL), jnp.int32),
        valid=jnp.asarray(valid),
        starts=jnp.zeros(2, bool),
        num_chunks=jnp.array([2, 3], jnp.int32),
    )


def with_frames_of(chunk, other, where):
    """Replaces the frames of the steps `where` (B, T) by those of another chunk."""
    axes = range(2, chunk.frames.ndim)
    where = jnp.expand_dims(jnp.asarray(where), tuple(axes))
    return chunk.replace(frames=jnp.where(where, other, chunk.frames))


def outputs_of(small, chunk):
    """Streams one chunk, then the given one; returns state and logits after it."""
    stream, _, _ = small.evaluate(small.variables, small.stream, small.chunk(7))
    stream, output, _ = small.evaluate(small.variables, stream, chunk)
    return stream, output.logits


def training_of(small, chunk):
    _, (stream, _, _) = small.train(small.stream, small.chunk(7))[0]
    (loss, (stream, logits, stats)), gradients = small.train(stream, chunk)
    return loss, logits, stats, gradients


def assert_equal(ours, theirs):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)

    jax.tree.map(close, ours, theirs)


def invalid_steps(chunk):
    return ~np.asarray(chunk.valid[:, ::2])


def test_state_is_a_fixed_point(small):
    chunk = small.chunk(0)
    for rngs in (None, {"templates": jax.random.key(0), "dropout": jax.random.key(0)}):
        after, _, stats = jax.eval_shape(
            functools.partial(apply_chunk, small.model, rngs=rngs),
            small.variables,
            small.stream,
            chunk,
        )
        for ours, before in (
            (after, small.stream),
            (stats, small.variables["batch_stats"]),
        ):
            described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), ours)
            assert described == jax.tree.map(lambda x: (x.shape, x.dtype), before)


def test_padded_frames_change_nothing_in_evaluation(small):
    chunk = small.chunk(1, num_valid=(12, 5))
    stream, logits = outputs_of(small, chunk)
    assert np.all(np.asarray(logits)[:, 1, 3:] == 0)
    assert np.any(np.asarray(logits)[:, 1, :3] != 0)
    for frames in (jnp.nan, small.chunk(2).frames):
        changed = with_frames_of(chunk, frames, invalid_steps(chunk))
        assert_equal(outputs_of(small, changed), (stream, logits))


def test_padded_frames_change_nothing_in_training(small):
    chunk = small.chunk(1, num_valid=(12, 5))
    trained = training_of(small, chunk)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(trained))
    changed = with_frames_of(chunk, jnp.nan, invalid_steps(chunk))
    assert_equal(training_of(small, changed), trained)


def test_a_video_that_is_over_does_not_disturb_its_neighbour_in_training(small):
    chunk = small.chunk(1, num_valid=(12, 0))
    loss, logits, stats, gradients = training_of(small, chunk)
    other = small.chunk(3).replace(valid=chunk.valid, labels=chunk.labels)
    other = with_frames_of(other, chunk.frames, ~invalid_steps(chunk))
    again = training_of(small, other)
    assert_equal(
        (loss, logits[:, 0], stats, gradients), (again[0], again[1][:, 0], *again[2:])
    )


def test_neighbours_in_a_batch_do_not_see_each_other_in_evaluation(small):
    chunk, other = small.chunk(1), small.chunk(2)
    mixed = jax.tree.map(
        lambda a, b: jnp.concatenate((a[:1], b[1:])), chunk, other
    ).replace(frames=chunk.frames.at[1].set(jnp.nan))
    stream, logits = outputs_of(small, chunk)
    mixed_stream, mixed_logits = outputs_of(small, mixed)
    assert_equal(mixed_logits[:, 0], logits[:, 0])
    for ours, expected in zip(
        jax.tree.leaves(mixed_stream), jax.tree.leaves(stream), strict=True
    ):
        assert_equal(ours[0], expected[0])


def test_a_new_stream_forgets_the_old_one(small):
    chunk = small.chunk(1)
    fresh = small.evaluate(small.variables, small.stream, chunk)[1].logits
    starting = chunk.replace(starts=jnp.array([True, False]))
    _, logits = outputs_of(small, starting)
    assert_equal(logits[:, 0], fresh[:, 0])
    if jax.tree.leaves(small.stream.context):
        assert np.any(np.abs(np.asarray(logits[:, 1] - fresh[:, 1])) > TOLERANCE)


def test_no_array_of_a_state_is_in_it_twice(small):
    """A step that takes over the memory of its arguments would refuse it."""
    leaves = jax.tree.leaves(small.model.initial_state(2))
    assert len({id(leaf) for leaf in leaves}) == len(leaves)


def test_every_parameter_learns(small):
    # GTRM's borders learn nothing from a chunk of one segment.
    gradients = [training_of(small, small.chunk(seed))[3] for seed in (1, 2, 3)]
    largest = jax.tree.map(lambda *leaves: np.abs(leaves).max(), *gradients)
    for path, gradient in flax.traverse_util.flatten_dict(largest, sep="/").items():
        if not re.search(WITHOUT_GRADIENT, path):
            assert gradient > 0, path


def test_the_text_branch_hears_of_the_labels_in_training(small):
    """Transeger with prompts hears of the last chunk's labels, METE of this one's, SETE
    of none."""
    chunk = small.chunk(1)
    _, (stream, _, _) = small.train(small.stream, small.chunk(7))[0]
    told = stream.replace(labels=jnp.zeros_like(stream.labels))
    logits = [small.train(s, chunk)[0][1][1] for s in (stream, told)]
    differs = bool(np.any(np.abs(np.asarray(logits[0] - logits[1])) > TOLERANCE))
    hears = small.kind.startswith("transeger") and small.kind != "transeger none"
    assert differs == hears


def test_transeger_feeds_back_its_own_labels_in_evaluation(small):
    chunk = small.chunk(1, num_valid=(12, 5))
    stream, logits = outputs_of(small, chunk)
    best = np.argmax(np.asarray(logits[-1]), axis=-1)
    if small.kind.startswith("transeger"):
        np.testing.assert_array_equal(stream.labels, best)
        assert np.all(np.asarray(stream.labels)[1, 3:] == 0)
    else:
        np.testing.assert_array_equal(stream.labels, small.stream.labels)
