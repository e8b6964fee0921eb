"""Builds an ONNX graph node by node; the operators are methods that return a name."""

import importlib
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from svtas_jax.errors import InputError

OPSET = 18
IR_VERSION = 9
IMAGE = "image/"  # the names of the image branch's nodes begin so
_END = np.iinfo(np.int64).max


def import_onnx() -> ModuleType:
    """Returns the package `onnx`.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise InputError(
            "ONNX files need the package onnx, which is not installed; install "
            "svtas_jax[onnx], or export with --formats=stablehlo."
        ) from error


class Graph:
    """A graph under construction. Values are the names of what nodes compute.

    Attributes:
        part: with what the names of further nodes begin; tools tell nodes by name.
    """

    part = ""

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._nodes, self._inputs, self._outputs = [], [], []
        self._constants = {}
        self._count = 0

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declares an input; sizes with a name are dynamic."""
        self._inputs.append(self._describe(name, dtype, shape))
        return name

    def output(
        self, value: str, name: str, dtype: str, shape: Sequence[int | str]
    ) -> None:
        """Makes a value an output with this name."""
        self._nodes.append(
            self._onnx.helper.make_node("Identity", [value], [name], name)
        )
        self._outputs.append(self._describe(name, dtype, shape))

    def _describe(self, name, dtype, shape):
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        """Adds a node with one output."""
        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        node = self._onnx.helper.make_node(
            kind, list(inputs), [name], f"{self.part}{name}", **attributes
        )
        self._nodes.append(node)
        return name

    def constant(self, array) -> str:
        """Adds an array; equal small ones are stored once."""
        array = np.asarray(array, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = self._onnx.numpy_helper.from_array(array, name)
        return self._constants[key].name

    def floats(self, array) -> str:
        """Adds an array as float32."""
        return self.constant(np.asarray(array, np.float32))

    def ints(self, array) -> str:
        """Adds an array as int64."""
        return self.constant(np.asarray(array, np.int64))

    def cast(self, x: str, dtype: str) -> str:
        """Converts the type."""
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.op("Cast", x, to=kind)

    def reshape(self, x: str, *sizes: int | str) -> str:
        """Reshapes; sizes are numbers, or names of values (1,)."""
        if all(isinstance(size, int) for size in sizes):
            return self.op("Reshape", x, self.ints(sizes))
        parts = [s if isinstance(s, str) else self.ints([s]) for s in sizes]
        return self.op("Reshape", x, self.op("Concat", *parts, axis=0))

    def size(self, x: str, axis: int) -> str:
        """Returns the size of an axis, (1,) int64."""
        return self.op("Shape", x, start=axis, end=axis + 1)

    def transpose(self, x: str, *order: int) -> str:
        """Permutes the axes."""
        return self.op("Transpose", x, perm=order)

    def unsqueeze(self, x: str, *axes: int) -> str:
        """Adds axes of size 1."""
        return self.op("Unsqueeze", x, self.ints(axes))

    def slice(self, x: str, first: int, last: int = _END, *, axis: int) -> str:
        """Returns the elements from `first` to `last`, the end not included."""
        return self.op(
            "Slice", x, self.ints([first]), self.ints([last]), self.ints([axis])
        )

    def linear(self, x: str, kernel: np.ndarray, bias: np.ndarray | None = None) -> str:
        """Multiplies the last axis with kernel (C, D), and adds a bias."""
        y = self.op("MatMul", x, self.floats(kernel))
        return y if bias is None else self.op("Add", y, self.floats(bias))

    def numbers(self, length: str) -> str:
        """Returns 0, 1, ... up to `length` (1,)."""
        end = self.op("Squeeze", length, self.ints([0]))
        return self.op("Range", self.ints(0), end, self.ints(1))

    def rows_at(self, x: str, index: str) -> str:
        """Returns of x (B, T, ...) the steps at index (B, N), which lie in it."""
        return self.op("GatherND", x, self.unsqueeze(index, -1), batch_dims=1)

    def after_steps(self, extended: str, count: str, length: int) -> str:
        """Returns (B, length, ...) of extended (B, length + T, ...), the steps that
        precede the next one after `count` (B,) of the T."""
        index = self.op("Add", self.unsqueeze(count, 1), self.ints(np.arange(length)))
        return self.rows_at(extended, index)

    def clamp(self, x: str, low: int, high: str | int) -> str:
        """Bounds int64 values."""
        high = self.ints(high) if isinstance(high, int) else high
        return self.op("Min", self.op("Max", x, self.ints(low)), high)

    def finish(self, name: str) -> bytes:
        """Checks the graph and returns the file's content."""
        onnx = self._onnx
        graph = onnx.helper.make_graph(
            self._nodes,
            name,
            self._inputs,
            self._outputs,
            initializer=list(self._constants.values()),
        )
        model = onnx.helper.make_model(
            graph,
            producer_name="svtas_jax",
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        return model.SerializeToString()
