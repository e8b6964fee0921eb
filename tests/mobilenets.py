"""Made-up MobileNetV2s, with the names that other programs give their arrays."""

import numpy as np

from svtas_jax.models.mobilenet_tsm import STAGES, num_channels


def modules_of(stages, width):
    """Yields (place, torch shape of the kernel) of every convolution in order; a place
    is "first", "last" or (stage, block, part)."""
    channels = num_channels(32, width)
    yield "first", (channels, 3, 3, 3)
    for stage, (expansion, features, num_blocks, _) in enumerate(stages):
        features = num_channels(features, width)
        for block in range(num_blocks):
            hidden = expansion * channels
            if expansion > 1:
                yield (stage, block, "expand"), (hidden, channels, 1, 1)
            yield (stage, block, "depthwise"), (hidden, 1, 3, 3)
            yield (stage, block, "project"), (features, hidden, 1, 1)
            channels = features
    yield "last", (num_channels(1280, max(1.0, width)), channels, 1, 1)


def torchvision_module(place):
    """Returns the names of a convolution and of its batch norm."""
    if place in ("first", "last"):
        number = 0 if place == "first" else 18
        return f"features.{number}.0", f"features.{number}.1"
    stage, block, part = place
    number = 1 + sum(stage[2] for stage in STAGES[:stage]) + block
    at = ("depthwise", "project") if stage == 0 else ("expand", "depthwise", "project")
    inner, last = at.index(part), len(at) - 1
    names = (
        (f"{last}", f"{last + 1}") if inner == last else (f"{inner}.0", f"{inner}.1")
    )
    return tuple(f"features.{number}.conv.{name}" for name in names)


def timm_module(place):
    """Returns the names of a convolution and of its batch norm."""
    if place in ("first", "last"):
        return {"first": ("conv_stem", "bn1"), "last": ("conv_head", "bn2")}[place]
    stage, block, part = place
    names = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
    at = ("depthwise", "project") if stage == 0 else ("expand", "depthwise", "project")
    if stage == 0:
        names["project"] = "conv_pw"
    where = f"blocks.{stage}.{block}"
    return f"{where}.{names[part]}", f"{where}.bn{at.index(part) + 1}"


def torch_arrays(module, *, stages=STAGES, width=1.0, seed=0):
    """Returns random arrays as in a file of torchvision's or timm's."""
    rng, arrays = np.random.default_rng(seed), {"classifier.bias": np.zeros(3, "f4")}
    for place, shape in modules_of(stages, width):
        conv, norm = module(place)
        arrays[f"{conv}.weight"] = kernel(rng, shape)
        for name in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{norm}.{name}"] = rng.uniform(0.5, 1.5, shape[0]).astype("f4")
        arrays[f"{norm}.num_batches_tracked"] = np.int64(7)
    return arrays


def folded_arrays(*, stages=STAGES, width=1.0, seed=0):
    """Returns random arrays as in a file with batch norms folded into kernels."""
    rng, arrays = np.random.default_rng(seed), {}
    for place, shape in modules_of(stages, width):
        name = {"first": "stem", "last": "head"}.get(place)
        if name is None:
            stage, block, part = place
            name = f"block{sum(stage[2] for stage in STAGES[:stage]) + block}.{part}"
        arrays[f"{name}.kernel"] = kernel(rng, shape).transpose(2, 3, 1, 0)
        arrays[f"{name}.bias"] = rng.standard_normal(shape[0]).astype("f4")
    return arrays


def kernel(rng, shape):
    """Draws a kernel that keeps the size of its input."""
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return (scale * rng.standard_normal(shape)).astype("f4")
