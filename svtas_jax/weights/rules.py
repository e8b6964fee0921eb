"""Tables that map the weight names of SVTAS's public PyTorch code to ours.

They apply to weights of any size, to whole models and to parts of them.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rule:
    """Maps the name of one kind of module.

    `{}` stands for a number or a word, the same in both names.

    Attributes:
        torch: the module's name in PyTorch.
        ours: its path here, without the collection.
        layout: its arrays and their memory layout, see `svtas_jax.weights.convert`.
    """

    torch: str
    ours: str
    layout: str


Rules = tuple[Rule, ...]


def _at(torch_prefix: str, our_prefix: str, rules: Rules) -> Rules:
    """Prefixes the names in rules."""
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


def _tcn_stage(layout: str) -> Rules:
    """Returns the rules of a stage whose convolutions have this layout."""
    return (
        Rule("conv_1x1", "conv_1x1", layout),
        Rule("layers.{}.conv_dilated", "layers_{}/conv_dilated", layout),
        Rule("layers.{}.conv_1x1", "layers_{}/conv_1x1", layout),
        Rule("layers.{}.norm", "layers_{}/norm", "batch_norm"),
        Rule("conv_out", "conv_out", "conv1d"),
    )


# The memory TCN and MS-TCN.
TCN: Rules = (
    *_at("stage1.", "stage1/", _tcn_stage("conv1d")),
    *_at("stages.{}.", "stages_{}/", _tcn_stage("conv1d")),
)

# A head of one stage, without the prefix "stage1".
SINGLE_STAGE: Rules = _at("", "stage1/", _tcn_stage("conv1d"))
TCN_3D: Rules = (
    *_at("", "stage1/", _tcn_stage("conv3d")),
    *_at("stages.{}.", "stages_{}/", _tcn_stage("conv1d")),
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

# By `config.model.prompt`.
TEXT_ENCODER: dict[str, Rules] = {
    "none": (),
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

# For all joint nets, whose names do not collide.
JOINT: Rules = (
    *_at("", "stage/", _tcn_stage("conv1d")),
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

# The heads in SVTAS's public code.
HEADS: dict[str, Rules] = {
    "memory_tcn": TCN,
    "ms_tcn": TCN,
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
    """Returns the rules of a whole model; arguments as in `config.model`.

    SETE ignores `prompt`, Transeger `head`. Heads that SVTAS's public code lacks have
    no rules.

    Raises:
        ValueError: if there is no such system.
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
