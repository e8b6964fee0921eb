"""Files that torchvision and timm downloaded are found; otherwise it is said how."""

import pathlib

import pytest

from svtas_jax.errors import MissingInputError
from svtas_jax.weights.imagenet import find_mobilenet

TORCH = "hub/checkpoints/mobilenet_v2-7ebf99e0.pth"
OLDER = "hub/checkpoints/mobilenet_v2-b0353104.pth"
OLD_TIMM = "hub/checkpoints/mobilenetv2_100_ra-b33bc2c4.pth"
TIMM = "models--timm--mobilenetv2_100.ra_in1k/snapshots/5afa/model.safetensors"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


def add(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_best_of_several_is_taken(tmp_path):
    cache = tmp_path / "cache"  # $XDG_CACHE_HOME in tests
    for path in (
        cache / "huggingface" / "hub" / TIMM,
        cache / "torch" / OLD_TIMM,
        cache / "torch" / OLDER,
        cache / "torch" / TORCH,
    ):
        add(path)
        assert find_mobilenet() == path
    add(cache / "torch/hub/checkpoints/mobilenet_v3_large-8738ca79.pth")
    assert find_mobilenet() == cache / "torch" / TORCH


@pytest.mark.parametrize(
    ("variable", "file"),
    [("TORCH_HOME", TORCH), ("HF_HOME", f"hub/{TIMM}"), ("HF_HUB_CACHE", TIMM)],
)
def test_the_settings_of_other_programs_count(tmp_path, monkeypatch, variable, file):
    path = add(tmp_path / "elsewhere" / file)
    with pytest.raises(MissingInputError):
        find_mobilenet()
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert find_mobilenet() == path


def test_without_settings_it_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path)
    path = add(tmp_path / ".cache" / "torch" / TORCH)
    assert find_mobilenet() == path


def test_a_missing_file_comes_with_the_command_that_gets_it(tmp_path):
    with pytest.raises(MissingInputError) as error:
        find_mobilenet()
    said = str(error.value)
    target = tmp_path / "cache" / "torch" / TORCH
    url = "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth"
    assert f"curl -L --create-dirs -o {target} {url}" in said
    assert "hf download timm/mobilenetv2_100.ra_in1k model.safetensors" in said
    assert "--config.train.init_from=FILE" in said
    add(target)
    assert find_mobilenet() == target
