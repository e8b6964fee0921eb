"""Adapts weights to pixels that are normalised in another way than theirs were."""

import dataclasses

import flax.traverse_util
import numpy as np

from svtas_jax.structs import Params

_KERNEL = "params/image/backbone/conv1/conv/kernel"
_MEAN = "batch_stats/image/backbone/conv1/bn/mean"


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How RGB in 0..1 is normalised: `mean` is subtracted, then divided by `std`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def nearly(self, other: "Pixels") -> bool:
        """Whether both are the same but for rounding to about two decimals."""
        ours, theirs = ((*each.mean, *each.std) for each in (self, other))
        return bool(np.allclose(ours, theirs, rtol=0, atol=2e-3))


# Of torchvision's, timm's and mmaction2's models.
IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# To -1..1, as TensorFlow's MobileNets read them.
SYMMETRIC = Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = Pixels((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758))


def adapt_mobilenet(variables: Params, theirs: Pixels, ours: Pixels) -> Params:
    """Returns weights that compute of `ours` what they computed of `theirs`.

    Theirs are a linear function of ours, which goes into the first convolution: its
    kernel takes the scale, the mean that its batch norm subtracts takes the rest. The
    padding alone differs: around the image is the mean colour of `ours`.

    Args:
        variables: "params" and "batch_stats" with a MobileNet's first convolution.
        theirs: the pixels that the weights were trained on.
        ours: the pixels that they will see.
    """
    scale = np.divide(ours.std, theirs.std)
    offset = np.subtract(ours.mean, theirs.mean) / theirs.std
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    kernel = np.asarray(flat[_KERNEL], np.float64)
    mean = flat[_MEAN] - np.einsum("hwcd,c->d", kernel, offset)
    kernel = kernel * scale[:, None]
    flat |= {_KERNEL: kernel.astype(np.float32), _MEAN: mean.astype(np.float32)}
    return flax.traverse_util.unflatten_dict(flat, sep="/")
