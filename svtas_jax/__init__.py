"""Real-time action segmentation of video streams: SETE, METE and Transeger in JAX.

    import svtas_jax
    run = svtas_jax.load("runs/gtea")
    result = run.segment("video.mp4")

The names in `__all__` are the public interface, imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svtas_jax.config import default_config
    from svtas_jax.config_rules import validate_config
    from svtas_jax.errors import InputError
    from svtas_jax.evaluation.results import ChunkResult, VideoResult
    from svtas_jax.live.exported import ExportedRun
    from svtas_jax.live.results import StepResult
    from svtas_jax.live.run import Run
    from svtas_jax.live.session import LiveSession
    from svtas_jax.models import build_model
    from svtas_jax.runs import TrainedRun, load
    from svtas_jax.runtime.configs import get_config
    from svtas_jax.streaming import segment_chunk, segment_video
    from svtas_jax.structs import Chunk, Segment, StreamSpec, StreamState

__version__ = "0.2.0"

__all__ = [
    "Chunk",
    "ChunkResult",
    "ExportedRun",
    "InputError",
    "LiveSession",
    "Run",
    "Segment",
    "StepResult",
    "StreamSpec",
    "StreamState",
    "TrainedRun",
    "VideoResult",
    "build_model",
    "default_config",
    "get_config",
    "load",
    "segment_chunk",
    "segment_video",
    "validate_config",
]

_HOMES = {
    "Chunk": "structs",
    "ChunkResult": "evaluation.results",
    "ExportedRun": "live.exported",
    "InputError": "errors",
    "LiveSession": "live.session",
    "Run": "live.run",
    "Segment": "structs",
    "StepResult": "live.results",
    "StreamSpec": "structs",
    "StreamState": "structs",
    "TrainedRun": "runs",
    "VideoResult": "evaluation.results",
    "build_model": "models",
    "default_config": "config",
    "get_config": "runtime.configs",
    "load": "runs",
    "segment_chunk": "streaming",
    "segment_video": "streaming",
    "validate_config": "config_rules",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'svtas_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"svtas_jax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists all public names, imported or not."""
    return sorted({*globals(), *__all__})
