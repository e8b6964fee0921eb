"""The image branch in integers of 8 bits: near the float32 one, or refused."""

import json

import numpy as np
import onnx
import pytest

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.export import int8, write
from svtas_jax.export.load import load_exported
from svtas_jax.export.metadata import FILE


@pytest.fixture(scope="module")
def data(tmp_path_factory, data_folder):
    """Three videos."""
    folder = data_folder(tmp_path_factory.mktemp("int8") / "data")
    for index, num_frames in enumerate((33, 40, 29)):
        folder.add(f"video {index}", num_frames)
    return folder.root


def wanted_of(case, root, **more):
    own = case.export
    config = own["config"].copy_and_resolve_references()
    config.data.update(root=str(root), dataset="tiny")
    return own | {"config": config, "formats": ["onnx"], "int8": True} | more


@pytest.mark.parametrize(
    "system", ["sete", pytest.param("transeger", marks=pytest.mark.slow)]
)
def test_it_is_near_the_float32_step(make_case, data, tmp_path, monkeypatch, system):
    monkeypatch.setattr(int8, "MOST_LOST", 100.0)
    case = make_case(system, causal=True)
    folder = write.export(tmp_path / "x", **wanted_of(case, data))
    facts = json.loads((folder / FILE).read_text("utf-8"))["int8"]
    assert facts["steps"] > 10 and 0 < facts["agreement"] <= 100
    nodes = onnx.load(folder / "step.onnx").graph.node
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    is_whole = {n.input[0].endswith("DequantizeLinear_Output") for n in convolutions}
    assert is_whole == {True}
    heads = [n for n in nodes if n.op_type == "MatMul" and "image/" not in n.name]
    assert heads and not any("Dequantize" in name for n in heads for name in n.input)
    ours, theirs = (
        load_exported(path, "onnxruntime") for path in (folder, case.folder)
    )
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (1, 4, 1, 1, 3))
    noise = rng.integers(0, 256, (1, 4, ours.metadata.size, ours.metadata.size, 3))
    frames = np.uint8(noise // 4 + scene // 2)
    state, start = ours.initial_state(1), np.ones(1, bool)
    text = ours.text(state["labels"]) if ours.text_shape else None
    call = (state, frames, np.array([4], np.int32), start, text)
    found, expected = ours.step(*call)[1], theirs.step(*call)[1]
    assert 0 < np.abs(found - expected).max() < 0.5 * np.abs(expected).max()


def test_too_great_a_loss_is_refused(make_case, data, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "MOST_LOST", -101.0)
    monkeypatch.setattr(int8, "_VIDEOS", 1)
    monkeypatch.setattr(int8, "_TRAIN_CHUNKS", 1)
    wanted = wanted_of(make_case("sete", causal=True), data)
    with pytest.raises(InputError, match="int8 would lose .* Export without --int8"):
        write.export(tmp_path / "x", **wanted)
    assert not list(tmp_path.iterdir())


def test_it_needs_onnx_and_the_data(make_case, data, tmp_path):
    case = make_case("sete", causal=True)
    with pytest.raises(InputError, match="--int8 is for ONNX"):
        write.export(tmp_path / "x", **wanted_of(case, data, formats=["stablehlo"]))
    with pytest.raises(MissingInputError, match="config.data.root"):
        write.export(tmp_path / "x", **wanted_of(case, tmp_path / "none"))
    assert not list(tmp_path.iterdir())
