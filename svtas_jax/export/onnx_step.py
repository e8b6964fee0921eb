"""The step of SETE, METE and Transeger as an ONNX graph."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.export.folding import Weights
from svtas_jax.export.onnx_graph import IMAGE, Graph
from svtas_jax.export.onnx_heads import add_head
from svtas_jax.export.onnx_image import ImageNodes
from svtas_jax.export.onnx_joint import JointNodes, places_of_new
from svtas_jax.export.onnx_text import text_graph
from svtas_jax.models.mobilenet_tsm import MobileNetTSM
from svtas_jax.models.tcn import TCN
from svtas_jax.models.transeger import Transeger
from svtas_jax.structs import Params


def check(model: Any) -> None:
    """Checks that every part of a model can be written as ONNX.

    Raises:
        InputError: names the first part that cannot.
    """
    for part in _without_onnx(model):
        raise InputError(
            f"{part} cannot be written as ONNX; StableHLO has it: export with "
            "--formats=stablehlo."
        )


def _without_onnx(model: Any) -> Iterator[str]:
    """Yields the names of parts that have no ONNX."""
    backbone = model.image.backbone
    if not isinstance(backbone, MobileNetTSM):
        yield f"the backbone {type(backbone).__name__}"
        return
    if not isinstance(model, Transeger):
        if not isinstance(model.head, TCN):
            yield f"the head {type(model.head).__name__}"
        elif model.head.kind != "memory":
            yield f"the head TCN of kind {model.head.kind!r}"
    elif model.soft:
        yield "config.model.feedback='soft'"
    elif getattr(model.joint, "positions", "") == "fixed_by_row":
        yield "config.model.joint_positions='fixed_by_row'"
    if backbone.reference_padding:
        yield "config.model.reference_padding=True"
    if backbone.dtype != jnp.float32:
        yield f"config.model.dtype={jnp.dtype(backbone.dtype).name!r}"


def step_graph(
    model: Any,
    variables: Params,
    *,
    state: Mapping[str, np.ndarray],
    picture: tuple[int, ...],
    text_width: int,
) -> bytes:
    """Returns the file's content; arguments as in `stablehlo.export_step`."""
    return _Step(model, variables, state, picture, text_width).build()


def text_file(model: Any, variables: Params) -> bytes:
    """Returns the content of the file of a model's text program."""
    weights = _weights(variables)
    return text_graph(model.text, weights.of("text"))


def _weights(variables: Params) -> Weights:
    host = jax.tree.map(np.asarray, variables)
    return Weights(host["params"], host.get("batch_stats", {}))


class _Step:
    """The graph of a step under construction."""

    def __init__(self, model: Any, variables, state, picture, text_width) -> None:
        self._model, self._weights = model, _weights(variables)
        self._initial, self._graph = state, Graph()
        steps = "t" if model.causal else model.clip_steps
        graph = self._graph
        inputs = {
            name: graph.input(name, array.dtype, ("b", *array.shape[1:]))
            for name, array in state.items()
        }
        self._frames = graph.input("frames", "uint8", ("b", steps, *picture))
        self._count = graph.cast(graph.input("count", "int32", ("b",)), "int64")
        starts = graph.input("starts", "bool", ("b",))
        self._text = ""
        if text_width:
            shape = ("b", model.clip_steps, text_width)
            self._text = graph.input("text", "float32", shape)
        self._state = {
            name: self._where(
                starts, graph.constant(array.flat[0]), inputs[name], array
            )
            for name, array in state.items()
        }
        self._steps = steps

    def _where(self, rows: str, new: str, old: str, array: np.ndarray) -> str:
        """Chooses `new` in the rows, else `old`, both shaped as the array."""
        axes = range(1, array.ndim)
        rows = self._graph.unsqueeze(rows, *axes) if axes else rows
        return self._graph.op("Where", rows, new, old)

    def build(self) -> bytes:
        """Returns the file's content."""
        graph, model = self._graph, self._model
        valid = self._before(self._count)
        image = ImageNodes(
            graph, model.image, self._weights.of("image"), self._count, valid
        )
        graph.part = IMAGE
        after, features = image.add(self._frames, self._leaves("image"))
        graph.part = ""
        self._keep("image", after)
        if isinstance(model, Transeger):
            logits = self._transeger(features, valid)
        else:
            after, logits = add_head(
                graph,
                model.head,
                self._weights.of("head"),
                context=self._leaves("context"),
                x=features,
                count=self._count,
            )
            self._keep("context", after)
            logits = self._masked(valid, logits)
        for name, array in self._initial.items():
            shape = ("b", *array.shape[1:])
            graph.output(self._state[name], f"next_{name}", array.dtype, shape)
        head = model.joint if isinstance(model, Transeger) else model.head
        shape = ("b", self._steps, head.num_classes)
        graph.output(logits, "logits", "float32", shape)
        return graph.finish("step")

    def _transeger(self, features: str, valid: str) -> str:
        """Adds the joint net, and keeps the labels of its steps."""
        graph, model = self._graph, self._model
        image = graph.linear(features, *self._weights.linear("project"))
        position, done = None, self._count
        if model.causal:
            position = graph.cast(self._state["position"], "int64")
            room = graph.op("Sub", graph.ints(model.clip_steps), position)
            done = graph.op("Min", room, self._count)
        weights = self._weights.of("joint")
        nodes = JointNodes(graph, weights, model.clip_steps, done, position)
        text = self._text or self._zeros(model.clip_steps, model.features)
        after, logits = nodes.add(model.joint, self._leaves("context"), image, text)
        self._keep("context", after)
        logits = self._masked(self._before(done), logits)
        labels = graph.op("ArgMax", logits, axis=-1, keepdims=0)
        if position is None:
            is_kept = graph.op("Greater", self._count, graph.ints(0))
            labels = graph.cast(labels, "int32")
            array = self._initial["labels"]
            self._state["labels"] = self._where(
                is_kept, labels, self._state["labels"], array
            )
            return logits
        self._run_on(position, done, labels)
        beyond = graph.op("And", valid, graph.op("Not", self._before(done)))
        nan = graph.floats(np.nan)
        return graph.op("Where", graph.unsqueeze(beyond, 2), nan, logits)

    def _run_on(self, position: str, done: str, labels: str) -> None:
        """Adds the labels to the running chunk, and ends it if it is full."""
        graph, steps = self._graph, self._model.clip_steps
        index, is_new = places_of_new(graph, position, done, steps, labels)
        labels = graph.cast(graph.rows_at(labels, index), "int32")
        running = graph.op("Where", is_new, labels, self._state["running"])
        position = graph.op("Add", position, done)
        is_full = graph.op("Equal", position, graph.ints(steps))
        before = self._state["labels"]
        full = graph.unsqueeze(is_full, 1)
        self._state["labels"] = graph.op("Where", full, running, before)
        self._state["running"] = running
        position = graph.op("Where", is_full, graph.ints(0), position)
        self._state["position"] = graph.cast(position, "int32")

    def _zeros(self, *sizes: int) -> str:
        """Returns zeros (B, *sizes)."""
        batch = self._graph.size(self._frames, 0)
        shape = self._graph.op("Concat", batch, self._graph.ints(sizes), axis=0)
        return self._graph.op("Expand", self._graph.floats(0), shape)

    def _before(self, count: str) -> str:
        """Returns which steps come before the `count` (B,) first ones end, (B, T)."""
        steps = self._graph.numbers(self._graph.size(self._frames, 1))
        return self._graph.op("Less", steps, self._graph.unsqueeze(count, 1))

    def _masked(self, valid: str, logits: str) -> str:
        valid = self._graph.unsqueeze(valid, 2)
        return self._graph.op("Where", valid, logits, self._graph.floats(0))

    def _leaves(self, field: str) -> list[str]:
        """Returns the arrays of a field of the state, in order."""
        return [v for name, v in self._state.items() if name.startswith(f"{field}_")]

    def _keep(self, field: str, values: list[str]) -> None:
        names = [name for name in self._state if name.startswith(f"{field}_")]
        self._state |= dict(zip(names, values, strict=True))
