"""The memory TCN as ONNX nodes: the head of SETE and METE, and in a joint net."""

from collections.abc import Sequence

from svtas_jax.export.folding import Weights
from svtas_jax.export.onnx_graph import Graph
from svtas_jax.models import tcn

_EPSILON = 1e-5  # of layer norms


def add_head(
    graph: Graph,
    head: tcn.TCN,
    weights: Weights,
    *,
    context: Sequence[str],
    x: str,
    count: str,
) -> tuple[list[str], str]:
    """Returns the next context, and the last stage's logits (B, T, K).

    Args:
        graph: gets the nodes.
        head: of kind "memory".
        weights: of the head.
        context: (B, 2 * dilation, D) of each layer.
        x: (B, T, D).
        count: (B,) int64 number of valid steps, which come first.
    """
    after, logits = [], ""
    for stage in range(head.num_stages):
        name = "stage1" if stage == 0 else f"stages_{stage - 1}"
        own = context[stage * head.num_layers : (stage + 1) * head.num_layers]
        own, logits = add_stage(graph, weights.of(name), context=own, x=x, count=count)
        after += own
        x = graph.op("Softmax", logits, axis=-1)
    return after, logits


def add_stage(
    graph: Graph, weights: Weights, *, context: Sequence[str], x: str, count: str
) -> tuple[list[str], str]:
    """Returns the next context and the logits of a stage; arguments as in `add_head`.

    Nothing is masked: invalid steps come last, and no layer looks ahead.
    """
    x = graph.linear(x, *weights.linear("conv_1x1"))
    after = []
    dilations = tcn.dilations(len(context), "memory")
    for index, (memory, dilation) in enumerate(zip(context, dilations, strict=True)):
        own = weights.of(f"layers_{index}")
        extended = graph.op("Concat", memory, x, axis=1)
        after.append(graph.after_steps(extended, count, 2 * dilation))
        y = graph.op(
            "Relu", _three_taps(graph, extended, own.of("conv_dilated"), dilation)
        )
        x = graph.op("Add", x, _normed(graph, y, own))
    return after, graph.linear(x, *weights.linear("conv_out"))


def _normed(graph: Graph, x: str, weights: Weights) -> str:
    """Returns a layer's 1x1 convolution, normalised."""
    if "layer_norm" not in weights:
        return graph.linear(x, *weights.normed("conv_1x1", "norm"))
    x = graph.linear(x, *weights.linear("conv_1x1"))
    return layer_norm(graph, x, weights.of("layer_norm"))


def layer_norm(graph: Graph, x: str, weights: Weights) -> str:
    """Normalises the last axis."""
    scale, bias = graph.floats(weights["scale"]), graph.floats(weights["bias"])
    return graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=_EPSILON)


def _three_taps(graph: Graph, extended: str, weights: Weights, dilation: int) -> str:
    """Convolves (B, T + 2 * dilation, D) to (B, T, features)."""
    taps = [
        graph.slice(extended, 0, -2 * dilation, axis=1),
        graph.slice(extended, dilation, -dilation, axis=1),
        graph.slice(extended, 2 * dilation, axis=1),
    ]
    kernel = weights["kernel"]
    stacked = graph.op("Concat", *taps, axis=-1)
    return graph.linear(stacked, kernel.reshape(-1, kernel.shape[-1]), weights["bias"])
