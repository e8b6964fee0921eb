"""Reads the text of a compiled GPU program: its kernels, and what each must move.

XLA's text lists the instructions of every computation in the order in which they run;
https://openxla.org/xla/operation_semantics describes them. A kernel reads and writes
each of its arrays once here: what caches keep from being read again, and what a kernel
reads more than once, is not counted.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_BYTES = {"pred": 1, "token": 0, "c64": 8, "c128": 16}  # others end in their bits
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+)(?: \(.*\) -> .*)? \{")
_CALLED = re.compile(r"(?:calls|to_apply|body|called_computations=\{)=?%?([\w.\-]+)")
_LAYER = r'op_name="([^"]*)"'
# They only name memory, or order other instructions.
_FREE = frozenset(
    "parameter constant get-tuple-element tuple bitcast after-all partition-id "
    "replica-id opt-barrier add-dependency".split()
)
_SLICES = ("dynamic-slice", "slice", "gather")
_COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast"),
)


_WITH_OPERANDS = ("all-gather-start", "collective-permute-start", "async-start")


class Array(NamedTuple):
    """Type and shape of an array, such as "bf16" and (32, 112, 112, 96)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Its size in memory."""
        bits = re.search(r"\d+", self.dtype)
        size = _BYTES.get(self.dtype, int(bits[0]) / 8 if bits else 0)
        return math.ceil(math.prod(self.shape) * size)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Something that the GPU is told to do.

    Attributes:
        name: of the instruction.
        kind: "fusion", "reduction", "product", "convolution", "pallas", "copy" or
            "other"; of a collective operation its name, such as "all-reduce".
        layer: the part of the model that it comes from, as JAX names it.
        num_bytes: that it reads and writes; of a collective operation, its arrays.
        flops: of products and convolutions.
        dtype: of the operands of a product or convolution, otherwise empty.
        times: how often it runs.
        is_overlapped: whether other kernels run during a collective operation.
    """

    name: str
    kind: str
    layer: str
    num_bytes: int
    flops: int = 0
    dtype: str = ""
    times: int = 1
    is_overlapped: bool = False

    @property
    def is_collective(self) -> bool:
        """Whether devices exchange data."""
        return self.kind in _COLLECTIVES


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    result: str  # its arrays, as text
    op: str
    operands: tuple[str, ...]  # of a parameter: its number
    attributes: str
    is_root: bool

    @property
    def arrays(self) -> list[Array]:
        return arrays_in(self.result)

    @property
    def num_bytes(self) -> int:
        return sum(array.num_bytes for array in self.arrays)

    @property
    def called(self) -> list[str]:
        return _CALLED.findall(self.attributes)

    def attribute(self, pattern: str) -> str:
        found = re.search(pattern, self.attributes)
        return found[1] if found else ""


_Computation = Mapping[str, _Instruction]


def arrays_in(text: str) -> list[Array]:
    """Returns the arrays that a text names, as in "(f32[2,3]{1,0}, s32[])"."""
    return [
        Array(dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in _ARRAY.findall(text)
    ]


def kernels(program: str) -> list[Kernel]:
    """Returns the kernels of a program, `compiled.as_text()`, in order."""
    computations, entry = _parse(program)
    return list(_Reader(computations).kernels_of(entry, 1))


def _parse(program: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """Returns the computations by name, and the name of the first to run."""
    computations: dict[str, dict[str, _Instruction]] = {}
    entry, current = "", None
    for line in program.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _instruction(*found.groups())
            if instruction:
                current[instruction.name] = instruction
    return computations, entry


def _instruction(root: str | None, name: str, text: str) -> _Instruction | None:
    result_end = _matching(text) if text.startswith("(") else text.index(" ")
    result, rest = text[:result_end], text[result_end:].lstrip()
    op = re.match(r"([\w\-]+)\(", rest)
    if not op:
        return None
    start = op.end() - 1
    end = start + _matching(rest[start:])
    inner = rest[start + 1 : end - 1]
    named = tuple(re.findall(r"%([\w.\-]+)", inner))
    operands = (inner,) if op[1] == "parameter" else named
    return _Instruction(name, result, op[1], operands, rest[end:], root is not None)


def _matching(text: str) -> int:
    """Returns the index after the bracket that closes the first one."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if not depth:
            return index + 1
    return len(text)


class _Reader:
    """Walks through the computations that a program runs."""

    def __init__(self, computations: Mapping[str, _Computation]) -> None:
        self._computations = computations

    def kernels_of(self, name: str, times: int) -> Iterator[Kernel]:
        """Yields the kernels of a computation that runs `times` times."""
        computation = self._computations[name]
        for place, i in enumerate(computation.values()):
            if i.op == "while":
                trips = int(i.attribute(r'known_trip_count"?:\{"n":"(\d+)"') or 1)
                yield from self.kernels_of(
                    i.attribute(r"body=%?([\w.\-]+)"), times * trips
                )
            elif i.op == "call":
                yield from self.kernels_of(i.called[0], times)
            elif i.op == "conditional":
                branches = i.attribute(r"branch_computations=\{([^}]*)\}")
                named = re.findall(r"%?([\w.\-]+)", branches) or re.findall(
                    r"(?:true|false)_computation=%?([\w.\-]+)", i.attributes
                )
                for branch in named:  # at most one runs: an upper bound
                    yield from self.kernels_of(branch, times)
            elif i.op not in _FREE and not i.op.endswith(("-done", "-update")):
                kernel = self._kernel(i, list(computation.values()), place)
                yield dataclasses.replace(kernel, times=times)

    def _kernel(self, i: _Instruction, around: Sequence[_Instruction], place) -> Kernel:
        operands = self._operands(i, {other.name: other for other in around})
        moved = sum(each.num_bytes for each in operands.values()) + i.num_bytes
        kind, flops, dtype = "other", 0, ""
        target = i.attribute(r'custom_call_target="([^"]+)"')
        if collective := self._collective(i):
            kind, moved = collective, i.num_bytes
            if i.op in _WITH_OPERANDS:
                moved -= sum(each.num_bytes for each in operands.values())
        elif i.op == "fusion":
            kind, moved = self._fusion_kind(i), self._fusion_bytes(i)
            flops, dtype = self._flops_within(i.called)
        elif target:
            kind = _kind_of_call(target)
            moved -= sum(array.num_bytes for array in i.arrays[1:])  # working memory
            flops, dtype = _flops_of_call(i, list(operands.values()), target)
        elif i.op in ("dot", "convolution"):
            kind = "product" if i.op == "dot" else "convolution"
            flops, dtype = _flops(i, list(operands.values()))
        elif i.op in ("copy", "transpose", "copy-start"):
            kind = "copy"
        elif i.op == "dynamic-update-slice":
            moved = 2 * list(operands.values())[1].num_bytes
        return Kernel(
            name=i.name,
            kind=kind,
            layer=self._layer(i),
            num_bytes=moved,
            flops=flops,
            dtype=dtype,
            is_overlapped=bool(collective) and _is_overlapped(i, around[place + 1 :]),
        )

    def _operands(self, i, computation) -> dict[str, _Instruction]:
        return {name: computation[name] for name in i.operands if name in computation}

    def _collective(self, i: _Instruction) -> str:
        """Returns the name of a collective operation, or nothing."""
        ops = [i.op.removesuffix("-start")]
        if i.op == "async-start":
            ops = [
                inner.op
                for name in i.called
                for inner in self._computations[name].values()
            ]
        return next((op for op in ops if op in _COLLECTIVES), "")

    def _layer(self, i: _Instruction) -> str:
        """Returns the layer, of a fusion without a name that of its last named part."""
        names = [each.attribute(_LAYER) for each in (*self._within(i.called), i)]
        return next((_short(name) for name in reversed(names) if name), "")

    def _fusion_kind(self, i: _Instruction) -> str:
        body = self._within(i.called)
        ops = {inner.op for inner in body}
        if "dot" in ops or "gemm" in i.attributes:
            return "product"
        if ops <= {"parameter", "transpose", "copy", "bitcast", "tuple", "constant"}:
            return "copy"
        return "reduction" if ops & {"reduce", "reduce-window"} else "fusion"

    def _within(self, names: Sequence[str]) -> list[_Instruction]:
        """Returns the instructions of computations and of fusions inside them."""
        found: list[_Instruction] = []
        for name in names:
            for inner in self._computations.get(name, {}).values():
                found.append(inner)
                if inner.op == "fusion":
                    found += self._within(inner.called)
        return found

    def _flops_within(self, names: Sequence[str]) -> tuple[int, str]:
        """Returns the operations of products in a fusion, and their type."""
        total, dtype = 0, ""
        for name in names:
            body = self._computations.get(name, {})
            for inner in body.values():
                flops, own = 0, ""
                if inner.op in ("dot", "convolution"):
                    flops, own = _flops(inner, [body[n] for n in inner.operands])
                elif inner.op == "fusion":
                    flops, own = self._flops_within(inner.called)
                total, dtype = total + flops, own or dtype
        return total, dtype

    def _fusion_bytes(self, i: _Instruction) -> int:
        """Returns the bytes that a fusion moves: of what it only slices, the slices; of
        what it updates in place, the update."""
        body = self._computations[i.called[0]]
        read = {}
        for inner in body.values():
            if inner.op == "parameter":
                read[i.operands[int(inner.operands[0])]] = _read_of(inner, body)
        (root,) = (inner for inner in body.values() if inner.is_root)
        return sum(read.values()) + _written_by(root, body)


def _short(name: str) -> str:
    """Returns the part of an operation's name that says which layer it is of."""
    name = re.sub(
        r"jit\([\w.<>]*\)/|while/body/|closed_call/|cond/branch_\d+_fun/", "", name
    )
    return name.rpartition("/")[0] or name


def _read_of(parameter: _Instruction, body: _Computation) -> int:
    whole, sliced = parameter.num_bytes, 0
    names, users = [parameter.name], []
    while names:
        name = names.pop()
        for user in body.values():
            if user.op != "parameter" and name in user.operands:
                if user.op == "bitcast":
                    names.append(user.name)
                else:
                    users.append((user, name))
    for user, name in users:
        if user.operands[0] != name or user.op not in (
            *_SLICES,
            "dynamic-update-slice",
        ):
            return whole
        sliced += user.num_bytes if user.op in _SLICES else 0
    return min(whole, sliced) if users else whole


def _written_by(root: _Instruction, body: _Computation) -> int:
    while root.op == "bitcast":
        root = body[root.operands[0]]
    if root.op == "tuple":
        return sum(_written_by(body[name], body) for name in root.operands)
    if root.op == "dynamic-update-slice":
        return 2 * body[root.operands[1]].num_bytes
    return root.num_bytes


def _kind_of_call(target: str) -> str:
    known = {"conv": "convolution", "gemm": "product", "matmul": "product"}
    known |= {"triton": "pallas", "mosaic": "pallas"}
    found = (kind for part, kind in known.items() if part in target.lower())
    return next(found, "other")


def _flops(i: _Instruction, operands: Sequence[_Instruction]) -> tuple[int, str]:
    """Returns the operations of a product or convolution, and its operands' type."""
    left, right = operands[0].arrays[0], operands[1].arrays[0]
    if i.op == "dot":
        axes = i.attribute(r"lhs_contracting_dims=\{([\d,]*)\}").split(",")
        depth = math.prod(left.shape[int(axis)] for axis in axes if axis)
    else:
        depth = _depth(i, right.shape)
    return 2 * math.prod(i.arrays[0].shape) * depth, left.dtype


def _depth(i: _Instruction, filter_shape: Sequence[int]) -> int:
    """Returns how many products a convolution adds up for each output."""
    labels = i.attribute(r"dim_labels=\w+_(\w+)->")
    return math.prod(
        size for label, size in zip(labels, filter_shape, strict=True) if label != "o"
    )


def _flops_of_call(i, operands, target) -> tuple[int, str]:
    """Returns the same of a call of cuBLAS or cuDNN."""
    kind = _kind_of_call(target)
    if len(operands) < 2 or kind not in ("product", "convolution"):
        return 0, ""
    left, right, result = (x.arrays[0] for x in (*operands[:2], i))
    if kind == "product":
        axis = i.attribute(r'"lhs_contracting_dimensions":\["(\d+)"')
        depth = left.shape[int(axis)] if axis else left.shape[-1]
        return 2 * math.prod(result.shape) * depth, left.dtype
    if "BackwardFilter" in target:  # the result is the filter
        return 2 * math.prod(right.shape) * _depth(i, result.shape), left.dtype
    positions = left if "BackwardInput" in target else result
    return 2 * math.prod(positions.shape) * _depth(i, right.shape), left.dtype


def _is_overlapped(i: _Instruction, later: Sequence[_Instruction]) -> bool:
    """Whether kernels run between the start and the end of a collective operation."""
    if not i.op.endswith("-start"):
        return False
    for other in later:
        if i.name in other.operands:
            return False
        if other.op not in _FREE and not other.op.endswith(("-start", "-done")):
            return True
    return False
