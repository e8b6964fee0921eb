"""Finds weights of an ImageNet classifier that other programs have downloaded."""

import os
import pathlib

from svtas_jax.errors import MissingInputError

_NAME = "mobilenet_v2-7ebf99e0.pth"
_URL = f"https://download.pytorch.org/models/{_NAME}"
_TIMM = "timm/mobilenetv2_100.ra_in1k"


def find_mobilenet() -> pathlib.Path:
    """Returns the file of a MobileNetV2 of width 1 in the usual caches: torchvision's
    in that of torch.hub, then timm's there (older versions) or in Hugging Face's.

    Raises:
        MissingInputError: if there is none; says where to get one.
    """
    hub, hugging_face = _hub(), _hugging_face()
    repository = hugging_face / f"models--{_TIMM.replace('/', '--')}"
    found = [
        # The newer weights of torchvision, which are more accurate, sort first.
        *sorted(hub.glob("mobilenet_v2-*.pth")),
        *sorted(hub.glob("mobilenetv2_100_ra-*.pth")),
        *sorted(repository.glob("snapshots/*/model.safetensors")),
    ]
    if found:
        return found[0]
    raise MissingInputError(
        "config.train.init_from='imagenet': there is no MobileNetV2 trained on "
        f"ImageNet in {hub} (mobilenet_v2-*.pth of torchvision) or {repository} "
        "(timm's). Download one of them, 14 MB, with\n"
        f"  curl -L --create-dirs -o {hub / _NAME} {_URL}\n"
        f"  hf download {_TIMM} model.safetensors\n"
        "and start again, or name a file that you have: --config.train.init_from=FILE"
    )


def _hub() -> pathlib.Path:
    """Returns where `torch.hub` stores what it downloads."""
    torch = os.environ.get("TORCH_HOME") or _cache() / "torch"
    return pathlib.Path(torch) / "hub" / "checkpoints"


def _hugging_face() -> pathlib.Path:
    """Returns where `huggingface_hub` stores what it downloads."""
    home = os.environ.get("HF_HOME") or _cache() / "huggingface"
    return pathlib.Path(os.environ.get("HF_HUB_CACHE") or pathlib.Path(home) / "hub")


def _cache() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return pathlib.Path(cache) if cache else pathlib.Path.home() / ".cache"
