"""The last runs of labels, in state and in prompts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import CLASS_NAMES, Kit, System, config_of
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.config import PROMPT_PARTS
from svtas_jax.errors import InputError
from svtas_jax.models import build_model, history, prompts, tokenizer
from svtas_jax.structs import IGNORE_LABEL, NO_LABEL

RUNS, STEPS = 3, 4
NAMES = ("take", "open jar", "pour")
CHUNK = st.one_of(
    st.lists(st.integers(0, 2), min_size=STEPS, max_size=STEPS),
    st.just([IGNORE_LABEL] * STEPS),
)
FIELDS = dict(
    system="transeger",
    backbone="features",
    joint="fc",
    prompt_parts=("history", "context", "name"),
    history_runs=2,
    prompt_len=16,
)
SMALL = System("history", FIELDS)
extended = jax.jit(history.extended)


def plain(labels):
    """Returns the last runs of a list of labels."""
    runs = [label for label, _ in itertools.groupby(x for x in labels if x >= 0)]
    return [NO_LABEL] * max(0, RUNS - len(runs)) + runs[-RUNS:]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CHUNK, CHUNK), max_size=6))
def test_the_history_is_that_of_all_labels(chunks):
    found = jnp.full((2, RUNS), NO_LABEL, jnp.int32)
    for chunk in chunks:
        found = extended(found, jnp.array(chunk, jnp.int32))
    for row in range(2):
        labels = [label for chunk in chunks for label in chunk[row]]
        assert found[row].tolist() == plain(labels)


def test_a_run_that_goes_on_has_not_ended():
    before = jnp.array([[NO_LABEL, 1, 2]] * 2, jnp.int32)
    labels = jnp.array([[2, 2, 0, 0], [0, 2, 2, 2]], jnp.int32)
    found = history.ended(before, labels)
    assert found.tolist() == [[NO_LABEL, NO_LABEL, 1], [NO_LABEL, 1, 2]]


def tables(**options):
    options = dict(clip_steps=STEPS, max_len=60, history_runs=RUNS) | options
    return prompts.build_tables(NAMES, **{"kind": "learned", **options})


@pytest.mark.parametrize("kind", ["learned", "fixed"])
def test_a_prompt_begins_with_the_history(kind):
    usual = tables(kind=kind)
    told = tables(kind=kind, parts=(*PROMPT_PARTS, "history"))
    labels = jnp.array([[0, 0, 1, 1]] * 3, jnp.int32)
    rows = [[NO_LABEL] * 3, [NO_LABEL, 2, 1], [0, 2, 0]]
    ids = prompts.prompt_ids(told, labels, history=jnp.array(rows, jnp.int32))
    without = prompts.prompt_ids(usual, labels)
    np.testing.assert_array_equal(ids[0], without[0])
    for row, sentence in ((1, "Before: pour, open jar."), (2, "Before: take, pour.")):
        words = list(tokenizer.encode(sentence))
        for step in range(STEPS):
            own = ids[row, step]
            assert own[1 : 1 + len(words)].tolist() == words
            rest = own[1 + len(words) :].tolist()
            assert rest == without[row, step, 1 : 1 + len(rest)].tolist()


def test_without_that_part_there_is_no_history():
    assert tables().history_runs == 0
    model = build_model(config_of(SMALL), CLASS_NAMES)
    assert model.initial_state(2).history.shape == (2, 2)
    text = model.text.clone(tables=tables(parts=("name",)))
    assert model.clone(text=text).initial_state(2).history is None


def test_prompts_that_would_be_cut_are_refused():
    longest = prompts.longest_prompt(tables(parts=(*PROMPT_PARTS, "history")))
    ids = prompts.prompt_ids(
        tables(parts=(*PROMPT_PARTS, "history")),
        jnp.array([[1, 0, 1, 0]], jnp.int32),
        history=jnp.array([[1, 0, 2]], jnp.int32),
    )
    used = int(jnp.sum(ids != prompts.PAD, axis=-1).max())
    assert 20 < used <= longest < 60
    config = config_of(SMALL, prompt_len=10)
    with pytest.raises(InputError, match="cuts prompts.*prompt_len=1"):
        build_model(config, CLASS_NAMES)


@pytest.mark.parametrize("feedback", ["labels", "soft"])
@pytest.mark.parametrize("causal", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stream_remembers_what_its_labels_were(causal, feedback):
    """The labels that a state holds when they make way for others, whoever put them
    there; and the scores depend on them."""
    with jax.enable_x64(True):
        kit = Kit(System("history", FIELDS | dict(causal=causal, feedback=feedback)))
        chunk = jax.tree.map(lambda leaf: leaf[0], kit.video(1))
        state, _ = kit.step(kit.variables, kit.start(), chunk)
        assert np.all(np.asarray(state.history) == NO_LABEL)
        given = np.array([[0, 0, 1, 1, 1, 2], [3, 3, 3, 3, 3, 3]], np.int32)
        chunk = chunk.replace(starts=chunk.starts & False)
        state = state.replace(labels=jnp.asarray(given))
        state, _ = kit.step(kit.variables, state, chunk)
        assert state.history.tolist() == [[1, 2], [NO_LABEL, 3]]
        for other, is_same in (
            ([[1, 2], [NO_LABEL, 3]], True),
            ([[1, 0], [3, 0]], False),
        ):
            scores = [
                kit.step(
                    kit.variables,
                    jax.tree.map(
                        jnp.array,
                        state.replace(
                            labels=jnp.full_like(state.labels, 5),
                            history=jnp.array(own, jnp.int32),
                        ),
                    ),
                    chunk,
                )[1]
                for own in (state.history.tolist(), other)
            ]
            assert np.allclose(*scores) == is_same
