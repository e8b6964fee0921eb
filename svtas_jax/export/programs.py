"""Loads the files of exported programs; each becomes a function of named arrays."""

import importlib
import logging
import pathlib
import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, cast

import jax
import numpy as np

from svtas_jax.errors import InputError
from svtas_jax.streaming import compile_inference

Arrays = Mapping[str, np.ndarray]
Function = Callable[[Arrays], dict[str, np.ndarray]]

FORMAT_OF = {"jax": "stablehlo", "onnxruntime": "onnx", "openvino": "onnx"}


def load_program(path: pathlib.Path, engine: str, outputs: tuple[str, ...]) -> Function:
    """Returns the program in a file, as a function from its inputs to its outputs.

    Args:
        path: of a whole file.
        engine: a key of `FORMAT_OF`.
        outputs: their names, in order.

    Raises:
        InputError: if the engine's package is not installed.
    """
    loaders = {
        "jax": _load_stablehlo,
        "onnxruntime": _load_onnxruntime,
        "openvino": _load_openvino,
    }
    return loaders[engine](path, outputs)


def _load_stablehlo(path: pathlib.Path, outputs: tuple[str, ...]) -> Function:
    """The step takes the state as a dictionary, then the others by position."""
    call = jax.export.deserialize(bytearray(path.read_bytes())).call
    compiled = compile_inference(call)

    def run(arrays):
        own = {n: a for n, a in arrays.items() if f"next_{n}" in outputs}
        others = [a for n, a in arrays.items() if n not in own]
        if "logits" not in outputs:
            return {outputs[0]: np.asarray(compiled(*others))}
        state, logits = compiled(own, *others)
        found = {f"next_{name}": np.asarray(array) for name, array in state.items()}
        return found | {"logits": np.asarray(logits)}

    return run


def _load_onnxruntime(path: pathlib.Path, outputs: tuple[str, ...]) -> Function:
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    # A thread that spins while it waits takes a core from the decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    names = list(outputs)
    return lambda arrays: dict(zip(names, session.run(names, arrays), strict=True))


def _load_openvino(path: pathlib.Path, outputs: tuple[str, ...]) -> Function:
    # Its telemetry reports usage unasked, from a fork of this process, whose threads
    # could then wait for each other for ever. The import goes on without.
    cast(dict[str, Any], sys.modules).setdefault("openvino_telemetry", None)
    # By default it computes in bfloat16 on processors that can.
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = _import("openvino").Core().compile_model(path, "CPU", options)

    own = threading.local()  # a request serves one thread, and sessions share programs

    def run(arrays):
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer(arrays)
        return {name: found[name] for name in outputs}

    return run


def _import(package: str) -> ModuleType:
    """Imports a package; OpenVINO would take away the handlers of the root logger."""
    handlers = logging.getLogger().handlers
    before = list(handlers)
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"--engine={package} needs the package {package}, which is not installed; "
            "install svtas_jax[onnx], or use --engine=jax."
        ) from error
    finally:
        handlers[:] = before
