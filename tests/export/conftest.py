"""Exported models of small systems whose weights carry signal."""

import dataclasses
import pathlib
import re
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax.checkpoints import store
from svtas_jax.export import write
from svtas_jax.models import build_model
from svtas_jax.structs import Model, Params

CLIP_STEPS = 4  # of the small models
LAST = re.compile("params/.*(conv_out|fc2|conv_cls)/kernel")  # the greatest: stages_0


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A small system, and the folder of its exported model."""

    model: Model
    variables: Params
    folder: pathlib.Path
    export: dict[str, Any]  # arguments of `write.export`


def loud_variables(model, chunk, *, seed=0):
    """Weights with which pictures and states change logits and labels."""
    rng = np.random.default_rng(seed)
    state = model.initial_state(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), state, chunk)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(1 + 0.3 * np.abs(values), jnp.float32)
        fan_in = leaf.size / leaf.shape[-1] if leaf.ndim > 1 else 10
        return jnp.asarray(1.5 * values / np.sqrt(fan_in), jnp.float32)

    variables = {"batch_stats": {}} | jax.tree_util.tree_map_with_path(draw, shapes)
    return with_even_logits(model, variables, chunk)


def with_even_logits(model, variables, chunk):
    """Changes the last layer so that the logits of every class have mean 0 and standard
    deviation 1: no class wins everywhere."""
    scores = jax.jit(lambda *own: model.apply(variables, *own)[1].logits[-1, 0])
    rng, found = np.random.default_rng(1), []
    for _ in range(50):
        scene = rng.integers(0, 256, (1, 1, 1, 1, 3))
        frames = rng.integers(0, 256, chunk.frames.shape) // 2 + scene // 2
        state = model.initial_state(1)
        labels = rng.integers(0, 4, state.labels.shape, np.int32)
        chunk = chunk.replace(frames=np.uint8(frames))
        found.append(np.asarray(scores(state.replace(labels=labels), chunk)))
    found = np.concatenate(found)
    mean, factor = found.mean(axis=0), 1 / found.std(axis=0)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    fitting = [n for n in flat if LAST.search(n) and flat[n].shape[-1] == len(mean)]
    last = max((name.rpartition("/")[0] for name in fitting), default=None)
    if last is None:  # a head whose last layer has another name
        return variables
    flat[f"{last}/kernel"] *= factor
    flat[f"{last}/bias"] = (flat[f"{last}/bias"] - mean) * factor
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def small_model(tiny, system, fields):
    """A model of a ViT has no stages to leave out."""
    if fields.get("backbone") != "vit":
        return tiny.model(system, **fields)
    config = tiny.config(system)
    config.model.update(fields)
    return build_model(config, tiny.classes)


@pytest.fixture(scope="session")
def make_case(tiny, tmp_path_factory):
    """Exports a small system; fields are those of `config.model`."""

    made = {}

    def make(system, formats=write.FORMATS, **fields):
        key = (system, *fields.items())
        if key not in made:
            made[key] = build(system, formats, fields)
        return made[key]

    def build(system, formats, fields):
        config, model = tiny.config(system), small_model(tiny, system, fields)
        config.model.update(fields)
        chunk = jax.tree.map(lambda leaf: leaf[0], tiny.chunks(1, 1))
        variables = loud_variables(model, chunk)
        meta = store.Meta(
            config=config.to_dict(),
            class_names=tiny.classes,
            fps=15.0,
            step=7,
            epoch=1,
            versions={},
        )
        own = dict(model=model, variables=variables, config=config, meta=meta)
        folder = tmp_path_factory.mktemp("export") / "model"
        write.export(folder, **own, formats=formats)
        return Case(model, variables, folder, own)

    return make
