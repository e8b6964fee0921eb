"""Reads weights from .npz, .safetensors and PyTorch's .pth, .pt and .pkl files.

No code in a file is ever run. PyTorch's files are pickles; like
`torch.load(weights_only=True)`, the reader accepts only tensors, numbers, strings,
lists and dicts, and the attributes of modules in TorchScript archives. It refuses files
that ask for anything else, and does not need PyTorch.
"""

import collections
import io
import json
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime.arrays import read_npz
from svtas_jax.runtime.files import write_atomic

Arrays = dict[str, np.ndarray]

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_SAFETENSORS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Names under which training programs store the weights in a checkpoint.
_INNER = ("state_dict", "model_state_dict", "model", "net")


def read_arrays(path: str | pathlib.Path) -> Arrays:
    """Returns the arrays of a file by name; floating-point ones as float32.

    Raises:
        MissingInputError: if the file does not exist.
        InputError: if it is damaged, of an unknown format, or asks to run code.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(f"the file of weights {path} does not exist.")
    try:
        arrays = dict(_reader(path)(path))
    except InputError:
        raise
    except Exception as error:  # a damaged file can make a parser raise any error
        raise InputError(
            f"{path} is damaged, cut off or not a file of weights ({error}); download "
            "it again. Supported files are .npz, .safetensors, .pth, .pt and .pkl."
        ) from error
    if not arrays:
        raise InputError(f"{path} contains no named arrays.")
    return {name: _plain(array) for name, array in arrays.items()}


def _plain(array: np.ndarray) -> np.ndarray:
    floating = array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16
    return array.astype(np.float32) if floating else array


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path], Mapping]:
    if path.suffix == ".safetensors":
        return _read_safetensors
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".npy") for name in archive.namelist()):
                return read_npz
        return _read_torch_zip
    return _read_torch_legacy


def _read_safetensors(path: pathlib.Path) -> Arrays:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    arrays = {}
    for name, facts in header.items():
        first, last = facts["data_offsets"]
        raw = data[start + first : start + last]
        array = np.frombuffer(raw, _SAFETENSORS[facts["dtype"]])
        arrays[name] = array.reshape(facts["shape"])
    return arrays


def write_safetensors(
    path: str | pathlib.Path, arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes float32 arrays for PyTorch (`safetensors.torch.load_file`)."""
    header, body = {}, io.BytesIO()
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array, np.float32).tobytes()
        offsets = [body.tell(), body.tell() + len(raw)]
        shape = list(np.shape(array))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        body.write(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    write_atomic(path, len(text).to_bytes(8, "little") + text + body.getvalue())


class _Storage:
    """A tensor's memory, which is read after the pickle."""

    def __init__(self, dtype: type, key: str, size: int) -> None:
        self.dtype, self.key, self.size = dtype, key, size


class _Tensor:
    """A view of a storage."""

    def __init__(self, storage: _Storage, offset: int, shape, strides) -> None:
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def read(self, memory: Callable[[_Storage], np.ndarray]) -> np.ndarray:
        """Returns a copy of the view.

        Raises:
            ValueError: if the view exceeds its storage.
        """
        whole = memory(self.storage)
        steps = zip(self.shape, self.strides, strict=True)
        reach = self.offset + sum((size - 1) * step for size, step in steps)
        numbers = (self.offset, *self.shape, *self.strides)
        if 0 in self.shape:
            return np.zeros(self.shape, whole.dtype)
        if min(numbers) < 0 or reach >= len(whole):
            raise ValueError("a tensor reaches beyond its memory")
        strides = tuple(step * whole.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(
            whole[self.offset :], self.shape, strides, writeable=False
        )
        return view.copy()


class _Module(dict):
    """The attributes of an object in a TorchScript archive, such as OpenAI's CLIP. Its
    class is code in the file, which is not read."""

    def __setstate__(self, attributes: Mapping) -> None:
        self.update(attributes)


def _rebuild_tensor(storage, offset, shape, strides, *_):
    return _Tensor(storage, offset, shape, strides)


def _unwrap(inner, *_):
    return inner


def _rebuild_bytes(text, encoding):
    """Converts text to bytes, which old pickle protocols store as latin1 text."""
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding}")
    return text.encode(encoding)


def _rebuild_scalar(dtype, raw):
    return np.frombuffer(raw, dtype)[0]


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _unwrap,
    ("torch", "Size"): tuple,
    **{
        ("torch.jit._pickle", f"build_{kind}list"): _unwrap
        for kind in ("int", "double", "bool", "tensor")
    },
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _rebuild_bytes,
    ("numpy.core.multiarray", "scalar"): _rebuild_scalar,
    ("numpy._core.multiarray", "scalar"): _rebuild_scalar,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Accepts tensors and plain values; refuses everything else."""

    def __init__(self, file: BinaryIO, path: pathlib.Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Returns our replacement for a class or function that a pickle names.

        Raises:
            InputError: if it is not allowed.
        """
        if module.partition(".")[0] == "__torch__":
            return _Module
        found = _ALLOWED.get((module, name))
        if found is None:
            raise InputError(
                f"{self._path} asks for {module}.{name}: a file of weights needs no "
                "such code, and none of it was run. If you trust the file, load it "
                "with PyTorch and save only its state_dict."
            )
        return found

    def persistent_load(self, saved: tuple) -> _Storage:
        """Returns the description of a storage."""
        kind, dtype, key, _, size, *_ = saved
        if kind != "storage":
            raise ValueError(f"{kind!r} instead of a storage")
        return _Storage(dtype, str(key), int(size))


def _read_torch_zip(path: pathlib.Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        content = _Unpickler(io.BytesIO(archive.read(pickled)), path).load()

        def memory(storage):
            raw = archive.read(f"{folder}data/{storage.key}")
            return np.frombuffer(raw, storage.dtype)

        return {name: t.read(memory) for name, t in _tensors(content)}


def _read_torch_legacy(path: pathlib.Path) -> Arrays:
    """Reads the format before PyTorch 1.6: several pickles, then the storages."""
    with path.open("rb") as file:
        if _Unpickler(file, path).load() != _LEGACY_MAGIC:
            raise ValueError("neither a zip archive nor PyTorch's older format")
        for _ in range(2):  # skip protocol version and system information
            _Unpickler(file, path).load()
        content = _Unpickler(file, path).load()
        keys = [str(key) for key in _Unpickler(file, path).load()]
        dtypes = {
            t.storage.key: t.storage.dtype for _, t in _tensors(content, all=True)
        }
        storages = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            dtype = np.dtype(dtypes.get(key, np.uint8))
            if key not in dtypes:
                raise ValueError("a storage that no tensor uses")
            storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        return {n: t.read(lambda s: storages[s.key]) for n, t in _tensors(content)}


def _tensors(content: Any, *, all: bool = False) -> Iterator[tuple[str, _Tensor]]:
    """Yields the tensors of the weights, or all tensors of a checkpoint."""
    if isinstance(content, _Tensor):
        yield "", content
        return
    if isinstance(content, list | tuple) and all:
        for item in content:
            yield from _tensors(item, all=True)
    if not isinstance(content, Mapping):
        return
    if not all:
        for name in _INNER:
            inner = content.get(name)
            if isinstance(inner, Mapping) and not isinstance(content, _Module):
                yield from _tensors(inner)
                return
    for name, item in content.items():
        if isinstance(item, _Tensor):
            yield str(name), item
        elif isinstance(item, _Module) and not all:
            for inner, tensor in _tensors(item):
                yield f"{name}.{inner}", tensor
        elif all:
            yield from _tensors(item, all=True)
