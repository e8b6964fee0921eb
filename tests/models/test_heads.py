"""Temporal heads: a video is the same alone and padded among others; the operators that
they are made of equal their plain definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax.models.asformer import ASFormer, attend_in_windows
from svtas_jax.models.convolution import DilatedConv, conv3d, patches3x3
from svtas_jax.models.gru_gtrm import MultiGRU, find_segments
from svtas_jax.models.layers import relu6
from svtas_jax.models.norm import BatchNorm
from svtas_jax.models.tcn import TCN

SAME = 1e-5  # of the largest value: float32 sums in another order
LEAK = 2e-4  # of attention: keys outside of the window count for 1e-6 each
LENGTHS, PADDED = (23, 9, 23, 9), 50  # two lengths, to compile for
WIDTH, CLASSES = 6, 4
HEADS = {
    "ms_tcn": TCN(CLASSES, features=8, num_layers=3, num_stages=2, kind="plain"),
    "ms_tcn layer": TCN(
        *(CLASSES, 8, 3, 2),
        kind="plain",
        norm="layer",
    ),
    "asformer": ASFormer(
        CLASSES, features=8, num_layers=3, num_decoders=1, dropout=0, channel_masking=0
    ),
    "gru": MultiGRU(CLASSES, features=8, dropout=0),
    "gtrm": MultiGRU(CLASSES, features=8, dropout=0, refined=True),
}


def random(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jnp.float32)


def assert_close(ours, expected, tolerance=SAME):
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected))

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest)

    jax.tree.map(close, ours, expected)


def variables_of(head):
    """Other than `init`'s, so that nothing is zero or one by chance."""
    x, valid = random(1, 5, WIDTH), jnp.ones((1, 5), bool)
    shapes = jax.eval_shape(
        functools.partial(head.init, train=False),
        jax.random.key(0),
        head.initial_context(1),
        x,
        valid,
    )
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        names = [part.key for part in path]
        if names[-1] in ("scale", "var"):
            return 1 + 0.3 * np.abs(values)
        if names[-2:] == ["feed_forward", "bias"]:
            # The instance norm behind it divides by the spread of what a ReLU lets
            # through: a channel that it shuts is noise times hundreds.
            return 3 + 0.3 * values
        return values / np.sqrt(leaf.size / leaf.shape[-1] if leaf.ndim > 1 else 10)

    return {"batch_stats": {}} | jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("name", HEADS)
def test_a_video_is_the_same_alone_and_padded_in_a_batch(name):
    head = HEADS[name].clone(dtype=jnp.float64)
    variables = variables_of(head)
    videos = [random(1, n, WIDTH, seed=i) for i, n in enumerate(LENGTHS)]

    def total(params, x, valid):
        own = {**variables, "params": params}
        context = head.initial_context(len(x))
        _, logits, _ = head.apply(own, context, x, valid, train=False)
        return jnp.sum(jnp.square(logits.astype(jnp.float64))), logits

    step = jax.jit(jax.value_and_grad(total, has_aux=True))
    valid = jnp.arange(PADDED) < jnp.array(LENGTHS)[:, None]
    padded = jnp.concatenate(
        [jnp.pad(v, ((0, 0), (0, PADDED - v.shape[1]), (0, 0))) for v in videos]
    )
    padded = jnp.where(valid[..., None], padded, jnp.nan)
    (loss, logits), gradients = step(variables["params"], padded, valid)
    alone = [step(variables["params"], v, jnp.ones(v.shape[:2], bool)) for v in videos]
    assert_close(loss, sum(one[0][0] for one in alone))
    for row, ((_, expected), _) in enumerate(alone):
        assert_close(logits[:, row, : LENGTHS[row]], expected[:, 0])
        assert np.all(np.asarray(logits[:, row, LENGTHS[row] :]) == 0)
    summed = jax.tree.map(lambda *leaves: sum(leaves), *(one[1] for one in alone))
    jax.tree.map(assert_close, gradients, summed)  # each by its own largest value


@pytest.mark.parametrize("kind", ["memory", "plain"])
def test_with_layer_norm_training_is_evaluation_and_rows_are_alone(kind):
    head = TCN(CLASSES, features=8, num_layers=2, kind=kind, norm="layer")
    variables, x = variables_of(head), random(2, 9, WIDTH)
    assert not jax.tree.leaves(variables["batch_stats"])
    valid = jnp.arange(9) < jnp.array([[9], [5]])

    def run(x, *, train):
        context = head.initial_context(len(x))
        return head.apply(variables, context, x, valid[: len(x)], train=train)

    expected = run(x, train=False)
    assert_close(run(x, train=True), expected)
    alone = run(x[:1], train=True)
    beside = run(x.at[1].set(jnp.nan), train=True)
    for logits in (alone[1], beside[1]):
        assert_close(logits[:, 0], expected[1][:, 0])
    for own in (alone[0], beside[0]):
        jax.tree.map(lambda a, b: assert_close(a[0], b[0]), own, expected[0])


def test_with_layer_norm_the_memory_crosses_chunks_in_training():
    head = TCN(CLASSES, features=8, num_layers=2, num_stages=2, norm="layer")
    variables, x = variables_of(head), random(1, 12, WIDTH)
    valid = jnp.ones((1, 12), bool)

    def run(parts):
        context, start, found = head.initial_context(1), 0, []
        for length in parts:
            own = slice(start, start + length)
            context, logits, _ = head.apply(
                variables, context, x[:, own], valid[:, own], train=True
            )
            found.append(logits)
            start += length
        return context, jnp.concatenate(found, axis=2)

    assert_close(run((5, 4, 3)), run((12,)))


def test_the_forward_memory_of_a_gru_crosses_chunks():
    head = HEADS["gru"]
    variables, x = variables_of(head), random(1, 12, WIDTH)
    valid = jnp.ones((1, 12), bool)

    def forward_memory(parts):
        context, start = head.initial_context(1), 0
        for length in parts:
            own = slice(start, start + length)
            context, _, _ = head.apply(
                variables, context, x[:, own], valid[:, own], train=False
            )
            start += length
        return context[0]  # of the first layer, which hears nothing of the future

    assert_close(forward_memory((5, 4, 3)), forward_memory((12,)))


@pytest.mark.parametrize("window", [1, 2, 16])
def test_window_attention_is_banded_attention(window):
    query, key, value = (random(2, 21, 4, seed=s) for s in range(3))
    valid = jnp.arange(21) < jnp.array([[21], [13]])
    steps = jnp.arange(21)
    first = steps[:, None] - window // 2
    near = (steps >= first) & (steps < first + window)
    seen = near[None] & valid[:, None, :]
    energy = jnp.einsum("bqd,bkd->bqk", query, key) / 2
    weights = jax.nn.softmax(jnp.where(seen, energy, -1e9))
    expected = jnp.einsum("bqk,bkd->bqd", weights, value)
    ours = attend_in_windows(query, key, value, valid, window=window)
    for row, length in enumerate((21, 13)):  # a padded query may see nothing
        assert_close(ours[row, :length], expected[row, :length], LEAK)


@pytest.mark.parametrize("kernel, stride, dilation", [
    ((3, 3, 3), 1, 1), ((3, 3, 3), 1, 2), ((3, 7, 7), 2, 1), ((1, 3, 3), 2, 1),
    ((3, 1, 1), 1, 1), ((1, 1, 1), 2, 1),
])  # fmt: skip
def test_conv3d_is_a_convolution_of_three_axes(kernel, stride, dilation):
    x, weights = random(2, 5, 9, 8, 3), random(*kernel, 3, 4, seed=1)
    pads = [(dilation * (size // 2),) * 2 for size in kernel]
    expected = jax.lax.conv_general_dilated(
        x,
        weights,
        (1, stride, stride),
        pads,
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    assert_close(conv3d(x, weights, stride=stride, dilation=dilation), expected)


@pytest.mark.parametrize("size", [8, 9])
def test_patches_make_a_convolution_a_matrix_product(size):
    x, kernel = random(2, size, size, 3), random(3, 3, 3, 5, seed=1)
    expected = jax.lax.conv_general_dilated(
        x,
        kernel,
        (2, 2),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert_close(patches3x3(x, 2) @ kernel.reshape(27, 5), expected)


def test_a_dilated_convolution_looks_both_ways():
    conv = DilatedConv(3, dilation=2)
    x = random(1, 9, 4)
    variables = conv.init(jax.random.key(0), x)
    moved = jax.jacobian(lambda x: conv.apply(variables, x)[0, 4].sum())(x)
    seen = np.flatnonzero(np.abs(np.asarray(moved)).sum(axis=(0, 2)))
    np.testing.assert_array_equal(seen, [2, 4, 6])


def test_batch_norm_has_the_gradient_of_its_definition():
    x, cotangent = 3 + random(2, 5, 4, 3, 6), random(2, 5, 4, 3, 6, seed=1)
    valid = jnp.arange(5) < jnp.array([[5], [2]])
    scale, bias = 1 + random(6, seed=2), random(6, seed=3)
    norm = BatchNorm()

    def ours(x, scale, bias):
        stats = {"mean": jnp.zeros(6), "var": jnp.ones(6)}
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        y, _ = norm.apply(variables, x, valid, train=True, mutable=["batch_stats"])
        return jnp.sum(y * cotangent)

    def plain(x, scale, bias):
        weight = valid[..., None, None, None] / (jnp.sum(valid) * 12)
        mean = jnp.sum(x * weight, axis=(0, 1, 2, 3))
        var = jnp.sum(jnp.square(x - mean) * weight, axis=(0, 1, 2, 3))
        y = (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias
        return jnp.sum(y * cotangent)

    arguments = (0, 1, 2)
    expected = jax.grad(plain, arguments)(x, scale, bias)
    assert_close(jax.grad(ours, arguments)(x, scale, bias), expected)


def test_relu6_has_no_gradient_where_it_clips():
    x = jnp.array([-1.0, 0.0, 1e-3, 3.0, 6.0, 7.0])
    np.testing.assert_array_equal(relu6(x), np.clip(x, 0, 6))
    slope = jax.grad(lambda x: relu6(x).sum())(x)
    np.testing.assert_array_equal(slope, [0, 0, 1, 1, 0, 0])


def test_segments_are_the_runs_of_the_most_likely_class():
    labels = jnp.array([[0, 0, 2, 2, 2, 0, 1, 1], [3, 3, 3, 0, 0, 0, 0, 0]])
    valid = jnp.arange(8) < jnp.array([[8], [3]])
    index, segments = find_segments(jax.nn.one_hot(labels, CLASSES), valid)
    np.testing.assert_array_equal(index[0], [0, 0, 1, 1, 1, 2, 3, 3])
    np.testing.assert_array_equal(segments.real.sum(axis=1), [4, 1])
    np.testing.assert_array_equal(segments.start[0, :4], [0, 2, 5, 6])
    np.testing.assert_array_equal(segments.end[0, :4], [2, 5, 6, 8])
    np.testing.assert_array_equal(segments.length[1, :2], [3, 0])
    edges = segments.near()[0]
    np.testing.assert_allclose(edges[:4].sum(axis=1), 1, rtol=1e-6)
    assert edges[0, 1] > edges[0, 3] > 0 and edges[0, 4] == 0
    member = segments.membership(jnp.zeros((2, 256, 2)), 8)[0]
    np.testing.assert_array_equal(jnp.argmax(member, axis=1), index[0])
