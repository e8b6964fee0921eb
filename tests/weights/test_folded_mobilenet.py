"""Weights with folded batch norm: the same inference, statistics of the user's own."""

import flax.traverse_util
import jax
import numpy as np
import pytest

from svtas_jax.errors import InputError
from svtas_jax.models import build_model
from svtas_jax.models.image import with_separate_norms
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.streaming import segment_chunk
from svtas_jax.weights import folded_mobilenet

TOLERANCE = 1e-4  # relative to the largest value: 52 layers renormalised in float32


def folded_arrays(seed=0):
    """Random kernels and biases of a whole MobileNetV2 of width 1, as in the file."""
    rng = np.random.default_rng(seed)
    arrays, channels, index = {}, 32, 0

    def add(name, shape, fan_in):
        scale = np.sqrt(2 / fan_in)
        arrays[f"{name}.kernel"] = (scale * rng.standard_normal(shape)).astype("f4")
        outputs = shape[2] if name.endswith("depthwise") else shape[3]
        arrays[f"{name}.bias"] = rng.standard_normal(outputs).astype("f4")

    add("stem", (3, 3, 3, 32), 27)
    for expansion, features, num_blocks, _ in STAGES:
        for _ in range(num_blocks):
            hidden = expansion * channels
            if expansion > 1:
                add(f"block{index}.expand", (1, 1, channels, hidden), channels)
            add(f"block{index}.depthwise", (3, 3, hidden, 1), 9)
            add(f"block{index}.project", (1, 1, hidden, features), hidden)
            channels, index = features, index + 1
    add("head", (1, 1, 320, 1280), 320)
    arrays["logits.kernel"] = np.zeros((1, 1, 1280, 1001), np.float32)
    return arrays


def first_stages(variables, num_stages=2):
    """Leaves out the stages that the tests' models do not have."""
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    kept = [f"/layer{stage}_" for stage in range(num_stages + 1, 8)] + ["/conv2/"]
    return {n: v for n, v in flat.items() if not any(part in n for part in kept)}


@pytest.fixture(scope="module")
def model(tiny):
    wide = tiny.model("sete", image_width=1.0)
    backbone = wide.image.backbone.clone(stages=STAGES[:2])
    return wide.clone(image=wide.image.clone(backbone=backbone))


@pytest.fixture(scope="module")
def start(tiny, model):
    """Variables of a model whose image branch starts with the folded weights."""
    weights, _ = folded_mobilenet.convert(folded_arrays())
    flat = flax.traverse_util.flatten_dict(tiny.variables(model), sep="/")
    taken = first_stages(weights)
    assert taken.keys() <= flat.keys()
    assert all(flat[name].shape == value.shape for name, value in taken.items())
    return flax.traverse_util.unflatten_dict({**flat, **taken}, sep="/")


def chunk_of(tiny, seed):
    return jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, 2, seed=seed))


def test_every_array_of_the_network_has_a_place(tiny):
    weights, unplaced = folded_mobilenet.convert(folded_arrays())
    assert unplaced == ("logits.kernel",)
    backbone = weights["params"]["image"]["backbone"]
    num_blocks = sum(stage[2] for stage in STAGES)
    assert len(backbone) == num_blocks + 2
    assert backbone["layer2_1"]["conv_1"]["conv"]["kernel"].shape == (3, 3, 1, 144)
    assert backbone["layer1_0"]["conv_1"]["conv"]["kernel"].shape == (32, 16)


def test_folded_batch_norm_adds_its_bias_alone(start, model, tiny):
    """By hand for the first convolution, the only one without another before it."""
    chunk = chunk_of(tiny, 3)
    _, captured = jax.jit(
        lambda v: with_separate_norms(model).apply(
            v,
            model.initial_state(2),
            chunk,
            capture_intermediates=lambda m, method: (
                m.name in ("bn", "backbone") and method == "__call__"
            ),
            mutable=["intermediates"],
        )
    )(start)
    (said,) = captured["intermediates"]["image"]["backbone"]["conv1"]["bn"]["__call__"]
    config = tiny.config()
    mean, std = (np.array(config.data[name], np.float64) for name in ("mean", "std"))
    pixels = (chunk.frames[0, 0] / 255.0 - mean) / std
    arrays = folded_arrays()
    kernel = arrays["stem.kernel"].astype(np.float64)
    window = pixels[1:4, 3:6]  # the output at row 1, column 2: stride 2, padding 1
    expected = np.einsum("hwc,hwcd->d", window, kernel) + arrays["stem.bias"]
    np.testing.assert_allclose(said[0, 0, 1, 2], expected, rtol=1e-4, atol=1e-4)


def test_calibration_keeps_inference_and_measures_statistics(start, model, tiny):
    chunks = [chunk_of(tiny, seed) for seed in (0, 1)]
    after = folded_mobilenet.calibrate(model, start, chunks)
    run = jax.jit(lambda v, c: segment_chunk(v, model.initial_state(2), c, model=model))
    for chunk in (chunks[0], chunk_of(tiny, 9)):
        _, expected = run(start, chunk)
        _, said = run(after, chunk)
        largest = np.abs(expected).max()
        np.testing.assert_allclose(said, expected, atol=TOLERANCE * largest)
    flat = flax.traverse_util.flatten_dict(after, sep="/")
    variances = [v for n, v in flat.items() if "backbone" in n and n.endswith("/var")]
    assert variances and not any(np.allclose(v, 1) for v in variances)


@pytest.mark.parametrize("backbone", ["mobilenet_tsm", "i3d", "r2plus1d"])
def test_folding_changes_nothing(tiny, backbone):
    config, chunk = tiny.config(), chunk_of(tiny, 1)
    config.model.update(backbone=backbone, image_stages=2)
    model = build_model(config, tiny.classes)
    state = model.initial_state(2)
    variables = jax.jit(model.init)(jax.random.key(0), state, chunk)
    rng = np.random.default_rng(1)
    stats = flax.traverse_util.flatten_dict(variables["batch_stats"], sep="/")
    span = {"mean": (-1, 0), "var": (0.5, 2)}
    drawn = {
        name: np.float32(rng.uniform(*span[name.split("/")[-1]], x.shape))
        for name, x in stats.items()
    }
    stats = flax.traverse_util.unflatten_dict(drawn, sep="/")
    variables = {**variables, "batch_stats": stats}

    def seen(model):
        run = jax.jit(lambda v: model.apply(v, state, chunk, method="image_features"))
        return np.asarray(run(variables)[1])

    expected = seen(with_separate_norms(model))
    assert expected.std() > 0
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(seen(model), expected, rtol=0, atol=atol)


def test_training_sees_what_inference_saw(start, model, tiny):
    """With the statistics of the very chunk, batch statistics change nothing."""
    chunk = chunk_of(tiny, 4)
    after = folded_mobilenet.calibrate(model, start, [chunk])

    def features(train):
        _, captured = model.apply(
            after,
            model.initial_state(2),
            chunk,
            train=train,
            capture_intermediates=lambda m, _: m.name == "backbone",
            mutable=["intermediates", "batch_stats"],
        )
        return captured["intermediates"]["image"]["backbone"]["__call__"][0][1]

    expected, said = jax.jit(lambda: (features(False), features(True)))()
    largest = np.abs(expected).max()
    np.testing.assert_allclose(said, expected, atol=TOLERANCE * largest)


def test_bad_input_is_named(model, start):
    with pytest.raises(InputError, match="no array is named like"):
        folded_mobilenet.convert({"w": np.zeros(3)})
    with pytest.raises(InputError, match="no frame to calibrate"):
        folded_mobilenet.calibrate(model, start, [])
