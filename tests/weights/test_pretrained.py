"""The image branch starts from files of other programs; what does not fit is named."""

import functools

import jax
import mobilenets
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from svtas_jax.errors import InputError
from svtas_jax.models import build_model
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.weights import folded_mobilenet, pixels, pretrained

TOLERANCE = 1e-4  # relative to the largest value, see test_folded_mobilenet.py
TORCHVISION = functools.partial(mobilenets.torch_arrays, mobilenets.torchvision_module)
TIMM = functools.partial(mobilenets.torch_arrays, mobilenets.timm_module)


@pytest.fixture
def config(tiny):
    config = tiny.config()
    config.model.update(image_width=1.0, image_stages=2)
    return config


def template(tiny, config):
    """Variables of a config's model, whose fresh ones are all 9."""
    model = build_model(config, tiny.classes)
    state, chunk = model.initial_state(1), chunk_of(tiny, 0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), state, chunk))
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 9, leaf.dtype), shapes)
    return model, fresh


def chunk_of(tiny, seed):
    return jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, 1, seed=seed))


def no_chunks():
    raise AssertionError("nothing to measure")


def start(tiny, config, path, arrays, chunks=no_chunks):
    np.savez(path, **arrays)
    weights = pretrained.read(str(path), config.model)
    model, fresh = template(tiny, config)
    return flatten_dict(
        pretrained.start(model, fresh, weights, config=config, chunks=chunks), sep="/"
    )


@pytest.mark.parametrize("write", [TORCHVISION, TIMM], ids=["torchvision", "timm"])
def test_the_whole_image_branch_starts_and_nothing_else(
    tiny, config, tmp_path, caplog, write
):
    config.model.image_stages = 7
    config.data.update(mean=pixels.IMAGENET.mean, std=pixels.IMAGENET.std)
    arrays = write()
    with caplog.at_level("INFO"):
        found = start(tiny, config, tmp_path / "w.npz", arrays)
    for name, array in found.items():
        fresh = not name.startswith(("params/image/", "batch_stats/image/"))
        assert np.all(array == 9) == fresh, name
    assert "took 260 of 260 arrays" in caplog.text
    assert "2223872 of " in caplog.text
    assert "fresh in: head" in caplog.text
    assert "skipped 1 arrays" in caplog.text and "classifier.bias" in caplog.text
    expand = arrays[
        "features.3.conv.0.0.weight"
        if write is TORCHVISION
        else "blocks.1.1.conv_pw.weight"
    ]
    np.testing.assert_array_equal(
        found["params/image/backbone/layer2_1/conv_0/conv/kernel"], expand[..., 0, 0].T
    )


def test_pixels_of_the_config_are_those_that_the_weights_see(tiny, config, tmp_path):
    config.model.image_stages = 7
    arrays = TORCHVISION()
    found = start(tiny, config, tmp_path / "w.npz", arrays)
    ratio = np.divide(config.data.std, pixels.IMAGENET.std)[:, None]
    stem = arrays["features.0.0.weight"].transpose(2, 3, 1, 0) * ratio
    where = "image/backbone/conv1"
    np.testing.assert_allclose(found[f"params/{where}/conv/kernel"], stem, rtol=1e-6)
    mean = found[f"batch_stats/{where}/bn/mean"]
    assert not np.allclose(mean, arrays["features.0.1.running_mean"])


def test_fewer_stages_take_the_first_ones(tiny, config, tmp_path, caplog):
    with caplog.at_level("INFO"):
        found = start(tiny, config, tmp_path / "w.npz", TIMM())
    assert "stages after stage 2 are left out" in caplog.text
    for name, array in found.items():
        taken = "/backbone/" in name and "/conv2/" not in name
        assert np.all(array == 9) != taken, name


def image_features(model, variables, chunk):
    run = jax.jit(
        lambda v: model.apply(v, model.initial_state(1), chunk, method="image_features")
    )
    return np.asarray(run(variables)[1])


def test_folded_weights_compute_the_same_with_statistics(tiny, config, tmp_path):
    """Also of pixels with another deviation; another mean changes an image's border."""
    config.model.image_width = 0.125
    chunks = [chunk_of(tiny, seed) for seed in (0, 1)]
    arrays = mobilenets.folded_arrays(stages=STAGES[:3], width=0.125)
    np.savez(tmp_path / "w.npz", **arrays)
    weights = pretrained.read(str(tmp_path / "w.npz"), config.model)
    models = []
    for std in (0.5, 0.2):
        config.data.update(mean=(0.5,) * 3, std=(std,) * 3)
        models.append(build_model(config, tiny.classes))
    raw, model = models
    fresh = tiny.variables(model)
    plain = flatten_dict(fresh, sep="/") | {
        name: array
        for name, array in flatten_dict(weights.variables, sep="/").items()
        if "layer3_" not in name and "/conv2/" not in name
    }
    after = pretrained.start(
        model, fresh, weights, config=config, chunks=lambda: chunks
    )
    plain = unflatten_dict(plain, sep="/")
    for chunk in (*chunks, chunk_of(tiny, 5)):
        expected = image_features(raw, plain, chunk)
        said = image_features(model, after, chunk)
        largest = np.abs(expected).max()
        assert largest > 0
        np.testing.assert_allclose(said, expected, atol=TOLERANCE * largest)
    plain, after = (flatten_dict(tree, sep="/") for tree in (plain, after))
    for name, array in after.items():
        if "/conv2/" in name or "/backbone/" not in name:  # not in the file
            np.testing.assert_array_equal(array, plain[name])
        elif name.endswith("/var"):
            assert not np.allclose(array, 1, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(image_width=0.5), r"conv1/bn/mean has shape \(32,\) there and \(16,\)"),
        (dict(image_width=1.4), "Set config.model.image_width to that of the file"),
        (
            dict(backbone="vit", image_layers=1, image_width=0.125),
            "no array of .* fits",
        ),
        (dict(backbone="i3d"), "should have 5 axes.*another architecture"),
    ],
)
def test_another_model_is_refused(tiny, config, tmp_path, change, said):
    config.model.update(change)
    with pytest.raises(InputError, match=said):
        start(tiny, config, tmp_path / "w.npz", TORCHVISION())


@pytest.mark.parametrize("write", [TORCHVISION, mobilenets.folded_arrays])
def test_another_width_is_taken_by_a_model_of_that_width(
    tiny, config, tmp_path, write, monkeypatch
):
    monkeypatch.setattr(folded_mobilenet, "calibrate", lambda model, v, chunks: v)
    config.model.update(image_width=0.5, image_stages=7)
    found = start(tiny, config, tmp_path / "w.npz", write(width=0.5), tuple)
    assert not np.any(found["params/image/backbone/conv2/conv/kernel"] == 9)


def too_deep(arrays):
    """Adds a block to the second stage, as wider networks of timm have."""
    block = {n: x for n, x in arrays.items() if n.startswith("blocks.1.1.")}
    return arrays | {n.replace("blocks.1.1", "blocks.1.2"): x for n, x in block.items()}


def cut_off(arrays):
    return {n: x for n, x in arrays.items() if not n.startswith("blocks.1.1.bn2")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (too_deep, "15 arrays are on one side .* layer2_2/.*which this model lacks"),
        (cut_off, "4 arrays are on one side .* layer2_1/conv_1/bn/.*which the file"),
    ],
)
def test_another_architecture_is_refused(tiny, config, tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        start(tiny, config, tmp_path / "w.npz", change(TIMM()))


def test_the_text_alone_may_start_from_clip(tiny, config, tmp_path, caplog):
    config.model.update(system="transeger", text_width=8)
    _, fresh = template(tiny, config)
    table = fresh["params"]["text"]["token_embedding"]
    arrays = {
        "visual.conv1.weight": np.zeros((8, 3, 2, 2)),
        "token_embedding.weight": np.full(table.shape, 5, "f4"),
        "text_projection": np.zeros((8, 3), "f4"),
    }
    found = start(tiny, config, tmp_path / "w.npz", arrays)
    assert np.all(found["params/text/token_embedding"] == 5)
    assert np.all(found["params/image/backbone/conv1/conv/kernel"] == 9)
    assert "no weights for the image branch, which starts fresh" in caplog.text


def test_pixels_that_cannot_be_adapted_are_said(tiny, config, tmp_path, caplog):
    config.model.update(backbone="vit", image_layers=1)
    arrays = {"visual.conv1.weight": np.zeros((8, 3, 2, 2), "f4")}
    np.savez(tmp_path / "w.npz", **arrays)
    weights = pretrained.read(str(tmp_path / "w.npz"), config.model)
    pretrained.warn_of_pixels(weights, config)
    assert '--config.data.mean="(0.4815, 0.4578, 0.4082)"' in caplog.text
    caplog.clear()
    config.data.update(mean=pixels.CLIP.mean, std=pixels.CLIP.std)
    pretrained.warn_of_pixels(weights, config)
    assert not caplog.text
