"""Transeger's joint nets as ONNX nodes."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from svtas_jax.export.folding import Weights
from svtas_jax.export.onnx_graph import Graph
from svtas_jax.export.onnx_heads import add_stage, layer_norm
from svtas_jax.models import joint as joints


@dataclasses.dataclass(frozen=True)
class JointNodes:
    """Adds a joint net to a graph.

    Attributes:
        graph: gets the nodes.
        weights: of the joint net.
        clip_steps: steps in a chunk.
        count: (B,) int64 name of the number of steps to compute.
        position: (B,) int64 name of that of the first step in its chunk; None if the
            steps are the whole chunk.
    """

    graph: Graph
    weights: Weights
    clip_steps: int
    count: str
    position: str | None

    def add(
        self, net: object, context: Sequence[str], image: str, text: str
    ) -> tuple[list[str], str]:
        """Returns the next context, and logits (B, T, K).

        Args:
            net: the module.
            context: the names of what it remembers.
            image: (B, T, D).
            text: (B, clip_steps, D).
        """
        if isinstance(net, joints.MemoryTCNJoint):
            return self._memory_tcn(context, image, text)
        if isinstance(net, joints.FullyConnectedJoint):
            return [], self._fully_connected(image, text)
        assert isinstance(net, joints.TransformerJoint)
        return self._transformer(net, context, image, text)

    def _memory_tcn(self, context, image, text):
        last = self.clip_steps - 1
        reversed_text = self.graph.op(
            "Gather", text, self.graph.ints(np.arange(last, -1, -1)), axis=1
        )
        met = self._meeting(reversed_text, image)
        x = self.graph.op("Concat", image, met, axis=-1)
        stage = self.weights.of("stage")
        return add_stage(self.graph, stage, context=context, x=x, count=self.count)

    def _fully_connected(self, image, text):
        x = self.graph.op("Concat", image, self._meeting(text, image), axis=-1)
        x = self.graph.op("Tanh", self.graph.linear(x, *self.weights.linear("fc1")))
        return self.graph.linear(x, *self.weights.linear("fc2"))

    def _transformer(self, net, context, image, text):
        graph = self.graph
        x = graph.op("Add", image, self._positions(net, image))
        after = []
        for layer in range(net.num_layers):
            own = self.weights.of(f"layers_{layer}")
            past = context[2 * layer : 2 * layer + 2]
            kept, x = self._decoder_layer(own, past, x, text, net.num_heads)
            after += kept
        x = layer_norm(graph, x, self.weights.of("norm"))
        return after, graph.linear(x, *self.weights.linear("conv_cls"))

    def _positions(self, net, image):
        if net.positions == "learned":
            table = self.weights["positions"]
        else:
            width = net.width
            table = np.asarray(joints.sinusoids(self.clip_steps, width))
        table = self.graph.floats(table)
        if self.position is None:
            return table
        return self.graph.op(
            "Gather", table, self._places(image, self.position), axis=0
        )

    def _places(self, image, position):
        """Returns the places of the steps in their chunk (B, T); those of steps beyond
        its end are the last one."""
        steps = self.graph.numbers(self.graph.size(image, 1))
        first = self.graph.unsqueeze(position, 1)
        return self.graph.clamp(
            self.graph.op("Add", first, steps), 0, self.clip_steps - 1
        )

    def _meeting(self, x, image):
        """Returns the steps of a chunk's x that meet those of the image."""
        if self.position is None:
            return x
        return self.graph.rows_at(x, self._places(image, self.position))

    def _decoder_layer(self, weights, past, x, text, num_heads):
        graph = self.graph
        kept, y = self._attention(
            weights.of("self_attention"), past, x, None, num_heads
        )
        x = layer_norm(graph, graph.op("Add", x, y), weights.of("norm1"))
        _, y = self._attention(weights.of("cross_attention"), (), x, text, num_heads)
        x = layer_norm(graph, graph.op("Add", x, y), weights.of("norm2"))
        y = _gelu(graph, graph.linear(x, *weights.linear("conv1")))
        y = graph.linear(y, *weights.linear("conv2"))
        return kept, layer_norm(graph, graph.op("Add", x, y), weights.of("norm3"))

    def _attention(self, weights, past, x, text, num_heads):
        """Attends to `text`, or without one to the steps so far."""
        graph = self.graph
        source = x if text is None else text
        query = graph.linear(x, *weights.linear("query_projection"))
        width = weights.of("query_projection")["kernel"].shape[-1]
        both = [
            graph.linear(source, *weights.linear(f"{name}_projection"))
            for name in ("key", "value")
        ]
        kept = []
        if past and self.position is not None:
            place = places_of_new(
                graph, self.position, self.count, self.clip_steps, both[0]
            )
            pairs = zip(past, both, strict=True)
            kept = both = [self._extend(old, new, *place) for old, new in pairs]
        mask = None if text is not None else self._mask(x, both[0])
        y = attend(graph, query, *both, num_heads=num_heads, width=width, mask=mask)
        return kept, graph.linear(y, *weights.linear("out_projection"))

    def _extend(self, old, new, index, is_new):
        """Puts the new steps at their places in the chunk, see `joint.Past`."""
        new = self.graph.rows_at(new, index)
        return self.graph.op("Where", self.graph.unsqueeze(is_new, 2), new, old)

    def _mask(self, x, key):
        """Returns which keys a query may see, broadcast to (B, 1, T, T')."""
        graph = self.graph
        steps = graph.unsqueeze(graph.numbers(graph.size(x, 1)), 1)
        keys = graph.numbers(graph.size(key, 1))
        if self.position is not None:
            steps = graph.op("Add", graph.unsqueeze(self.position, 1, 2, 3), steps)
        return graph.op("LessOrEqual", keys, steps)


def places_of_new(
    graph: Graph, position: str, count: str, clip_steps: int, new: str
) -> tuple[str, str]:
    """Returns for every place in a chunk the index of the new step that belongs there,
    within the new ones, and whether there is one; both (B, clip_steps).

    Args:
        graph: gets the nodes.
        position: (B,) int64 number of the steps before.
        count: (B,) int64 number of valid new steps.
        clip_steps: steps in a chunk.
        new: (B, T, ...).
    """
    places = graph.ints(np.arange(clip_steps))
    index = graph.op("Sub", places, graph.unsqueeze(position, 1))
    is_new = graph.op(
        "And",
        graph.op("GreaterOrEqual", index, graph.ints(0)),
        graph.op("Less", index, graph.unsqueeze(count, 1)),
    )
    last = graph.op("Sub", graph.size(new, 1), graph.ints([1]))
    return graph.clamp(index, 0, last), is_new


def attend(
    graph: Graph,
    query: str,
    key: str,
    value: str,
    *,
    num_heads: int,
    width: int,
    mask: str | None = None,
) -> str:
    """Returns multi-head attention (B, T, D) from query (B, T, D) to key and value
    (B, T', D); `mask` broadcasts to (B, heads, T, T')."""

    def split(x):
        x = graph.reshape(
            x, *(graph.size(x, axis) for axis in (0, 1)), num_heads, width // num_heads
        )
        return graph.transpose(x, 0, 2, 1, 3)

    key = graph.transpose(split(key), 0, 1, 3, 2)
    logits = graph.op("MatMul", split(query), key)
    logits = graph.op("Mul", logits, graph.floats(1 / math.sqrt(width // num_heads)))
    if mask is not None:
        logits = graph.op("Where", mask, logits, graph.floats(-np.inf))
    weights = graph.op("Softmax", logits, axis=-1)
    y = graph.transpose(graph.op("MatMul", weights, split(value)), 0, 2, 1, 3)
    return graph.reshape(y, *(graph.size(y, axis) for axis in (0, 1)), width)


def _gelu(graph: Graph, x: str) -> str:
    """x times the normal distribution function."""
    y = graph.op("Erf", graph.op("Mul", x, graph.floats(math.sqrt(0.5))))
    y = graph.op("Add", y, graph.floats(1))
    return graph.op("Mul", graph.op("Mul", x, y), graph.floats(0.5))
