"""The text encoder as an ONNX graph: labels of a chunk to text features.

`models.prompts` explains how a prompt is joined of table rows. Here the tables hold the
rows of one array of vectors: those of the tokens that prompts use, one of zeros, and
the context vectors of every class.
"""

import numpy as np

from svtas_jax.export.folding import Weights
from svtas_jax.export.onnx_graph import Graph
from svtas_jax.export.onnx_heads import layer_norm
from svtas_jax.export.onnx_joint import attend
from svtas_jax.models import prompts, tokenizer
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.structs import IGNORE_LABEL, NO_LABEL


def text_graph(encoder: TextEncoder, weights: Weights) -> bytes:
    """Returns the file's content: labels (B, clip_steps) int32 to text
    (B, clip_steps, features)."""
    graph = Graph()
    labels = graph.input("labels", "int32", ("b", encoder.clip_steps))
    labels = graph.cast(labels, "int64")
    vectors, tables, zero = _renumbered(encoder, weights)
    rows = _rows(graph, encoder, tables, zero, labels)
    x = graph.op("Gather", graph.floats(vectors), rows, axis=0)
    x = graph.op("Add", x, graph.floats(weights["positional_embedding"]))
    x = graph.reshape(x, -1, encoder.tables.max_len, encoder.width)
    for index in range(encoder.num_layers):
        x = _block(graph, x, weights.of(f"resblocks_{index}"), encoder)
    x = layer_norm(graph, x, weights.of("ln_final"))
    x = graph.linear(x, *weights.linear("text_projection"))
    length = encoder.tables.max_len * encoder.features
    x = graph.reshape(x, -1, encoder.clip_steps, length)
    x = graph.linear(x, *weights.linear("squeeze_sentence"))
    graph.output(x, "text", "float32", ("b", encoder.clip_steps, encoder.features))
    return graph.finish("text")


def _renumbered(
    encoder: TextEncoder, weights: Weights
) -> tuple[np.ndarray, list[tuple[str, np.ndarray, np.ndarray]], int]:
    """Returns the vectors (rows, width), the tables (name, rows, lengths), and the
    number of the row of zeros."""
    used = encoder.tables.token_ids()
    vectors = [weights["token_embedding"][used], np.zeros((1, encoder.width))]
    zero, own = len(used), 0
    if encoder.num_context:
        vectors.append(weights["ctx"].reshape(-1, encoder.width))
        own = 0 if encoder.shared_context else encoder.num_context
    tables = []
    for name, table in encoder.tables.parts:
        label = np.arange(len(table.ids))[:, None]  # of its table's rows
        context = zero + 1 + label * own + prompts.CONTEXT - table.ids
        rows = np.where(table.ids <= prompts.CONTEXT, context, zero)
        rows = np.where(table.ids >= 0, np.searchsorted(used, table.ids), rows)
        tables.append((name, rows, table.lengths))
    return np.concatenate(vectors), tables, zero


def _rows(graph: Graph, encoder: TextEncoder, tables, zero: int, labels: str) -> str:
    """Returns the rows of the prompts' vectors (B, T, max_len), see
    `prompts.prompt_ids`."""
    length, used = encoder.tables.max_len, encoder.tables.token_ids()
    index = _indices(graph, encoder, labels)
    position = graph.ints(np.arange(length))
    start = graph.unsqueeze(index["zero"], 2)
    rows = graph.op("Add", start, graph.ints(np.full(length, zero)))
    for name, table, lengths in tables:
        own = graph.op("Gather", graph.ints(lengths), index[name], axis=0)
        own = graph.unsqueeze(own, 2)
        offset = graph.op("Sub", position, start)
        inside = graph.op(
            "And",
            graph.op("GreaterOrEqual", offset, graph.ints(0)),
            graph.op("Less", offset, own),
        )
        column = graph.clamp(offset, 0, table.shape[1] - 1)
        row = graph.op("Gather", graph.ints(table), index[name], axis=0)
        row = graph.op("GatherElements", row, column, axis=2)
        rows = graph.op("Where", inside, row, rows)
        start = graph.op("Add", start, own)
    for label, token, kind in (
        (NO_LABEL, tokenizer.START, "ReduceMin"),  # all labels
        (IGNORE_LABEL, tokenizer.END, "ReduceMax"),  # any label
    ):
        found = graph.cast(graph.op("Equal", labels, graph.ints(label)), "int64")
        found = graph.cast(graph.op(kind, found, graph.ints([1]), keepdims=1), "bool")
        filled = graph.ints(np.searchsorted(used, token))
        rows = graph.op("Where", graph.unsqueeze(found, 2), filled, rows)
    return rows


def _indices(graph: Graph, encoder: TextEncoder, labels: str) -> dict[str, str]:
    """Returns for every kind of table the row of each step, (B, T)."""
    changes = graph.op(
        "Equal", graph.slice(labels, 1, axis=1), graph.slice(labels, 0, -1, axis=1)
    )
    changes = graph.cast(graph.op("Not", changes), "int64")
    run = graph.op("CumSum", changes, graph.ints(1))
    run = graph.op("Pad", run, graph.ints([0, 1, 0, 0]))
    same = graph.op("Equal", graph.unsqueeze(run, 2), graph.unsqueeze(run, 1))
    count = graph.op(
        "ReduceSum", graph.cast(same, "int64"), graph.ints([2]), keepdims=0
    )
    label = graph.op("Max", labels, graph.ints(0))
    zero = graph.op("Mul", labels, graph.ints(0))
    templates = graph.ints(len(prompts.TEMPLATES))
    return {
        "zero": zero,
        "run": graph.op("Min", run, graph.ints(prompts.MAX_RUNS - 1)),
        "count": graph.op("Sub", count, graph.ints(1)),
        "position": graph.op("Add", zero, graph.ints(np.arange(encoder.clip_steps))),
        "label": label,
        "template": graph.op("Mul", label, templates),
    }


def _block(graph: Graph, x: str, weights: Weights, encoder: TextEncoder) -> str:
    """Adds a `TransformerBlock`."""
    own, width = weights.of("attn"), encoder.width
    y = layer_norm(graph, x, weights.of("ln_1"))
    kernel, bias = own.of("in_proj")["kernel"], own.of("in_proj")["bias"]
    query, key, value = (
        graph.linear(y, kernel[:, part], bias[part])
        for part in (slice(i * width, (i + 1) * width) for i in range(3))
    )
    y = attend(graph, query, key, value, num_heads=encoder.num_heads, width=width)
    x = graph.op("Add", x, graph.linear(y, *own.linear("out_proj")))
    y = layer_norm(graph, x, weights.of("ln_2"))
    y = graph.linear(y, *weights.linear("mlp_c_fc"))
    gate = graph.op("Sigmoid", graph.op("Mul", y, graph.floats(1.702)))
    y = graph.op("Mul", y, gate)
    return graph.op("Add", x, graph.linear(y, *weights.linear("mlp_c_proj")))
