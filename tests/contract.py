"""The systems that keep the streaming contract, small enough to compile in seconds.

A new system joins with one line in `SYSTEMS`; `tests/test_contract.py` then holds it to
everything that a stream promises. All is computed in float64, where sums in another
order are the same to twelve digits on every CPU.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from svtas_jax.config import default_config
from svtas_jax.models import build_model
from svtas_jax.streaming import (
    compile_inference,
    look_ahead,
    make_segmenter,
    segment_chunk,
    start_streams,
)
from svtas_jax.structs import IGNORE_LABEL, Chunk, TrainState
from svtas_jax.training.step import init_carry, make_train_functions

CLASS_NAMES = tuple(
    "take open pour close shake scoop stir put fold spread rest".split()
)
CLIP_FRAMES, STRIDE = 12, 2
CLIP_STEPS = CLIP_FRAMES // STRIDE
TOLERANCE = 1e-5  # of the largest value; losses and logits end in float32


# A batch norm takes away what a bias before it adds, also through a linear map.
NORMED_IMAGE = "backbone/layer1_0/conv_1/bn/bias|backbone/layer2_1/conv_2/bn/bias"
NORMED = f"stage.*/layers_./conv_1x1/bias|{NORMED_IMAGE}"


@dataclasses.dataclass(frozen=True)
class System:
    """A row of the table.

    Attributes:
        name: for people.
        model: fields of `config.model` that differ from the default.
        context: the scores of a chunk depend on what a head remembers. Without it
            (an offline head) the chunk is all that the model sees.
        labels: they depend on the labels of the chunk before, told in words.
        scores: they depend on the probabilities of its classes; then other labels with
            the same borders change nothing.
        feeds_back: the state keeps the labels of the model's own scores.
        image: they depend on what the image branch remembers.
        constant: regular expression of parameters on which nothing depends, besides
            `normed`.
        normed: that of parameters behind which there is a batch norm.
        rare: others have all of its parts; it is tested by `-m slow` alone.
    """

    name: str
    model: dict[str, Any]
    context: bool = True
    labels: bool = False
    scores: bool = False
    feeds_back: bool = False
    image: bool = False
    constant: str = "^$"
    normed: str = NORMED
    rare: bool = False


def _sete(name: str, **row) -> System:
    choice = "backbone" if name in ("i3d", "r2plus1d", "vit", "features") else "head"
    return System(f"sete {name}", {"system": "sete", choice: name}, **row)


def _transeger(joint: str, prompt: str, **row) -> System:
    fields = dict(system="transeger", prompt_len=50, joint=joint, prompt=prompt)
    row = dict(labels=prompt != "none", feeds_back=True) | row
    name = f"transeger {joint} {prompt}"
    if feedback := row.pop("feedback", ""):
        fields, name = fields | dict(feedback=feedback), f"{name} {feedback}"
    return System(name, fields, **row)


def _live(system: str, *, rare: bool = False, normed=NORMED, **model) -> System:
    is_soft = model.get("feedback") == "soft"
    is_transeger = system == "transeger"
    return System(
        " ".join(("causal", system, *(str(value) for value in model.values()))),
        dict(system=system, causal=True, prompt_len=50) | model,
        # What attention remembers is that of the running chunk.
        context=model.get("joint", "memory_tcn") == "memory_tcn",
        labels=is_transeger and model["prompt"] != "none" and not is_soft,
        scores=is_soft,
        feeds_back=is_transeger,
        image=model.get("backbone", "mobilenet_tsm") == "mobilenet_tsm",
        rare=rare,
        normed=normed,
    )


# In its first layer a step's window is the step alone, and its weight 1 whatever its
# query and key are.
_ASFORMER = "layers_0/att_layer/(query|key)_conv"

SYSTEMS = (
    _sete("memory_tcn"),
    System("mete", dict(system="mete", prompt="fixed", prompt_len=40)),
    _transeger("memory_tcn", "learned"),
    _transeger("memory_tcn", "fixed", rare=True),
    _transeger("memory_tcn", "none", rare=True),
    _transeger(
        "memory_tcn", "learned", feedback="soft", labels=False, scores=True, rare=True
    ),
    System(
        "transeger history",
        dict(
            system="transeger",
            prompt_parts=("history", "context", "name"),
            history_runs=2,
            prompt_len=16,
        ),
        labels=True,
        feeds_back=True,
        rare=True,
    ),
    _transeger("transformer", "learned", context=False),
    _transeger("fc", "learned", context=False, rare=True),
    _sete("ms_tcn", context=False),
    _sete("tcn_3d", context=False),
    _sete("asformer", context=False, constant=_ASFORMER),
    _sete("gru", rare=True),
    _sete("gtrm", rare=True),
    _sete("i3d"),
    _sete("r2plus1d", rare=True),
    _sete("vit"),
    _sete("features"),
    System(
        "sete layer norm",
        dict(system="sete", head_norm="layer"),
        normed=NORMED_IMAGE,
        rare=True,
    ),
    _live("sete"),
    _live("sete", backbone="vit", rare=True),
    _live("sete", backbone="features", rare=True),
    _live("mete", prompt="fixed", prompt_len=40, rare=True),
    _live("transeger", joint="memory_tcn", prompt="learned"),
    _live("transeger", joint="memory_tcn", prompt="none", rare=True),
    _live(
        "transeger",
        joint="fc",
        prompt="learned",
        prompt_parts=("history", "context", "name"),
        rare=True,
    ),
    _live(
        "transeger",
        joint="memory_tcn",
        prompt="learned",
        head_norm="layer",
        normed=NORMED_IMAGE,
        rare=True,
    ),
    _live("transeger", joint="memory_tcn", prompt="fixed", feedback="soft", rare=True),
    _live("transeger", joint="fc", prompt="fixed", rare=True),
    _live("transeger", joint="transformer", prompt="learned", rare=True),
    _live(
        "transeger",
        joint="transformer",
        prompt="fixed",
        joint_positions="fixed",
        rare=True,
    ),
)
CAUSAL = tuple(system for system in SYSTEMS if system.model.get("causal"))


def params(systems: Sequence[System]) -> list[Any]:
    """Returns systems as parameters of pytest, with their names."""
    return [
        pytest.param(s, id=s.name, marks=pytest.mark.slow if s.rare else ())
        for s in systems
    ]


def small_model(system: System, **fields):
    """Returns a small model of the system; fields of `config.model` may be changed."""
    model = build_model(config_of(system, **fields), CLASS_NAMES)
    if not hasattr(getattr(model.image, "backbone", None), "blocks"):
        return model
    backbone = model.image.backbone.clone(blocks=(1, 2))
    return model.clone(image=model.image.clone(backbone=backbone))


def config_of(system: System, **fields) -> ml_collections.ConfigDict:
    """Returns the config of a small model of the system."""
    config = default_config()
    config.data.update(clip_frames=CLIP_FRAMES, frame_stride=STRIDE)
    config.data.update(resize=(32, 32), crop=32)
    config.model.update(image_width=0.125, features=8, num_layers=2, num_stages=2)
    config.model.update(image_stages=2, image_layers=1)  # the others repeat them
    config.model.update(joint_features=12, joint_layers=1, joint_heads=2)
    config.model.update(text_width=8, text_layers=1, text_heads=2, num_context=2)
    config.model.update(joint_dropout=0.0, dropout=0.0, channel_masking=0.0)
    config.model.update(train_logit_scale=True, **system.model)
    config.model.update(fields)
    return config


class Kit:
    """A small system with random weights; its programs are compiled on first use."""

    def __init__(self, system: System):
        self.system = system
        self.model = small_model(system, dtype="float64")
        self.has_features = system.model.get("backbone") == "features"
        chunk = jax.tree.map(lambda leaf: leaf[0], self.video(1))
        variables = random_variables(self.model, chunk)
        # A restored checkpoint lies on a device of its own choice.
        self.variables = jax.device_put(variables, jax.devices()[0])

    def start(self, batch_size: int = 2):
        """Returns the state of new streams."""
        return start_streams(self.model, self.variables, batch_size)

    def video(self, num_chunks: int, seed: int = 0) -> Chunk:
        """Returns two videos of noise, leaves (N, 2, ...)."""
        rng = np.random.default_rng(seed)
        shape = (num_chunks, 2, CLIP_STEPS)
        labels = rng.integers(0, len(CLASS_NAMES), shape, np.int32)
        picture = (24,) if self.has_features else (32, 32, 3)
        starts = np.zeros(shape[:2], bool)
        starts[0] = True
        return Chunk(
            frames=rng.normal(size=(*shape, *picture)).astype(np.float32),
            labels=np.repeat(labels, STRIDE, axis=-1),
            valid=np.ones((*shape[:2], CLIP_FRAMES), bool),
            starts=starts,
            num_chunks=np.broadcast_to(np.int32([2, 3]), shape[:2]),
        )

    @functools.cached_property
    def segmenter(self):
        """The scan of `segment_video`: (variables, state, chunks)."""
        return make_segmenter(self.model)

    def scan(self, chunks: Chunk, state=None):
        """Returns the state after the chunks and their logits (N, B, T, K)."""
        return self.segmenter(self.variables, state or self.start(), chunks)

    @functools.cached_property
    def step(self):
        """A live stream's step, which takes over the memory of the state."""
        step = functools.partial(segment_chunk, model=self.model)
        return compile_inference(step, donate_argnums=1)

    @functools.cached_property
    def prepare(self):
        """What a live stream computes before a chunk's frames are there."""
        return compile_inference(functools.partial(look_ahead, model=self.model))

    @functools.cached_property
    def accumulate(self):
        """Training without the optimizer: gradients add up in a carry."""
        weights = dict(smooth_weight=0.15, clip_weight=1.0)
        return make_train_functions(self.model, optax.sgd(0.1), **weights)[0]

    def train(self, chunks: Chunk, *, group: int = 1, begin=None):
        """Accumulates `group` chunks a call; returns train state and carry.

        Args:
            chunks: leaves (N, B, ...).
            group: chunks a call.
            begin: train state and carry to go on with.
        """
        state, carry = begin or self.start_training()
        # A call takes over the memory of what it is given.
        state, carry = jax.tree.map(np.array, (state, carry))
        for first in range(0, len(chunks.starts), group):
            part = jax.tree.map(lambda leaf, i=first: leaf[i : i + group], chunks)
            state, carry = self.accumulate(state, carry, part, jax.random.key(1))
        return state, carry

    def start_training(self):
        """Returns train state and carry before the first chunk."""
        params, stats = self.variables["params"], self.variables["batch_stats"]
        state = TrainState(jnp.int32(0), params, stats, ())
        return state, wide(init_carry(state, self.model, 2))


def wide(tree):
    """Makes float32 leaves float64."""
    floats = jnp.float32
    return jax.tree.map(lambda x: x.astype("float64") if x.dtype == floats else x, tree)


def random_variables(model, chunk):
    """Other than `init`'s, so that nothing is zero or one by chance of its start, and
    of a size that lets every layer's signal through."""
    rng = np.random.default_rng(0)
    state = model.initial_state(2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), state, chunk)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(1 + 0.3 * np.abs(values))
        fan_in = leaf.size / leaf.shape[-1] if leaf.ndim > 1 else 10
        return jnp.asarray(values / np.sqrt(fan_in))

    return {"batch_stats": {}} | jax.tree_util.tree_map_with_path(draw, shapes)


def cut(chunks: Chunk, *, index: tuple[int, int], num_valid: int) -> Chunk:
    """Ends a video within a chunk: `index` is that of the chunk and the row."""
    valid, labels = chunks.valid.copy(), chunks.labels.copy()
    valid[(*index, slice(num_valid, None))] = False
    return chunks.replace(valid=valid, labels=np.where(valid, labels, IGNORE_LABEL))


def with_padding(chunks: Chunk, frames) -> Chunk:
    """Replaces the frames of all steps that are not valid."""
    padded = ~chunks.valid[:, :, ::STRIDE]
    padded = padded.reshape(padded.shape + (1,) * (chunks.frames.ndim - padded.ndim))
    return chunks.replace(frames=np.where(padded, frames, chunks.frames))


def assert_close(ours, expected) -> None:
    """Compares trees: differences are measured by the largest value expected."""
    expected = jax.tree.map(np.asarray, expected)
    sizes = [np.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(expected)]
    allowed = TOLERANCE * float(max(sizes, default=0))

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=allowed)

    jax.tree.map(close, ours, expected)


def differ(ours, theirs) -> bool:
    """Whether arrays differ by more than ten times what `assert_close` allows."""
    apart = np.abs(np.asarray(ours) - np.asarray(theirs)).max()
    return bool(apart > 10 * TOLERANCE * np.abs(np.asarray(theirs)).max())
