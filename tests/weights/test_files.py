"""Weight files of other programs: read without them, and without running code."""

import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.weights import convert
from svtas_jax.weights import names as weight_names
from svtas_jax.weights import rules as weight_rules
from svtas_jax.weights.files import read_arrays, write_safetensors


class FloatStorage:
    """Stands for PyTorch's class of this name in a pickle."""


class Memory:
    """Stands for a storage."""

    def __init__(self, key, array):
        self.key, self.array = key, np.ascontiguousarray(array).ravel()


def _rebuild_tensor_v2(*_):
    """Stands for PyTorch's function of this name in a pickle."""


class Tensor:
    """Pickles as a PyTorch tensor does."""

    def __init__(self, memory, shape, strides, offset=0):
        self.arguments = (memory, offset, shape, strides)

    def __reduce__(self):
        return _rebuild_tensor_v2, (*self.arguments, False, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, item):
        if isinstance(item, Memory):
            return ("storage", FloatStorage, item.key, "cpu", len(item.array))
        return None


@pytest.fixture(autouse=True)
def fake_torch(monkeypatch):
    """Pickles name classes by their module: give ours PyTorch's names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils, torch.FloatStorage = utils, FloatStorage
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setattr(FloatStorage, "__module__", "torch")
    monkeypatch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(content):
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def write_zip(path, content, memories):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(content))
        for memory in memories:
            archive.writestr(f"archive/data/{memory.key}", memory.array.tobytes())


def write_legacy(path, content, memories):
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content):
            file.write(pickled(part))
        file.write(pickled([memory.key for memory in memories]))
        for memory in memories:
            file.write(len(memory.array).to_bytes(8, "little"))
            file.write(memory.array.tobytes())


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_checkpoint_of_pytorch_is_read(tmp_path, write):
    base = np.arange(24, dtype=np.float32)
    memory, other = Memory("0", base), Memory("1", np.ones(3, np.float32))
    weights = collections.OrderedDict(
        whole=Tensor(memory, (2, 3, 4), (12, 4, 1)),
        transposed=Tensor(memory, (4, 3), (1, 4), 12),
        number=Tensor(memory, (), (), 5),
    )
    momentum = {"state": {0: {"exp_avg": Tensor(other, (3,), (1,))}}}
    content = {"epoch": 3, "model_state_dict": weights, "optimizer": momentum}
    write(tmp_path / "a.pth", content, (memory, other))
    arrays = read_arrays(tmp_path / "a.pth")
    assert set(arrays) == {"whole", "transposed", "number"}
    np.testing.assert_array_equal(arrays["whole"], base.reshape(2, 3, 4))
    np.testing.assert_array_equal(arrays["transposed"], base[12:].reshape(3, 4).T)
    assert arrays["number"] == 5


class Scripted:
    """Stands for a class of a TorchScript archive, whose code is in the file."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def test_a_torchscript_archive_is_read(tmp_path, monkeypatch):
    archive = types.ModuleType("__torch__")
    archive.Scripted = Scripted
    monkeypatch.setattr(Scripted, "__module__", "__torch__")
    monkeypatch.setitem(sys.modules, "__torch__", archive)
    memory = Memory("0", np.arange(6, dtype=np.float32))
    linear = Scripted(weight=Tensor(memory, (2, 3), (3, 1)), training=False)
    content = Scripted(model=Scripted(linear=linear), scale=Tensor(memory, (), (), 4))
    write_zip(tmp_path / "clip.pt", content, (memory,))
    arrays = read_arrays(tmp_path / "clip.pt")
    assert set(arrays) == {"model.linear.weight", "scale"} and arrays["scale"] == 4
    np.testing.assert_array_equal(arrays["model.linear.weight"], [[0, 1, 2], [3, 4, 5]])


class Evil:
    def __reduce__(self):
        return print, ("code of the file ran",)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_no_code_of_a_file_is_run(tmp_path, capsys, write):
    write(tmp_path / "evil.pth", {"state_dict": {"w": Evil()}}, ())
    with pytest.raises(InputError, match=r"asks for \w+\.print.*none of it was run"):
        read_arrays(tmp_path / "evil.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="none of it was run"):
        read_arrays(tmp_path / "plain.pkl")
    assert "code of the file ran" not in capsys.readouterr().out


@pytest.mark.parametrize("offset, shape, strides", [
    (0, (25,), (1,)), (23, (2,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (40, 1)),
    (4, (3,), (-2,)),
])  # fmt: skip
def test_a_tensor_may_not_leave_its_memory(tmp_path, offset, shape, strides):
    memory = Memory("0", np.zeros(24, np.float32))
    content = {"w": Tensor(memory, shape, strides, offset)}
    write_zip(tmp_path / "a.pth", content, (memory,))
    with pytest.raises(InputError, match="reaches beyond its memory"):
        read_arrays(tmp_path / "a.pth")


def test_missing_cut_and_foreign_files_are_named(tmp_path):
    with pytest.raises(MissingInputError, match="none.pth"):
        read_arrays(tmp_path / "none.pth")
    memory = Memory("0", np.zeros(24, np.float32))
    write_zip(tmp_path / "a.pth", {"w": Tensor(memory, (24,), (1,))}, (memory,))
    whole = (tmp_path / "a.pth").read_bytes()
    for name, data in (("cut.pth", whole[:80]), ("a.safetensors", b"x"), ("b.pt", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(
            InputError, match=f"{name} is damaged, cut off or not a file"
        ):
            read_arrays(tmp_path / name)


def test_safetensors_come_back(tmp_path):
    arrays = {"a.b": np.arange(6.0).reshape(2, 3), "c": np.float32(3)}
    write_safetensors(tmp_path / "w.safetensors", arrays)
    again = read_arrays(tmp_path / "w.safetensors")
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].shape == np.shape(array)


def reference_names():
    """The image branch's names in the public code, each with an array of its own."""
    names = ["conv1.conv", "conv1.bn", "conv2.conv", "conv2.bn"]
    for stage, (expansion, _, num_blocks, _) in enumerate(STAGES, 1):
        for block in range(num_blocks):
            for position in range(2 if expansion == 1 else 3):
                prefix = f"layer{stage}.{block}.conv.{position}"
                names += [f"{prefix}.conv", f"{prefix}.bn"]
    leaves = {
        "conv": ("weight",),
        "bn": ("weight", "bias", "running_mean", "running_var"),
    }
    return [
        f"backbone.{name}.{leaf}"
        for name in names
        for leaf in leaves[name.split(".")[-1]]
    ]


def torchvision_names():
    """In the same order, from the layout of torchvision.models.mobilenet_v2."""
    modules, number = ["features.0.0", "features.0.1", "features.18.0"], 1
    modules.append("features.18.1")
    for expansion, _, num_blocks, _ in STAGES:
        for _ in range(num_blocks):
            inner = ["0.0", "0.1", "1", "2"]
            if expansion > 1:
                inner = ["0.0", "0.1", "1.0", "1.1", "2", "3"]
            modules += [f"features.{number}.conv.{part}" for part in inner]
            number += 1
    return with_leaves(modules)


def timm_names():
    """In the same order, from the layout of timm's mobilenetv2_100."""
    modules = ["conv_stem", "bn1", "conv_head", "bn2"]
    for stage, (expansion, _, num_blocks, _) in enumerate(STAGES):
        for block in range(num_blocks):
            inner = ["conv_dw", "bn1", "conv_pw", "bn2"]
            if expansion > 1:
                inner = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
            modules += [f"blocks.{stage}.{block}.{part}" for part in inner]
    return with_leaves(modules)


def with_leaves(modules):
    leaves = (("weight",), ("weight", "bias", "running_mean", "running_var"))
    return [
        f"{module}.{leaf}"
        for index, module in enumerate(modules)
        for leaf in leaves[index % 2]
    ]


@pytest.mark.parametrize(
    "names, who", [(torchvision_names, "torchvision"), (timm_names, "timm")]
)
def test_mobilenets_of_others_are_told_in_our_names(names, who):
    given = {name: np.float32(k) for k, name in enumerate(names())}
    scheme, told = weight_names.translate(given, "sete")
    assert who in scheme
    expected = {name: np.float32(k) for k, name in enumerate(reference_names())}
    assert told == expected


def test_clip_and_mmaction_are_told_in_our_names():
    clip = {
        "visual.conv1.weight": np.zeros((8, 3, 2, 2)),
        "visual.transformer.resblocks.0.ln_1.weight": np.zeros(8),
        "visual.proj": np.zeros((8, 4)),
        "token_embedding.weight": np.zeros((5, 8)),
        "transformer.resblocks.1.attn.in_proj_bias": np.zeros(24),
        "logit_scale": np.zeros(()),
    }
    _, told = weight_names.translate(clip, "transeger")
    rules = weight_rules.system_rules("transeger", backbone="vit")
    variables, unplaced = convert.from_torch(told, rules)
    image = variables["params"]["image"]["backbone"]
    assert image["conv1"]["kernel"].shape == (2, 2, 3, 8)
    assert image["proj"].shape == (8, 4) and "ln_1" in image["resblocks_0"]
    text = variables["params"]["text"]
    assert text["token_embedding"].shape == (5, 8)
    assert text["resblocks_1"]["attn"]["in_proj"]["bias"].shape == (24,)
    assert unplaced == ("logit_scale",)

    mmaction = {
        "module.backbone.conv1.conv.weight": np.zeros((4, 3, 3, 7, 7)),
        "module.cls_head.fc_cls.weight": np.zeros((400, 8)),
    }
    scheme, told = weight_names.translate(mmaction, "sete")
    rules = weight_rules.system_rules("sete", backbone="i3d", head="ms_tcn")
    variables, unplaced = convert.from_torch(told, rules)
    kernel = variables["params"]["image"]["backbone"]["conv1"]["conv"]["kernel"]
    assert kernel.shape == (3, 7, 7, 3, 4)
    assert scheme == "mmaction2" and unplaced == ("cls_head.fc_cls.weight",)
