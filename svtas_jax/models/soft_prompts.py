"""Prompts of uncertain labels: expected token vectors under the classes' probabilities.

A prompt begins with its head, the history and what its run of equal labels says
(ordinal, count, position), and ends with its tail: context vectors, the class's name,
and what follows. A soft prompt's tail is the mean of all classes' tails, weighted by
their probabilities; a shorter tail is padded with zero vectors, as prompts are. With
one class certain, that is exactly the prompt of its label.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from svtas_jax.models import prompts


@dataclasses.dataclass(frozen=True)
class SoftTables:
    """The parts of soft prompts.

    Attributes:
        head: what comes before the tail.
        tails: (K, L) int32 ids of every class's tail, as in `prompts.prompt_ids`.
    """

    head: prompts.PromptTables
    tails: np.ndarray


def split(tables: prompts.PromptTables, num_classes: int) -> SoftTables:
    """Returns the parts of prompts whose class comes last, but for fixed parts.

    A fixed prompt has its first template.
    """
    names = [name for name, _ in tables.parts]
    place = next(n for n, name in enumerate(names) if name in ("label", "template"))
    assert set(names[place + 1 :]) <= {"zero"}  # `config.validate_config`
    rows = len(tables.parts[place][1].ids) // num_classes
    tails = []
    for label in range(num_classes):
        index = [label * rows, *(0 for _ in names[place + 1 :])]
        tail = zip(tables.parts[place:], index, strict=True)
        tails.append([i for (_, t), row in tail for i in t.ids[row, : t.lengths[row]]])
    head = dataclasses.replace(tables, parts=tables.parts[:place])
    return SoftTables(head, prompts.Table.of(tails).ids)


def embed(
    tables: SoftTables,
    labels: jax.Array,
    scores: jax.Array,
    vocabulary: np.ndarray,
    tokens: jax.Array,
    context: jax.Array | None,
    *,
    history: jax.Array | None = None,
) -> jax.Array:
    """Returns the prompts' token vectors (B, T, max_len, D).

    Args:
        tables: see `split`.
        labels: (B, T) int32; their runs give ordinals and counts.
        scores: (B, T, K) probabilities of the classes.
        vocabulary, tokens, context: see `prompts.embed`.
        history: see `prompts.prompt_ids`.
    """
    others = vocabulary, tokens, context
    ids = prompts.prompt_ids(tables.head, labels, history=history)
    head = prompts.embed(ids, labels, *others)
    num_classes, length = tables.tails.shape
    classes = jnp.arange(num_classes)[None]
    tails = prompts.embed(jnp.asarray(tables.tails)[None], classes, *others)[0]
    exact = jax.lax.Precision.HIGHEST  # of a certain class just its vectors
    mean = jnp.einsum("btk,kld->btld", scores, tails, precision=exact)
    begin = jnp.sum(ids != prompts.PAD, axis=-1, keepdims=True)
    place = jnp.arange(ids.shape[-1]) - begin  # a first chunk's head has no room left
    column = jnp.clip(place, 0, length - 1)[..., None]
    moved = jnp.take_along_axis(mean, column, axis=2)
    inside = (place >= 0) & (place < length)
    return jnp.where(inside[..., None], moved, head)
