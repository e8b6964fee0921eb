"""Determines the kind of a golden file from its contents, never from its name."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator

import numpy as np

from golden_checks import components, host, operators, streams, systems
from golden_checks.files import Arrays, GoldenFile, below
from golden_checks.results import Result
from svtas_jax.weights import rules as weight_rules


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of golden file; without `check` it is known but not yet covered."""

    name: str
    matches: Callable[[GoldenFile], bool]
    check: Callable[[GoldenFile], Iterator[Result]] | None = None


def kind_of(file: GoldenFile) -> Kind | None:
    """Returns the first kind that the file's contents match."""
    return next((kind for kind in KINDS if kind.matches(file)), None)


def _stream(build: Callable[..., components.Component]):
    return lambda file: streams.check_stream(file, build)


def _tcn(**options):
    return _stream(functools.partial(components.tcn_head, **options))


def _has_state(*patterns: str):
    """Matches files that have a weight for each of these patterns."""

    def matches(file: GoldenFile) -> bool:
        names = "\n".join([*below(file.arrays, "state/"), *below(file.arrays, "rows/")])
        return all(re.search(f"^{p}", names, re.MULTILINE) for p in patterns)

    return matches


def _takes(file: GoldenFile, *inputs: str) -> bool:
    """Whether chunks have these inputs."""
    names = {name.split("/in/")[-1] for name in file.arrays if "/in/" in name}
    return names >= set(inputs)


def _remembers(file: GoldenFile) -> bool:
    return any("/memory/" in name for name in file.arrays)


def _weight_axes(file: GoldenFile, name: str) -> int:
    return np.ndim(file.arrays.get(f"state/{name}", 0))


def _cases_with(*names: str):
    """Matches files with cases, the first of which has these arrays."""
    return lambda file: "cases" in file.meta and _has(below(file.arrays, "0/"), names)


def _has(arrays: Arrays, names) -> bool:
    return all(name in arrays for name in names)


def _described(*keys: str):
    return lambda file: all(key in file.meta for key in keys)


_is_tcn = _has_state(r"layers\.0\.conv_dilated\.weight")
_is_staged_tcn = _has_state(r"stage1\.layers\.0\.conv_dilated\.weight")
_is_asformer = _has_state(r"encoder\.layers\.0\.att_layer\.")
_is_resnet = _has_state(r"conv1\.", r"layer1\.0\.conv1\.")

# The first match counts, so more specific kinds come first.
KINDS = (
    Kind(
        "training trajectory",
        lambda f: systems.system_name(f) is not None and "losses" in f.arrays,
        systems.check_trajectory,
    ),
    *(
        Kind(
            name, lambda f, n=name: systems.system_name(f) == n, _stream(systems.system)
        )
        for name in systems.SYSTEMS.values()
    ),
    Kind("other system", lambda f: "architecture" in f.meta.get("config", {})),
    Kind(
        "MobileNetV2 with temporal shift",
        _has_state(r"conv1\.conv\.weight", r"layer2\.0\.conv\.0\."),
        _stream(components.mobilenet_tsm),
    ),
    Kind("3D ResNet", _is_resnet, _stream(components.resnet_3d)),
    Kind(
        "text encoder",
        _has_state(r"prompt(_learner)?\.token_embedding", "squeeze_sentence"),
        _stream(components.text_encoder),
    ),
    Kind(
        "ASFormer, videos mixed up",
        lambda f: _is_asformer(f) and f.settings.get("N", 1) > 1,
        _stream(components.mixed_up_asformer_head),
    ),
    Kind("ASFormer", _is_asformer, _stream(components.asformer_head)),
    Kind(
        "joint net",
        lambda f: _takes(f, "img", "text"),
        _stream(components.joint_net),
    ),
    Kind(
        "memory TCN",
        lambda f: _is_staged_tcn(f) and _remembers(f),
        _tcn(kind="memory"),
    ),
    Kind(
        "3D TCN",
        lambda f: _weight_axes(f, "layers.0.conv_dilated.weight") == 5,
        _tcn(kind="3d", rules=weight_rules.TCN_3D),
    ),
    Kind(
        "MS-TCN",
        _is_staged_tcn,
        _tcn(kind="plain"),
    ),
    Kind(
        "MS-TCN, a stage",
        _is_tcn,
        _tcn(kind="plain", rules=weight_rules.SINGLE_STAGE),
    ),
    Kind(
        "temporal shift",
        _cases_with("x", "y", "cotangent", "grad_x"),
        operators.check_temporal_shift,
    ),
    Kind("pooling neck", _cases_with("x", "y0", "cot0"), operators.check_pooling_neck),
    Kind(
        "embedding head",
        _cases_with("x", "mask", "y", "cot"),
        operators.check_embedding_head,
    ),
    Kind(
        "segmentation loss",
        _cases_with("score", "loss", "grad_score"),
        operators.check_segmentation_loss,
    ),
    Kind(
        "clip loss", _cases_with("img_feature", "clip/loss"), operators.check_clip_loss
    ),
    Kind(
        "optimizer",
        _described("learning_rate", "betas", "weight_decay"),
        operators.check_optimizer,
    ),
    Kind("stitching", _cases_with("0/scores", "out/0/score"), host.check_stitching),
    Kind("transform", _cases_with("image_uint8"), host.check_transform),
    Kind("windows", _cases_with("raw_labels"), host.check_sampler),
    Kind("prompts", _described("ordinal_learner", "cases"), host.check_prompts),
    Kind("tokenizer", _described("vocab_size", "texts"), host.check_tokenizer),
    Kind("metrics", _described("background_names", "cases"), host.check_metrics),
)
