"""Folds batch norms into the convolutions and linear maps before them, for ONNX."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from svtas_jax.models.norm import BatchNorm


class Weights:
    """The variables of a module, by name, on the host.

    Args:
        params, stats: trees of the module's parameters and batch statistics.
    """

    def __init__(self, params: Mapping[str, Any], stats: Mapping[str, Any]) -> None:
        self._params, self._stats = params, stats

    def of(self, *names: str) -> "Weights":
        """Returns the variables of a module inside this one."""
        params, stats = self._params, self._stats
        for name in names:
            params, stats = params[name], stats.get(name, {})
        return Weights(params, stats)

    def __contains__(self, name: str) -> bool:
        return name in self._params

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._params[name], np.float32)

    def linear(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns kernel (C, D) and bias (D,), None if there is none."""
        own = self.of(name)
        return own["kernel"], own["bias"] if "bias" in own else None

    def affine(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the factor and offset (D,) float64 of a batch norm in evaluation."""
        learned, measured = self._params[name], self._stats[name]
        scale, bias = (np.asarray(learned[n], np.float64) for n in ("scale", "bias"))
        mean, var = (np.asarray(measured[n], np.float64) for n in ("mean", "var"))
        factor = scale / np.sqrt(var + BatchNorm.epsilon)
        return factor, bias - mean * factor

    def conv(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns kernel (..., D) and bias (D,) of a `ConvNorm`."""
        own = self.of(name)
        factor, offset = own.affine("bn")
        return own.of("conv")["kernel"] * factor, offset

    def normed(self, name: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns kernel and bias of a linear map with the batch norm after it."""
        kernel, bias = self.linear(name)
        factor, offset = self.affine(norm)
        return kernel * factor, offset + (0 if bias is None else bias * factor)
