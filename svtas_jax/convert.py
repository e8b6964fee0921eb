"""Weights under the public PyTorch code's names to Flax variables, and back.

A table of rules says which PyTorch module is which of ours, and how its arrays lie in
memory. Nothing here looks at a model: names and shapes of the arrays decide, so that
the tables serve weights of any size, whole systems and parts of them.

    variables, unplaced = from_torch(state, system_rules("transeger"))
    state = to_torch(variables, system_rules("transeger"))
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping

import flax.traverse_util
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.models.mobilenet_tsm import STAGES
from svtas_jax.structs import Params


@dataclasses.dataclass(frozen=True)
class Rule:
    """One kind of module. `{}` stands for a number or a word, in both names alike.

    Attributes:
        torch: its name in PyTorch.
        ours: its path here, without the collection.
        layout: which arrays it has and how they lie, see `_LEAVES`.
    """

    torch: str
    ours: str
    layout: str


Rules = tuple[Rule, ...]


def _weight_and_bias(axes: int):
    return ((".weight", "params", "/kernel", axes), (".bias", "params", "/bias", None))


_SCALE_AND_BIAS = (
    (".weight", "params", "/scale", None),
    (".bias", "params", "/bias", None),
)

# The arrays of a layout: name there; collection and name here; if the array multiplies
# an input, the number of its image and time axes, otherwise None.
_LEAVES = {
    "linear": _weight_and_bias(0),
    "conv1d": _weight_and_bias(1),
    "conv2d": _weight_and_bias(2),
    "conv3d": _weight_and_bias(3),
    "layer_norm": _SCALE_AND_BIAS,
    "batch_norm": (
        *_SCALE_AND_BIAS,
        (".running_mean", "batch_stats", "/mean", None),
        (".running_var", "batch_stats", "/var", None),
    ),
    "matrix": (("", "params", "", 0),),
    "array": (("", "params", "", None),),
}

# Counters and constants that PyTorch saves along with the weights.
_NO_WEIGHTS = re.compile(
    r"(.*\.)?(num_batches_tracked|position_ids|decoder_position_encoding\.pe)"
)


def _at(torch_prefix: str, our_prefix: str, rules: Rules) -> Rules:
    """Moves rules below a module."""
    return tuple(
        Rule(torch_prefix + rule.torch, our_prefix + rule.ours, rule.layout)
        for rule in rules
    )


MOBILENET_TSM: Rules = (
    Rule("conv1.conv", "conv1/conv", "conv2d"),
    Rule("conv1.bn", "conv1/bn", "batch_norm"),
    Rule("layer{}.{}.conv.{}.conv", "layer{}_{}/conv_{}/conv", "conv2d"),
    Rule("layer{}.{}.conv.{}.bn", "layer{}_{}/conv_{}/bn", "batch_norm"),
    Rule("conv2.conv", "conv2/conv", "conv2d"),
    Rule("conv2.bn", "conv2/bn", "batch_norm"),
)

_MEMORY_STAGE: Rules = (
    Rule("conv_1x1", "conv_1x1", "conv1d"),
    Rule("layers.{}.conv_dilated", "layers_{}/conv_dilated", "conv1d"),
    Rule("layers.{}.conv_1x1", "layers_{}/conv_1x1", "conv1d"),
    Rule("layers.{}.norm", "layers_{}/norm", "batch_norm"),
    Rule("conv_out", "conv_out", "conv1d"),
)

MEMORY_TCN: Rules = (
    *_at("stage1.", "stage1/", _MEMORY_STAGE),
    *_at("stages.{}.", "stages_{}/", _MEMORY_STAGE),
)

# A stage of MS-TCN that stands alone.
SINGLE_STAGE: Rules = _at("", "stage1/", _MEMORY_STAGE)

TCN_3D: Rules = (
    Rule("conv_1x1", "conv_1x1", "conv3d"),
    Rule("layers.{}.conv_dilated", "layers_{}/conv_dilated", "conv3d"),
    Rule("layers.{}.conv_1x1", "layers_{}/conv_1x1", "conv3d"),
    Rule("layers.{}.norm", "layers_{}/norm", "batch_norm"),
    Rule("conv_out", "conv_out", "conv1d"),
)

_ASFORMER_STAGE: Rules = (
    Rule("conv_1x1", "conv_1x1", "conv1d"),
    Rule("layers.{}.feed_forward.layer.0", "layers_{}/feed_forward", "conv1d"),
    *(
        Rule(f"layers.{{}}.att_layer.{n}", f"layers_{{}}/att_layer/{n}", "conv1d")
        for n in ("query_conv", "key_conv", "value_conv", "conv_out")
    ),
    Rule("layers.{}.conv_1x1", "layers_{}/conv_1x1", "conv1d"),
    Rule("conv_out", "conv_out", "conv1d"),
)

ASFORMER: Rules = (
    *_at("encoder.", "encoder/", _ASFORMER_STAGE),
    *_at("decoders.{}.", "decoders_{}/", _ASFORMER_STAGE),
)

_CONV_NORM: Rules = (
    Rule("conv", "conv", "conv3d"),
    Rule("conv.conv_s", "conv/conv_s", "conv3d"),
    Rule("conv.bn_s", "conv/bn_s", "batch_norm"),
    Rule("conv.conv_t", "conv/conv_t", "conv3d"),
    Rule("bn", "bn", "batch_norm"),
)

RESNET_3D: Rules = (
    *_at("conv1.", "conv1/", _CONV_NORM),
    *_at("layer{}.{}.conv{}.", "layer{}_{}/conv{}/", _CONV_NORM),
    *_at("layer{}.{}.downsample.", "layer{}_{}/downsample/", _CONV_NORM),
)

_TEXT_BLOCK: Rules = (
    Rule("attn.in_proj_weight", "attn/in_proj/kernel", "matrix"),
    Rule("attn.in_proj_bias", "attn/in_proj/bias", "array"),
    Rule("attn.out_proj", "attn/out_proj", "linear"),
    Rule("ln_1", "ln_1", "layer_norm"),
    Rule("ln_2", "ln_2", "layer_norm"),
    Rule("mlp.c_fc", "mlp_c_fc", "linear"),
    Rule("mlp.c_proj", "mlp_c_proj", "linear"),
)

VIT: Rules = (
    Rule("conv1", "conv1", "conv2d"),
    Rule("class_embedding", "class_embedding", "array"),
    Rule("positional_embedding", "positional_embedding", "array"),
    Rule("ln_pre", "ln_pre", "layer_norm"),
    *_at("transformer.resblocks.{}.", "resblocks_{}/", _TEXT_BLOCK),
    Rule("ln_post", "ln_post", "layer_norm"),
    Rule("proj", "proj", "array"),
)

_TEXT: Rules = (
    Rule("positional_embedding", "positional_embedding", "array"),
    *_at("transformer.resblocks.{}.", "resblocks_{}/", _TEXT_BLOCK),
    Rule("ln_final", "ln_final", "layer_norm"),
    Rule("text_projection", "text_projection", "linear"),
    Rule("squeeze_sentence", "squeeze_sentence", "linear"),
)

# By kind of prompt, as in `config.model.prompt`.
TEXT_ENCODER: dict[str, Rules] = {
    "learned": (
        *_TEXT,
        Rule("prompt_learner.token_embedding.weight", "token_embedding", "array"),
        Rule("prompt_learner.ctx", "ctx", "array"),
    ),
    "fixed": (
        *_TEXT,
        Rule("prompt.token_embedding.weight", "token_embedding", "array"),
    ),
}

_DECODER_LAYER: Rules = (
    Rule("self_attention.{}_projection", "self_attention/{}_projection", "linear"),
    Rule("cross_attention.{}_projection", "cross_attention/{}_projection", "linear"),
    Rule("conv1", "conv1", "conv1d"),
    Rule("conv2", "conv2", "conv1d"),
    Rule("norm{}", "norm{}", "layer_norm"),
)

# All joint nets: their names do not collide.
JOINT: Rules = (
    *_at("", "stage/", _MEMORY_STAGE),
    Rule("fc1", "fc1", "linear"),
    Rule("fc2", "fc2", "linear"),
    *_at("decoder.layers.{}.", "layers_{}/", _DECODER_LAYER),
    Rule("decoder.norm", "norm", "layer_norm"),
    Rule("decoder_position_encoding.pe.weight", "positions", "array"),
    Rule("conv_cls", "conv_cls", "conv1d"),
)


BACKBONES: dict[str, Rules] = {
    "mobilenet_tsm": MOBILENET_TSM,
    "i3d": RESNET_3D,
    "r2plus1d": RESNET_3D,
    "vit": VIT,
    "features": (),
}

# Those that the public code has.
HEADS: dict[str, Rules] = {
    "memory_tcn": MEMORY_TCN,
    "ms_tcn": MEMORY_TCN,
    "tcn_3d": TCN_3D,
    "asformer": ASFORMER,
}


def system_rules(
    system: str,
    prompt: str = "learned",
    *,
    backbone: str = "mobilenet_tsm",
    head: str = "memory_tcn",
) -> Rules:
    """Returns the rules of a whole system; arguments as in `config.model`.

    SETE has no prompt, Transeger no head; a head that the public code does not have
    has no rules.
    """
    if system == "sete":
        return (
            *_at("backbone.", "image/backbone/", BACKBONES[backbone]),
            *_at("head.", "head/", HEADS.get(head, ())),
        )
    image = _at("image_backbone.backbone.", "image/backbone/", BACKBONES[backbone])
    text = _at("text_backbone.encoder.", "text/", TEXT_ENCODER[prompt])
    if system == "mete":
        return (
            *image,
            *_at("image_backbone.head.", "head/", HEADS.get(head, ())),
            *text,
            Rule("clip_loss.logit_scale", "logit_scale", "array"),
        )
    if system == "transeger":
        return (
            *image,
            Rule("image_backbone.head.project", "project", "conv1d"),
            *text,
            *_at("joint.", "joint/", JOINT),
        )
    raise ValueError(f"system={system!r} is not one of sete, mete, transeger.")


def from_torch(
    state: Mapping[str, np.ndarray], rules: Rules
) -> tuple[Params, tuple[str, ...]]:
    """Converts a PyTorch state dict.

    Args:
        state: arrays by PyTorch's name.
        rules: which names there are.

    Returns:
        The Flax variables ("params" and, if there are any, "batch_stats"), and the
        names for which there is no rule. Counters and constants are left out silently.

    Raises:
        InputError: if an array has not as many axes as its name demands.
    """
    flat, unplaced = {}, []
    for name, array in state.items():
        if _NO_WEIGHTS.fullmatch(name):
            continue
        path, axes = _translate(_without_shift(name), _from_torch_table(rules))
        if path is None:
            unplaced.append(name)
            continue
        flat[path] = _to_our_layout(name, np.asarray(array), axes)
    return flax.traverse_util.unflatten_dict(flat, sep="/"), tuple(unplaced)


def to_torch(variables: Params, rules: Rules) -> dict[str, np.ndarray]:
    """Converts Flax variables, or gradients in their shape, to PyTorch's names.

    Raises:
        ValueError: if a variable has no rule.
    """
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    shifted = _shifted_blocks(flat)
    state = {}
    for path, array in flat.items():
        name, axes = _translate(path, _to_torch_table(rules))
        if name is None:
            raise ValueError(f"variable {path} has no PyTorch name in these rules.")
        state[_with_shift(name, path, shifted)] = _to_torch_layout(array, axes)
    return state


_Table = tuple[tuple[re.Pattern, str, int | None], ...]


@functools.cache
def _from_torch_table(rules: Rules) -> _Table:
    return _table(rules, lambda there, here: (there, here))


@functools.cache
def _to_torch_table(rules: Rules) -> _Table:
    return _table(rules, lambda there, here: (here, there))


def _table(rules: Rules, order: Callable) -> _Table:
    """Lists (pattern of a whole name, template of the other name, axes) per array."""
    table = []
    for rule in rules:
        for there, collection, here, axes in _LEAVES[rule.layout]:
            names = (rule.torch + there, f"{collection}/{rule.ours}{here}")
            source, target = order(*names)
            pattern = re.escape(source).replace(r"\{\}", "([a-z0-9]+)")
            table.append((re.compile(pattern), target, axes))
    return tuple(table)


def _translate(name: str, table: _Table) -> tuple[str | None, int | None]:
    for pattern, target, axes in table:
        match = pattern.fullmatch(name)
        if match:
            return target.format(*match.groups()), axes
    return None, None


# In PyTorch the shift wraps the convolution behind it: conv.0 becomes conv.0.net.
_EXPANSION = re.compile(r"(layer\d+\.\d+\.conv\.0\.)net\.")
_BLOCK = re.compile(r"(?:.*/)?layer(\d+)_(\d+)/conv_0/")


def _without_shift(name: str) -> str:
    return _EXPANSION.sub(r"\1", name)


def _with_shift(name: str, path: str, shifted: set[str]) -> str:
    match = _BLOCK.match(path)
    if not match or match[0] not in shifted:
        return name
    return re.sub(r"(layer\d+\.\d+\.conv\.0\.)", r"\1net.", name)


def _shifted_blocks(flat: Mapping[str, np.ndarray]) -> set[str]:
    """Returns the path prefixes of the convolutions behind a shift.

    Blocks with an expansion and a residual connection have one.
    """
    shifted = set()
    for path, kernel in flat.items():
        match = _BLOCK.match(path)
        if not match or not path.endswith("/conv/kernel") or kernel.ndim != 2:
            continue
        stage, block = int(match[1]), int(match[2])
        project = flat.get(path.replace("/conv_0/", "/conv_2/"))
        stride = STAGES[stage - 1][3] if block == 0 else 1
        if project is not None and stride == 1 and len(kernel) == project.shape[1]:
            shifted |= {match[0], match[0].replace("params/", "batch_stats/", 1)}
    return shifted


def _to_our_layout(name: str, array: np.ndarray, axes: int | None) -> np.ndarray:
    """Moves (out, in, *axes) to (*axes, in, out); a 1x1 convolution is a matrix."""
    if axes is None:
        return array
    if array.ndim != axes + 2:
        raise InputError(
            f"{name} has shape {array.shape}; a weight of this name has {axes + 2} "
            "axes. The file holds another architecture than the config says."
        )
    if np.prod(array.shape[2:], dtype=int) == 1:
        return np.ascontiguousarray(array.reshape(array.shape[:2]).T)
    return np.ascontiguousarray(np.moveaxis(array, (0, 1), (-1, -2)))


def _to_torch_layout(array: np.ndarray, axes: int | None) -> np.ndarray:
    array = np.asarray(array)
    if axes is None:
        return array
    if array.ndim == 2:
        return np.ascontiguousarray(array.T).reshape(array.shape[::-1] + (1,) * axes)
    return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)))
