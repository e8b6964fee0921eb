"""Times a model's steps by what computes them: the model itself, or its exports."""

import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import ml_collections
import numpy as np

from data_pipeline.known import class_names_of
from svtas_jax.checkpoints import store
from svtas_jax.config import stream_spec
from svtas_jax.config_rules import validate_config
from svtas_jax.cost.benchmark import FPS
from svtas_jax.cost.measure import noise, random_variables
from svtas_jax.errors import InputError
from svtas_jax.export import int8 as quantising
from svtas_jax.export import write
from svtas_jax.export.load import ENGINES, Exported, load_exported
from svtas_jax.export.programs import FORMAT_OF
from svtas_jax.live.engine import Engine
from svtas_jax.live.exported import ExportedRun, load_exported_run
from svtas_jax.live.run import Run
from svtas_jax.models import build_model
from svtas_jax.runs import TrainedRun

NATIVE = "model"  # the model itself


def random_run(config: ml_collections.ConfigDict) -> TrainedRun:
    """Returns a run of a config's model with random weights.

    Raises:
        InputError: if the config breaks a rule, or reads features.
    """
    validate_config(config)
    if config.data.features:
        raise InputError("live streams are videos, but --config reads features.")
    class_names = class_names_of(config.data)
    model = build_model(config, class_names)
    variables = random_variables(model, model.initial_state(1), noise(config, 1))
    meta = store.Meta(
        config.to_dict(), class_names, fps=FPS, step=0, epoch=0, versions={}
    )
    return TrainedRun("", config, "", meta, model, variables)


def exported(
    run: TrainedRun, engines: Sequence[str], *, int8: bool = False
) -> dict[str, ExportedRun]:
    """Exports a run and loads it for each engine.

    Args:
        run: the model.
        engines: of `ENGINES`.
        int8: quantises by random pictures, which is as fast as by real ones.

    Raises:
        InputError: as `export.write.export` and `export.load.load_exported`.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = write.export(
            pathlib.Path(parent) / "model",
            model=run.model,
            variables=run.variables,
            config=run.config,
            meta=run.meta,
            formats=sorted({FORMAT_OF[engine] for engine in engines}),
        )
        if int8:
            calls = _random_calls(load_exported(folder, "onnxruntime"))
            quantising.replace_step(folder, calls)
        return {engine: load_exported_run(folder, engine) for engine in engines}


def _random_calls(model: Exported) -> Iterator[dict[str, np.ndarray]]:
    facts, rng = model.metadata, np.random.default_rng(0)
    for _ in range(2):
        shape = (1, facts.clip_steps, facts.size, facts.size, 3)
        state = model.initial_state(1)
        call = {
            **state,
            "frames": rng.integers(0, 256, shape, np.uint8),
            "count": np.array([facts.clip_steps], np.int32),
            "starts": np.ones(1, bool),
        }
        if model.text_shape:
            call["text"] = np.asarray(model.text(state["labels"], state.get("scores")))
        yield call


def time_engines(
    run: TrainedRun, *, seconds: float, engines: Sequence[str] = ENGINES
) -> Iterator[tuple[int, dict[str, list[float]]]]:
    """Times single steps of a causal model, and chunks of any model.

    Args:
        run: the model.
        seconds: of each of the two measurements, about.
        engines: of `ENGINES`, besides the model itself; those of ONNX also in int8.

    Yields:
        Steps in a call, and by engine the milliseconds of calls taken in turns.
    """
    runs: dict[str, Run] = {NATIVE: run, **exported(run, engines)}
    if of_onnx := [engine for engine in engines if FORMAT_OF[engine] == "onnx"]:
        small = exported(run, of_onnx, int8=True)
        runs |= {f"{engine} int8": own for engine, own in small.items()}
    clip_steps = stream_spec(run.config).clip_steps
    for steps in (1, clip_steps) if run.causal else (clip_steps,):
        opened = {name: own.open_engine(1, steps) for name, own in runs.items()}
        calls = {name: _call_of(engine) for name, engine in opened.items()}
        yield steps, in_turns(calls, seconds=seconds)


def _call_of(engine: Engine) -> Callable[[], object]:
    shape = (1, engine.steps_per_call)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (*shape, engine.size, engine.size, 3), np.uint8)
    valid, starts = np.ones(shape, bool), np.zeros(1, bool)
    return lambda: engine.run([0], frames, valid, starts)


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, seconds: float
) -> dict[str, list[float]]:
    """Times calls that block until they are done, in rounds with another one first each
    time; at least three rounds after one to warm up."""
    names, times = list(calls), {name: [] for name in calls}
    end, rounds = time.perf_counter() + seconds, -1
    while rounds < 3 or time.perf_counter() < end:
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            begin = time.perf_counter()
            calls[name]()
            if rounds >= 0:
                times[name].append(1e3 * (time.perf_counter() - begin))
        rounds += 1
    return times
