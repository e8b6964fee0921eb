"""The command and its files: what is refused, and that nothing is left half written."""

import importlib
import json
import os
import pathlib
import re
import shutil
import types

import numpy as np
import onnx
import pytest

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.export import __main__ as command
from svtas_jax.export import write
from svtas_jax.export.load import ENGINES, load_exported
from svtas_jax.live.exported import ExportedEngine
from svtas_jax.models import build_model


@pytest.fixture(scope="module")
def case(make_case):
    return make_case("transeger", causal=True)


@pytest.fixture
def folder(case, tmp_path):
    """A copy of an exported model, to damage."""
    return pathlib.Path(shutil.copytree(case.folder, tmp_path / "copy"))


def changed(folder, change):
    path = folder / "model.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")


def test_the_files_are_described(case):
    facts = json.loads((case.folder / "model.json").read_text(encoding="utf-8"))
    assert facts["format"] == 1 and facts["system"] == "transeger" and facts["causal"]
    assert facts["class_names"] == ["take", "open jar", "gießen", "background"]
    assert facts["step_s"] == pytest.approx(2 / 15) and facts["steps"] == [1, 4]
    assert facts["size"] == 32 and facts["resize"] == [32, 40]
    assert facts["config"]["model"]["causal"] and facts["checkpoint_step"] == 7
    named = {value["name"]: value for value in facts["programs"]["step"]["inputs"]}
    assert named["labels"]["initial"] == -1 and named["position"]["initial"] == 0
    for program in facts["programs"].values():
        for kind, file in program["files"].items():
            assert (case.folder / file["name"]).suffix == f".{kind}"


def test_onnx_files_have_the_arrays_of_the_description(case):
    facts = json.loads((case.folder / "model.json").read_text(encoding="utf-8"))
    for name, program in facts["programs"].items():
        model = onnx.load(case.folder / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        for key in ("inputs", "outputs"):
            values = getattr(model.graph, key.removesuffix("s"))
            assert [v.name for v in values] == [v["name"] for v in program[key]]
            for value, described in zip(values, program[key], strict=True):
                tensor = value.type.tensor_type
                sizes = [d.dim_param.upper() or d.dim_value for d in tensor.shape.dim]
                assert sizes == described["shape"]
                dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
                assert dtype == described["dtype"]


def test_an_earlier_export_is_replaced(case, folder):
    before = (folder / "step.onnx").read_bytes()
    changed(folder, lambda facts: facts.update(format=99))
    (folder / "step.onnx").unlink()
    write.export(folder, **case.export)
    assert (folder / "step.onnx").read_bytes() == before
    load_exported(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_other_folders_are_left_alone(case, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("all of it")
    for name in ("own", "own/thesis.txt"):
        with pytest.raises(InputError, match="no earlier export"):
            write.export(tmp_path / name, **case.export)
    assert (tmp_path / "own" / "thesis.txt").read_text() == "all of it"
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_what_lies_beside_an_earlier_export_is_not_lost(case, folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds more than that"):
        write.export(folder, **case.export)
    assert (folder / "notes.txt").read_text() == "mine"
    load_exported(folder)


@pytest.mark.parametrize("name", ["rename", "text"])
def test_nothing_is_left_half_written(case, folder, monkeypatch, name):
    """The disk is full in the middle, or the last step fails: the old export stays."""
    old = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    if name == "text":
        monkeypatch.setattr(write.metadata, "describe", fail)
    else:
        rename = os.rename

        def fail_to_place(source, target):
            if (
                pathlib.Path(target) == folder
                and (pathlib.Path(source) / "new").exists()
            ):
                fail()
            return rename(source, target)

        describe = write.metadata.describe

        def mark(*arguments):
            draft = next(p for p in folder.parent.iterdir() if p != folder)
            (draft / "new").touch()
            return describe(*arguments)

        monkeypatch.setattr(write.metadata, "describe", mark)
        monkeypatch.setattr(write.os, "rename", fail_to_place)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        write.export(folder, **case.export, formats=["stablehlo"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_that_cannot_be_made_is_refused(case, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write.export(tmp_path / "file" / "model", **case.export)


@pytest.mark.parametrize("formats", [[], ["onnx", "onnx"], ["tflite"]])
def test_unknown_formats_are_refused(case, tmp_path, formats):
    with pytest.raises(InputError, match="must be some of stablehlo,onnx"):
        write.export(tmp_path / "x", **case.export, formats=formats)


@pytest.mark.parametrize(
    "fields, part",
    [
        (dict(backbone="vit"), "the backbone VisionTransformer"),
        (dict(backbone="i3d"), "the backbone ResNet3D"),
        (dict(head="gru"), "the head MultiGRU"),
        (dict(head="ms_tcn"), "the head TCN of kind 'plain'"),
        (dict(dtype="bfloat16"), "config.model.dtype='bfloat16'"),
        (dict(reference_padding=True), "config.model.reference_padding=True"),
        (
            dict(
                system="transeger", joint="transformer", joint_positions="fixed_by_row"
            ),
            "config.model.joint_positions='fixed_by_row'",
        ),
    ],
)
def test_parts_without_onnx_are_named(case, tiny, tmp_path, fields, part):
    config = tiny.config()
    config.model.update(fields)
    model = build_model(config, tiny.classes)
    with pytest.raises(InputError, match=f"^{re.escape(part)} cannot be .*stablehlo"):
        write.export(tmp_path / "x", **case.export | dict(model=model, config=config))
    assert not [*tmp_path.iterdir()]


def test_models_of_features_are_refused(case, tmp_path):
    config = case.export["config"].copy_and_resolve_references()
    config.data.features = "i3d"
    with pytest.raises(InputError, match="trained on features"):
        write.export(tmp_path / "x", **case.export | dict(config=config))


def test_models_whose_prompts_tell_a_history_are_refused(case, tmp_path):
    config = case.export["config"].copy_and_resolve_references()
    config.model.prompt_parts = ("history", "name")
    with pytest.raises(InputError, match="which exported models cannot"):
        write.export(tmp_path / "x", **case.export | dict(config=config))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "openvino"])
def test_a_missing_package_is_named(case, tmp_path, monkeypatch, package):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    fake = types.SimpleNamespace(import_module=missing)
    for module in ("onnx_graph", "programs"):
        own = importlib.import_module(f"svtas_jax.export.{module}")
        monkeypatch.setattr(own, "importlib", fake)
    with pytest.raises(InputError, match=rf"package {package},.*svtas_jax\[onnx\]"):
        if package == "onnx":
            write.export(tmp_path / "x", **case.export)
        load_exported(case.folder, package)


def test_damaged_descriptions_give_one_message(folder, tmp_path):
    with pytest.raises(MissingInputError, match="model.json is missing"):
        load_exported(tmp_path)
    changed(folder, lambda facts: facts.update(format=2))
    with pytest.raises(InputError, match="written in format 2 .* reads format 1"):
        load_exported(folder)
    whole = (folder / "model.json").read_text(encoding="utf-8")
    whole = whole.replace('"format": 2', '"format": 1')
    for text in (whole[:-9], "[]", "{}", "\x00"):
        (folder / "model.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"model\.json"):
            load_exported(folder)
    facts = json.loads(whole)
    for name in ("steps", "programs", "class_names", "resize", "fps"):
        (folder / "model.json").write_text(json.dumps(facts | {name: None}))
        with pytest.raises(InputError, match=r"model\.json is damaged"):
            load_exported(folder)


@pytest.mark.parametrize("engine", ENGINES)
def test_damaged_programs_give_one_message(folder, engine):
    for path in folder.glob("step.*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="is damaged"):
        load_exported(folder, engine)
    for path in folder.glob("step.*"):
        path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_exported(folder, engine)


def test_an_engine_needs_its_format(folder):
    changed(folder, lambda facts: facts["programs"]["step"]["files"].pop("onnx"))
    with pytest.raises(InputError, match="exported without onnx"):
        load_exported(folder, "onnxruntime")
    with pytest.raises(InputError, match="--engine=torch is not one of jax"):
        load_exported(folder, "torch")


def test_wrong_arrays_are_refused(case):
    exported = load_exported(case.folder, "onnxruntime")
    state = exported.initial_state(1)
    frames, text = np.zeros((1, 2, 32, 32, 3), np.uint8), exported.text(state["labels"])
    call = dict(state=state, frames=frames, count=[2], starts=[True], text=text)
    exported.step(**call)
    for changes, message in (
        (dict(text=None), "the step takes"),
        (dict(frames=frames[:, :, :16]), "frames is .* must be"),
        (dict(frames=frames / 255), "frames is .* must be"),
        (dict(frames=np.repeat(frames, 3, axis=1)), "6 steps; the model takes 1 to 4"),
        (dict(count=[3]), r"count=\[3\] must lie"),
        (dict(count=[-1]), r"count=\[-1\] must lie"),
        (
            dict(state=state | {"position": np.int32([3])}, starts=[False]),
            "beyond the end of a chunk",
        ),
    ):
        with pytest.raises(InputError, match=message):
            exported.step(**call | changes)
    with pytest.raises(InputError, match="steps_per_call=5"):
        ExportedEngine(exported, num_streams=1, steps_per_call=5)


def test_the_command_exports_a_run(case, tmp_path, monkeypatch):
    run = types.SimpleNamespace(**case.export)
    given = types.SimpleNamespace(
        workdir="w", checkpoint="5", output=tmp_path / "x", formats=["onnx"], int8=False
    )
    asked = []
    monkeypatch.setattr(command.flags, "FLAGS", given)
    monkeypatch.setattr(
        command.runs, "load_trained", lambda *arguments: asked.append(arguments) or run
    )
    command.main()
    assert asked == [("w", "5")]
    names = {path.name for path in (tmp_path / "x").iterdir()}
    assert names == {"model.json", "step.onnx", "text.onnx"}
