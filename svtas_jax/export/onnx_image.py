"""The image branch as ONNX nodes: MobileNetV2 with temporal shift, (N, C, H, W)."""

import itertools
from collections.abc import Sequence

import numpy as np

from svtas_jax.export.folding import Weights
from svtas_jax.export.onnx_graph import Graph
from svtas_jax.models.image import ImageBranch
from svtas_jax.models.mobilenet_tsm import Block, MobileNetTSM


class ImageNodes:
    """Adds the image branch to a graph.

    Args:
        graph: gets the nodes.
        branch: the module.
        weights: of the module.
        count: (B,) int64 name of the number of valid steps.
        valid: (B, T) name.
    """

    def __init__(
        self,
        graph: Graph,
        branch: ImageBranch,
        weights: Weights,
        count: str,
        valid: str,
    ) -> None:
        assert isinstance(
            branch.backbone, MobileNetTSM
        )  # `onnx_step.check` refuses others
        self._graph, self._branch, self._net = graph, branch, branch.backbone
        self._weights, self._count, self._valid = weights.of("backbone"), count, valid

    def add(self, frames: str, context: Sequence[str]) -> tuple[list[str], str]:
        """Returns the next context, and features (B, T, C) of frames (B, T, H, W, 3).

        In invalid steps they are those of whatever picture is there.
        """
        graph, size = self._graph, self._net.size
        self._sizes = graph.size(frames, 0), graph.size(frames, 1)
        context, after = list(context), []
        x = graph.reshape(graph.cast(frames, "float32"), -1, size, size, 3)
        x = graph.transpose(x, 0, 3, 1, 2)
        x = self._relu6(self._stem(x))
        size = -(-size // 2)
        for name, block in self._named_blocks():
            own = context.pop(0) if block.is_shifted and self._net.causal else None
            x, own = self._block(x, block, self._weights.of(name), own, size)
            after += [own] if own else []
            size = -(-size // block.stride)
        x = self._relu6(self._conv(x, self._weights.conv("conv2")))
        x = graph.op("ReduceMean", x, graph.ints([2, 3]), keepdims=0)
        width = self._weights.of("conv2", "conv")["kernel"].shape[-1]
        return after, graph.reshape(x, *self._sizes, width)

    def _named_blocks(self):
        stages = enumerate(self._net._blocks(), 1)
        named = (
            [(f"layer{stage}_{index}", block) for index, block in enumerate(blocks)]
            for stage, blocks in stages
        )
        return itertools.chain.from_iterable(named)

    def _stem(self, x: str) -> str:
        """Normalises and convolves: the mean is subtracted before the padding, the
        rest is part of the kernel."""
        mean = np.asarray(self._branch.mean, np.float64)
        std = np.asarray(self._branch.std, np.float64)
        x = self._graph.op("Sub", x, self._graph.floats(255 * mean.reshape(3, 1, 1)))
        kernel, bias = self._weights.conv("conv1")
        return self._conv(x, (kernel / (255 * std)[:, None], bias), stride=2)

    def _block(
        self, x: str, block: Block, weights: Weights, context: str | None, size: int
    ) -> tuple[str, str | None]:
        y, names = x, iter(("conv_0", "conv_1", "conv_2"))
        if block.is_shifted:
            fold = block.channels // self._net.shift_div
            context, y = self._shift(x, context, (block.channels, fold, size))
        if block.expansion != 1:
            y = self._relu6(self._conv(y, weights.conv(next(names))))
        y = self._conv(y, weights.conv(next(names)), stride=block.stride)
        y = self._conv(self._relu6(y), weights.conv(next(names)))
        return (self._graph.op("Add", x, y) if block.is_residual else y), context

    def _shift(
        self, x: str, context: str | None, sizes: tuple[int, int, int]
    ) -> tuple[str | None, str]:
        """Returns the next context, and the shifted pictures; see `causal_shift` and
        `temporal_shift`."""
        graph, (channels, fold, size) = self._graph, sizes
        ahead = graph.slice(x, 0, fold, axis=1)
        behind = graph.slice(x, fold, 2 * fold, axis=1)
        behind = graph.reshape(behind, *self._sizes, fold, size, size)
        if context is None:
            ahead = graph.reshape(ahead, *self._sizes, fold, size, size)
            ahead = graph.slice(self._masked(ahead), 1, axis=1)
            ahead = graph.op("Pad", ahead, graph.ints([0] * 6 + [1] + [0] * 3))
            ahead = graph.reshape(ahead, -1, fold, size, size)
            behind = graph.slice(self._masked(behind), 0, -1, axis=1)
            behind = graph.op("Pad", behind, graph.ints([0, 1] + [0] * 8))
        else:
            before = graph.unsqueeze(graph.transpose(context, 0, 3, 1, 2), 1)
            extended = graph.op("Concat", before, behind, axis=1)
            count = graph.unsqueeze(self._count, 1)
            last = graph.op("GatherND", extended, count, batch_dims=1)
            context = graph.transpose(last, 0, 2, 3, 1)
            behind = graph.slice(extended, 0, -1, axis=1)
        behind = graph.reshape(behind, -1, fold, size, size)
        rest = graph.slice(x, 2 * fold, channels, axis=1)
        return context, graph.op("Concat", ahead, behind, rest, axis=1)

    def _masked(self, x: str) -> str:
        valid = self._graph.unsqueeze(self._valid, 2, 3, 4)
        return self._graph.op("Where", valid, x, self._graph.floats(0))

    def _conv(
        self, x: str, weights: tuple[np.ndarray, np.ndarray], *, stride: int = 1
    ) -> str:
        kernel, bias = weights
        if kernel.ndim == 2:
            kernel = kernel[None, None]
        side, groups = kernel.shape[0], kernel.shape[-1] if kernel.shape[2] == 1 else 1
        return self._graph.op(
            "Conv",
            x,
            self._graph.floats(np.transpose(kernel, (3, 2, 0, 1))),
            self._graph.floats(bias),
            group=groups,
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            strides=[stride, stride],
        )

    def _relu6(self, x: str) -> str:
        return self._graph.op("Clip", x, self._graph.floats(0), self._graph.floats(6))
