"""Translates weight names of other programs to those of SVTAS's public code.

Names that only one program uses reveal which program wrote a file.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from svtas_jax.models.mobilenet_tsm import STAGES

Arrays = Mapping[str, np.ndarray]


def translate(arrays: Arrays, system: str) -> tuple[str, dict[str, np.ndarray]]:
    """Renames arrays to the names of SVTAS's public code for a system.

    Args:
        arrays: by the name in a file.
        system: as in `config.model.system`.

    Returns:
        The program that named them, and the arrays by new name; arrays without a
        counterpart keep their names.
    """
    arrays = {_without_wrapper(name): array for name, array in arrays.items()}
    image = "backbone." if system == "sete" else "image_backbone.backbone."
    for scheme, mark, rename in _SCHEMES:
        if any(re.match(mark, name) for name in arrays):
            renamed = {}
            for name, array in arrays.items():
                renamed[rename(name, image) or name] = array
            return scheme, renamed
    return "the public SVTAS code", dict(arrays)


def _without_wrapper(name: str) -> str:
    """Removes the prefixes that DistributedDataParallel and torch.compile add."""
    return re.sub(r"^(module\.|_orig_mod\.)+", "", name)


def _blocks() -> tuple[tuple[int, int], ...]:
    return tuple(
        (stage, index)
        for stage, (_, _, num_blocks, _) in enumerate(STAGES, 1)
        for index in range(num_blocks)
    )


def _from_torchvision(name: str, image: str) -> str | None:
    match = re.fullmatch(r"features\.(\d+)\.(.+)\.([a-z_]+)", name)
    if not match:
        return None
    number, rest, leaf = int(match[1]), match[2], match[3]
    if number in (0, 18):
        part = {"0": "conv", "1": "bn"}[rest]
        return f"{image}conv{1 if number == 0 else 2}.{part}.{leaf}"
    stage, index = _blocks()[number - 1]
    position, *inner = (int(part) for part in rest.removeprefix("conv.").split("."))
    last = 1 if stage == 1 else 2  # index of the block's projection
    part = "bn" if (inner or [position - last])[0] else "conv"
    return f"{image}layer{stage}.{index}.conv.{min(position, last)}.{part}.{leaf}"


_TIMM_PARTS = {
    True: {"conv_dw": (0, "conv"), "bn1": (0, "bn"), "conv_pw": (1, "conv"),
           "bn2": (1, "bn")},
    False: {"conv_pw": (0, "conv"), "bn1": (0, "bn"), "conv_dw": (1, "conv"),
            "bn2": (1, "bn"), "conv_pwl": (2, "conv"), "bn3": (2, "bn")},
}  # fmt: skip
_TIMM_ENDS = {
    "conv_stem": "conv1.conv",
    "bn1": "conv1.bn",
    "conv_head": "conv2.conv",
    "bn2": "conv2.bn",
}


def _from_timm(name: str, image: str) -> str | None:
    match = re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)\.([a-z_]+)", name)
    if match:
        stage, index = int(match[1]) + 1, int(match[2])
        part = _TIMM_PARTS[stage == 1].get(match[3])
        if part is None:
            return None
        return f"{image}layer{stage}.{index}.conv.{part[0]}.{part[1]}.{match[4]}"
    module, _, leaf = name.rpartition(".")
    return f"{image}{_TIMM_ENDS[module]}.{leaf}" if module in _TIMM_ENDS else None


def _from_clip(name: str, image: str) -> str | None:
    if name.startswith("visual."):
        return image + name.removeprefix("visual.")
    text = "text_backbone.encoder."
    if name == "token_embedding.weight":
        return f"{text}prompt_learner.{name}"
    if name.startswith(("transformer.resblocks.", "ln_final.")):
        return text + name
    return None


def _from_mmaction(name: str, image: str) -> str | None:
    own = name.startswith("backbone.")
    return image + name.removeprefix("backbone.") if own else None


# (program, pattern of a name that only it uses, function that renames or returns None).
_SCHEMES: tuple[tuple[str, str, Callable[[str, str], str | None]], ...] = (
    ("torchvision's MobileNetV2", r"features\.18\.", _from_torchvision),
    ("timm's MobileNetV2", r"conv_stem\.", _from_timm),
    ("OpenAI's CLIP", r"(visual\.|text_projection$)", _from_clip),
    ("mmaction2", r"cls_head\.", _from_mmaction),
)
