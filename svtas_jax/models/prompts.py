"""Converts label sequences to prompts inside jit, by indexing precomputed tables.

A prompt describes one decoded step of a labelled chunk:

    [SOS] ordinal[k] "This action lasted {n} frames in current windows, "
          "This is frame {t+1} of the action, "  context vectors  "{name}." [EOS]

where k is the number of the step's run of equal labels, n the run's length in steps and
t the step's index in the chunk. CLIP's byte pair encoding never merges across words, so
a prompt is a concatenation of table rows chosen by k, n, t and the class.

The part "history", which the paper does not have, comes first: "Before: take, open,
pour." names the last runs of labels that ended before the chunk began; see `history`.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from svtas_jax.config import PROMPT_PARTS
from svtas_jax.models import tokenizer
from svtas_jax.models.history import ended
from svtas_jax.structs import IGNORE_LABEL, NO_LABEL, Array

PAD = -1  # stands for a zero vector
CONTEXT = -2  # CONTEXT - i stands for context vector i of the step's class
MAX_RUNS = 35  # number of ordinals; later runs use the last one

TEMPLATES = (
    "the person is {}.",
    "the person is performing the action of {}.",
    "the character is {}.",
    "he or she is {}.",
    "the action {} is being played.",
    "it is the action of {}.",
    "the human is {}.",
    "the person is working on {}.",
    "the scene is {}.",
    "the person is focusing on {}.",
    "the person is completing the action of {}.",
    "the step is {}",
    "the action is {}.",
    "the action step is {}.",
)

_ORDINAL_ONES = "first second third fourth fifth sixth seventh eighth ninth".split()
_ORDINAL_TEENS = (
    "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth "
    "eighteenth nineteenth"
).split()
_ORDINAL_TENS = {20: "twentieth", 30: "thirtieth"}
# SVTAS's public code spells three learned and six fixed ordinals irregularly.
_LEARNED_ODD = {
    11: "This is the eleventhly, ",
    12: "This is the twelfthly action, ",
    16: "This is the sixteenth, ",
}
_FIXED_WITHOUT_LY = range(16, 21)


def _ordinal(number: int) -> str:
    if number < 10:
        return _ORDINAL_ONES[number - 1]
    if number < 20:
        return _ORDINAL_TEENS[number - 10]
    tens, ones = number // 10 * 10, number % 10
    if not ones:
        return _ORDINAL_TENS[tens]
    return f"{tokenizer.number_words(tens)}-{_ORDINAL_ONES[ones - 1]}"


def learned_ordinal(number: int) -> str:
    """Returns the beginning of a learned prompt in run `number` (from 1)."""
    plain = f"This is the {_ordinal(number)} action, "
    return _LEARNED_ODD.get(number, plain)


def fixed_ordinal(number: int) -> str:
    """Returns the beginning of a fixed prompt in run `number` (from 1)."""
    suffix = "" if number in _FIXED_WITHOUT_LY else "ly"
    return f"{_ordinal(number)}{suffix}, ".capitalize()


@dataclasses.dataclass(frozen=True)
class Table:
    """Token sequences of different lengths; sequence i is `ids[i, :lengths[i]]`."""

    ids: np.ndarray  # (rows, longest) int32
    lengths: np.ndarray  # (rows,) int32

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> "Table":
        """Packs sequences of ids."""
        lengths = np.array([len(s) for s in sequences], np.int32)
        ids = np.full((len(sequences), max(1, lengths.max())), PAD, np.int32)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = sequence
        return cls(ids, lengths)


@dataclasses.dataclass(frozen=True)
class PromptTables:
    """The parts of a prompt in order; one index per step chooses a row of each."""

    parts: tuple[tuple[str, Table], ...]  # (index name, see `prompt_ids`, and table)
    max_len: int
    history_runs: int = 0  # runs that the part "history" names at most; 0 without it

    def token_ids(self) -> np.ndarray:
        """Returns every token id that a prompt can contain, ascending."""
        ids = [table.ids[table.ids >= 0] for _, table in self.parts]
        return np.unique(np.concatenate([*ids, [tokenizer.START, tokenizer.END]]))


def build_tables(
    class_names: tuple[str, ...],
    *,
    kind: str,
    clip_steps: int,
    max_len: int,
    num_context: int = 8,
    class_position: str = "end",
    parts: tuple[str, ...] = PROMPT_PARTS,
    history_runs: int = 6,
) -> PromptTables:
    """Precomputes the token ids of all parts.

    Args:
        class_names: by class index.
        kind: "learned" (context vectors and the name) or "fixed" (a template).
        clip_steps: steps in a chunk: the largest count and position.
        max_len: tokens in a prompt, padded or cut.
        num_context: context vectors in a learned prompt.
        class_position: "end", "middle" or "front".
        parts: the parts to include, from `PROMPT_PARTS`. "context" means the vectors of
            a learned prompt, or the sentence around the name in a fixed one.
            "history" may be added to them.
        history_runs: runs in the part "history".
    """
    numbers = [tokenizer.number_words(n) for n in range(1, clip_steps + 1)]
    ordinal = learned_ordinal if kind == "learned" else fixed_ordinal
    encode = tokenizer.encode
    lasted = "This action lasted {} frames in current windows, "
    sentences = {
        "ordinal": ("run", Table.of([encode(ordinal(n + 1)) for n in range(MAX_RUNS)])),
        "count": ("count", _sentences(lasted, numbers)),
        "position": (
            "position",
            _sentences("This is frame {} of the action, ", numbers),
        ),
    }
    prefix = tuple(table for part, table in sentences.items() if part in parts)
    names = class_names if "name" in parts else ("",) * len(class_names)
    if kind == "learned":
        num_context = num_context if "context" in parts else 0
        context = tuple(CONTEXT - i for i in range(num_context))
        tables = _learned_parts(names, context, prefix, class_position)
    else:
        templates = TEMPLATES if "context" in parts else ("{}.",) * len(TEMPLATES)
        tables = _fixed_parts(names, templates, prefix, class_position)
    start = ("zero", Table.of([(tokenizer.START,)]))
    runs = history_runs if "history" in parts else 0
    before = _history_parts(class_names, runs)
    return PromptTables((start, *before, *tables), max_len, runs)


def _history_parts(class_names, num_runs):
    """Row 0 of every table is for no run; row 1 + k is for class k."""
    if not num_runs:
        return ()
    first = Table.of([(), tokenizer.encode("Before:")])
    marks = [","] * (num_runs - 1) + ["."]
    return (
        ("has_history", first),
        *(
            (
                f"history_{place}",
                Table.of(
                    [(), *(tokenizer.encode(name + mark) for name in class_names)]
                ),
            )
            for place, mark in enumerate(marks)
        ),
    )


def longest_prompt(tables: PromptTables) -> int:
    """Returns the largest number of tokens that a prompt can have before it is cut."""
    return int(sum(table.lengths.max() for _, table in tables.parts))


def _sentences(template, words):
    return Table.of([tokenizer.encode(template.format(word)) for word in words])


def _learned_parts(class_names, context, prefix, class_position):
    names = [tokenizer.encode(name) for name in class_names]
    dot = tokenizer.encode(".")
    end = ("zero", Table.of([(*dot, tokenizer.END)]))
    if class_position == "end":
        label = Table.of([(*context, *name) for name in names])
        return (*prefix, ("label", label), end)
    if class_position == "middle":
        half = len(context) // 2
        label = Table.of([(*context[:half], *n, *context[half:]) for n in names])
        return (*prefix, ("label", label), end)
    label = Table.of([(*name, *context) for name in names])
    return (("label", label), *prefix, end)


def _fixed_parts(class_names, templates, prefix, class_position):
    label = Table.of(
        [
            tokenizer.encode(template.format(name))
            for name in class_names
            for template in templates
        ]
    )
    # Two END tokens, as in SVTAS's public code: the template's and the prompt's.
    end = ("zero", Table.of([(tokenizer.END, tokenizer.END)]))
    if class_position == "front":
        return (("template", label), *prefix, end)
    return (*prefix, ("template", label), end)


def prompt_labels(labels: Array, num_steps: int) -> jax.Array:
    """Returns the labels (B, T) int32 of the decoded steps, for prompts.

    If any raw frame of a row is IGNORE_LABEL, even between two decoded steps, the whole
    row is IGNORE_LABEL.

    Args:
        labels: (B, F) int32 of all raw frames.
        num_steps: T.
    """
    ignored = jnp.any(labels == IGNORE_LABEL, axis=1, keepdims=True)
    return jnp.where(ignored, IGNORE_LABEL, labels[:, :: labels.shape[1] // num_steps])


def run_lengths(labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns each step's run of equal labels: its index and its length, both (B, T).

    Args:
        labels: (B, T) int32.
    """
    changes = labels[:, 1:] != labels[:, :-1]
    run = jnp.pad(jnp.cumsum(changes, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))
    count = jnp.sum(run[:, :, None] == run[:, None, :], axis=-1, dtype=jnp.int32)
    return run, count


def prompt_ids(
    tables: PromptTables,
    labels: jax.Array,
    template: Array | int = 0,
    history: jax.Array | None = None,
) -> jax.Array:
    """Returns the prompts' ids (B, T, max_len): token ids, PAD, or CONTEXT - i.

    A row whose labels are all NO_LABEL (a stream's first chunk) is START everywhere; a
    row with an IGNORE_LABEL is END everywhere.

    Args:
        tables: see `build_tables`.
        labels: (B, T) int32 of the decoded steps.
        template: index into TEMPLATES, () or (B, T); fixed prompts only.
        history: (B, history_runs) int32 before the chunk, see `history`; if the tables
            have that part.
    """
    steps = jnp.arange(labels.shape[1], dtype=jnp.int32)
    run, count = run_lengths(labels)
    label = jnp.maximum(labels, 0)
    zero = jnp.zeros_like(labels)
    index = {
        "zero": zero,
        "run": jnp.minimum(run, MAX_RUNS - 1),
        "count": count - 1,
        "position": zero + steps,
        "label": label,
        "template": label * len(TEMPLATES) + template,
    }
    if tables.history_runs:
        assert history is not None  # part of the stream's state
        index |= _history_index(ended(history, labels), zero)
    ids = _concatenate([(t, index[name]) for name, t in tables.parts], tables.max_len)
    first = jnp.all(labels == NO_LABEL, axis=1)[:, None, None]
    ignored = jnp.any(labels == IGNORE_LABEL, axis=1)[:, None, None]
    ids = jnp.where(first, tokenizer.START, ids)
    return jnp.where(ignored, tokenizer.END, ids)


def _history_index(history, zero):
    index = {"has_history": jnp.any(history >= 0, axis=1, keepdims=True)}
    for place in range(history.shape[1]):
        index[f"history_{place}"] = jnp.maximum(1 + history[:, place, None], 0)
    return {name: zero + row for name, row in index.items()}


def _concatenate(parts, max_len):
    """Joins one table row per part for each step: ids (B, T, max_len)."""
    position = jnp.arange(max_len, dtype=jnp.int32)
    start = jnp.zeros_like(parts[0][1])[..., None]
    ids = jnp.full((*parts[0][1].shape, max_len), PAD, jnp.int32)
    for table, index in parts:
        length = jnp.asarray(table.lengths)[index][..., None]
        offset = position - start
        inside = (offset >= 0) & (offset < length)
        row = jnp.asarray(table.ids)[index]
        column = jnp.clip(offset, 0, table.ids.shape[1] - 1)
        ids = jnp.where(inside, jnp.take_along_axis(row, column, axis=-1), ids)
        start = start + length
    return ids


def embed(
    ids: jax.Array,
    labels: jax.Array,
    vocabulary: np.ndarray,
    tokens: jax.Array,
    context: jax.Array | None,
) -> jax.Array:
    """Returns the prompts' token vectors (B, T, max_len, D).

    Args:
        ids: (B, T, max_len) from `prompt_ids`.
        labels: (B, T) int32, choose the row of `context`.
        vocabulary: (V,) the token ids that can occur, ascending.
        tokens: (V, D) their vectors.
        context: (K, num_context, D); (num_context, D) if all classes share it; None
            for fixed prompts.
    """
    vectors = tokens[jnp.searchsorted(vocabulary, ids, method="compare_all")]
    vectors = jnp.where((ids == PAD)[..., None], 0, vectors)
    if context is None:
        return vectors
    index = jnp.clip(CONTEXT - ids, 0, context.shape[-2] - 1)
    if context.ndim == 2:
        learned = context[index]
    else:
        learned = context[jnp.maximum(labels, 0)[..., None], index]
    return jnp.where((ids <= CONTEXT)[..., None], learned, vectors)


@functools.partial(jax.jit, static_argnames=("shape",))
def draw_templates(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws one template index per step, as SVTAS's public code does."""
    return jax.random.randint(key, shape, 0, len(TEMPLATES))
