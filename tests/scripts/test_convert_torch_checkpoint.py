"""Weights out to PyTorch's names and in again: the same model, on the command's way."""

import pathlib

import convert_torch_checkpoint as script
import jax
import numpy as np
import pytest

from svtas_jax import models, runs
from svtas_jax.checkpoints import store
from svtas_jax.checkpoints.formats import FORMAT
from svtas_jax.errors import InputError
from svtas_jax.training import loop, optim
from svtas_jax.weights import convert
from svtas_jax.weights.files import read_arrays, write_safetensors


@pytest.fixture
def config(folder, tiny):
    config = tiny.config("transeger")
    config.model.image_stages = 2
    for index in range(3):
        folder.add(f"train {index}", 24, subsets=("train",))
    folder.add("test", 24, subsets=("test",))
    config.data.root = str(folder.root)
    config.data.dataset = "tiny"
    config.train.num_epochs = 1
    return config


def of_features(config):
    """ASFormer on whole videos of features 7 wide."""
    (folder := pathlib.Path(config.data.root) / "features").mkdir()
    rng = np.random.default_rng(0)
    for name in ("train 0", "train 1", "train 2", "test"):
        np.save(folder / f"{name}.npy", rng.normal(size=(24, 7)).astype("f4"))
    config.data.update(features="features", clip_frames=0, frame_stride=1)
    config.model.update(system="sete", backbone="features", head="asformer")
    config.model.num_stages = 2
    return config


@pytest.mark.parametrize(
    "change, name",
    [
        pytest.param(
            lambda config: config,
            "image_backbone.backbone.layer2.1.conv.0.net.conv.weight",
            marks=pytest.mark.slow,
        ),
        (of_features, "head.decoders.0.layers.0.att_layer.key_conv.weight"),
    ],
    ids=["transeger", "asformer"],
)
def test_a_round_trip_is_exact(config, tmp_path, change, name):
    config = change(config)
    run, again = str(tmp_path / "run"), str(tmp_path / "again")
    loop.train(config, run)
    path = str(tmp_path / "weights.safetensors")
    script.export(run, path)
    assert name in read_arrays(path)
    script.take_over(path, config, again)
    jax.tree.map(
        np.testing.assert_array_equal,
        runs.load_trained(again).variables,
        runs.load_trained(run).variables,
    )
    metrics = [runs.evaluate(workdir).metrics for workdir in (run, again)]
    assert metrics[0] == metrics[1]


def test_what_does_not_fit_is_said(config, tmp_path, caplog):
    model = models.build_model(config, ("a", "b", "c", "d"))
    state = loop.first_state(config, model, optim.optimizer_of(config, 1))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    arrays = convert.to_torch(variables, script.rules_of(config))
    arrays["joint.conv_out.bias"] = np.zeros(7)
    arrays["other.weight"] = np.zeros(3)
    path = str(tmp_path / "weights.safetensors")
    write_safetensors(path, arrays)
    with caplog.at_level("INFO"):
        script.take_over(path, config, str(tmp_path / "run"))
    assert "weight names of the public SVTAS code" in caplog.text
    assert "skipped: other.weight" in caplog.text
    expected = "params/joint/stage/conv_out/bias, there (7,), here (4,)"
    assert f"not taken: {expected}" in caplog.text
    total = len(jax.tree.leaves(variables))
    assert f"took {total - 1} of {total} arrays" in caplog.text
    ours = runs.load_trained(str(tmp_path / "run")).variables["params"]
    there = state.params["image"]["backbone"]["conv1"]["conv"]["kernel"]
    np.testing.assert_array_equal(
        ours["image"]["backbone"]["conv1"]["conv"]["kernel"], there
    )


def folded(path):
    """Writes the first layers of a MobileNetV2 whose batch norm was folded."""
    rng, arrays = np.random.default_rng(0), {"logits.bias": np.zeros(5, "f4")}
    for name, shape, width in (
        ("stem", (3, 3, 3, 32), 32),
        ("block0.depthwise", (3, 3, 32, 1), 32),
        ("block0.project", (1, 1, 32, 16), 16),
    ):
        arrays[f"{name}.kernel"] = rng.normal(size=shape, scale=0.1).astype("f4")
        arrays[f"{name}.bias"] = rng.normal(size=width).astype("f4")
    np.savez(path, **arrays)
    return arrays


def test_the_command_takes_folded_weights_and_writes_them(
    folder, tmp_path, run_command, tiny_flags
):
    for index in range(3):
        folder.add(f"train {index}", 24, subsets=("train",))
    arrays = folded(tmp_path / "folded.npz")
    command = ["scripts/convert_torch_checkpoint.py", f"--workdir={tmp_path / 'run'}"]
    config = [
        *("--config=configs/gtea_sete.py", *tiny_flags),
        *(f"--config.data.root={folder.root}", "--config.model.image_width=1.0"),
        "--config.train.validation_group=",
    ]
    said = run_command(*command, *config, f"--weights={tmp_path / 'folded.npz'}").stderr
    assert "weight names of a folded MobileNetV2" in said
    assert "skipped: logits.bias" in said and "took 15 of " in said
    meta = store.read_meta(str(tmp_path / "run"), "best")
    assert (meta.step, meta.class_names[0], meta.format) == (0, "take", FORMAT)
    path = tmp_path / "out.safetensors"
    run_command(*command, f"--export={path}")
    written = read_arrays(str(path))
    stem = next(v for n, v in written.items() if n.endswith("conv1.conv.weight"))
    np.testing.assert_array_equal(stem, arrays["stem.kernel"].transpose(3, 2, 0, 1))
    said = run_command(*command, *config, f"--weights={path}", code=2).stderr
    assert said.startswith("error: ") and "already holds checkpoints" in said


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (("--config=configs/gtea_sete.py",), "--weights is missing"),
        (("--weights=x.npz",), "--config is missing"),
        (("--config=configs/gtea_sete.py", "--weights=no.npz"), "no.npz"),
    ],
)
def test_a_mistake_ends_with_one_message(tmp_path, run_command, rest, message):
    command = ("scripts/convert_torch_checkpoint.py", f"--workdir={tmp_path}")
    said = run_command(*command, *rest, code=2).stderr
    assert said.startswith("error: ") and message in said and "Traceback" not in said


def test_weights_of_a_model_of_pictures_do_not_read_features(config, tmp_path):
    path = str(tmp_path / "weights.safetensors")
    write_safetensors(path, {"backbone.conv1.conv.weight": np.zeros((8, 3, 3, 3))})
    with pytest.raises(InputError, match="has no layer that reads features"):
        script.take_over(path, of_features(config), str(tmp_path / "run"))


def test_an_export_that_pytorch_would_misread_is_refused(tmp_path):
    with pytest.raises(InputError, match="must end with .safetensors"):
        script.export(str(tmp_path), str(tmp_path / "weights.pth"))
