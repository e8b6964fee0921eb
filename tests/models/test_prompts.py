"""Prompts are assembled inside jit from tables; golden files pin their words."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.config import PROMPT_PARTS
from svtas_jax.models import prompts, tokenizer
from svtas_jax.models.text_encoder import TextEncoder
from svtas_jax.structs import IGNORE_LABEL, NO_LABEL

NAMES = ("take", "cut_tomato", "background")


def tables(kind="learned", *, clip_steps=4, max_len=50, num_context=8, **options):
    return prompts.build_tables(
        NAMES,
        kind=kind,
        clip_steps=clip_steps,
        max_len=max_len,
        num_context=num_context,
        **options,
    )


def prompt_ids(prompt_tables, labels, template=0):
    """Faster than operation by operation."""
    assemble = jax.jit(functools.partial(prompts.prompt_ids, prompt_tables))
    return np.asarray(assemble(labels, template))


def ids_of(text):
    return list(tokenizer.encode(text))


def test_a_learned_prompt_says_run_length_place_and_name():
    labels = jnp.array([[1, 1, 0, 0]], jnp.int32)
    ids = prompt_ids(tables(), labels)[0, 2]
    words = (
        "This is the second action, This action lasted two frames in current windows, "
        "This is frame three of the action, "
    )
    context = [prompts.CONTEXT - i for i in range(8)]
    expected = [
        tokenizer.START,
        *ids_of(words),
        *context,
        *ids_of("take."),
        tokenizer.END,
    ]
    np.testing.assert_array_equal(ids[: len(expected)], expected)
    assert np.all(ids[len(expected) :] == prompts.PAD)


def test_a_fixed_prompt_ends_with_the_template_of_the_step():
    labels = jnp.array([[1, 1, 2, 2]], jnp.int32)
    template = jnp.array([[0, 4, 11, 13]], jnp.int32)
    ids = prompt_ids(tables("fixed"), labels, template)[0]
    for step, (template_index, label) in enumerate([(0, 1), (4, 1), (11, 2), (13, 2)]):
        sentence = prompts.TEMPLATES[template_index].format(NAMES[label])
        expected = [*ids_of(sentence), tokenizer.END, tokenizer.END]
        told = ids[step][ids[step] != prompts.PAD]
        np.testing.assert_array_equal(told[-len(expected) :], expected)


@pytest.mark.parametrize("position", ["front", "middle", "end"])
@pytest.mark.parametrize("kind", ["learned", "fixed"])
def test_the_position_of_the_class_moves_words_and_loses_none(kind, position):
    labels = jnp.array([[1, 0, 0, 2]], jnp.int32)
    ids = prompt_ids(tables(kind, class_position=position), labels)
    usual = prompt_ids(tables(kind), labels)
    np.testing.assert_array_equal(np.sort(ids, -1), np.sort(usual, -1))
    assert np.array_equal(ids, usual) == (
        position == "end" or (position, kind) == ("middle", "fixed")
    )


@pytest.mark.parametrize("kind", ["learned", "fixed"])
@pytest.mark.parametrize("left_out", PROMPT_PARTS)
def test_a_part_that_is_left_out_takes_its_words_along(kind, left_out):
    labels = jnp.array([[1, 1, 0, 0]], jnp.int32)
    parts = tuple(part for part in PROMPT_PARTS if part != left_out)
    ids = prompt_ids(tables(kind, parts=parts), labels)[0, 2]
    told = {
        "ordinal": "This is the second action, " if kind == "learned" else "Secondly, ",
        "count": "This action lasted two frames in current windows, ",
        "position": "This is frame three of the action, ",
        "name": "take",
    }
    told = {part: ids_of(words) for part, words in told.items()} | {left_out: []}
    context = [prompts.CONTEXT - i for i in range(8)] if "context" in parts else []
    before, end = context, [*ids_of("."), tokenizer.END]
    if kind == "fixed":
        before = ids_of("the person is") if "context" in parts else []
        end = [*ids_of("."), tokenizer.END, tokenizer.END]
    expected = [
        tokenizer.START,
        *told["ordinal"],
        *told["count"],
        *told["position"],
        *before,
        *told["name"],
        *end,
    ]
    np.testing.assert_array_equal(ids[ids != prompts.PAD], expected)


def test_long_prompts_are_cut():
    labels = jnp.array([[1, 1, 1, 1]], jnp.int32)
    whole = prompt_ids(tables(), labels)
    cut = prompt_ids(tables(max_len=20), labels)
    np.testing.assert_array_equal(cut, whole[..., :20])


def test_more_runs_than_ordinals_use_the_last_one():
    labels = (jnp.arange(64, dtype=jnp.int32) % 2)[None]
    ids = prompt_ids(tables(clip_steps=64), labels)[0]
    last = ids_of("This is the thirty-fifth action, ")
    for step in (34, 35, 63):
        np.testing.assert_array_equal(ids[step, 1 : 1 + len(last)], last)
    assert np.any(ids[33, :10] != ids[34, :10])


@pytest.mark.parametrize(
    "row, token",
    [([NO_LABEL] * 4, tokenizer.START), ([0, 0, 1, IGNORE_LABEL], tokenizer.END)],
)
def test_new_streams_and_rows_to_ignore_have_one_token(row, token):
    labels = jnp.array([row, [0, 0, 1, 1]], jnp.int32)
    ids = prompt_ids(tables(), labels)
    assert np.all(ids[0] == token)
    alone = prompt_ids(tables(), labels[1:])
    np.testing.assert_array_equal(ids[1], alone[0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_run_lengths_equal_a_plain_loop(labels):
    run, count = prompts.run_lengths(jnp.array([labels], jnp.int32))
    lengths = [len(list(group)) for _, group in itertools.groupby(labels)]
    np.testing.assert_array_equal(run[0], np.repeat(range(len(lengths)), lengths))
    np.testing.assert_array_equal(count[0], np.repeat(lengths, lengths))


def test_prompt_labels_ignore_a_row_for_any_frame():
    labels = jnp.array([[3, 3, 4, 4], [3, 3, 4, IGNORE_LABEL]], jnp.int32)
    told = prompts.prompt_labels(labels, 2)
    np.testing.assert_array_equal(told, [[3, 4], [IGNORE_LABEL, IGNORE_LABEL]])


def test_a_vector_is_a_row_of_the_tokens_or_of_the_class_or_zero():
    labels = jnp.array([[1, 0, 0, 2]], jnp.int32)
    prompt_tables = tables(num_context=2)
    ids, used = prompt_ids(prompt_tables, labels), prompt_tables.token_ids()
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(tokenizer.VOCAB_SIZE, 3)).astype(np.float32)
    context = rng.normal(size=(len(NAMES), 2, 3)).astype(np.float32)
    vectors, shared = (
        np.asarray(prompts.embed(ids, labels, used, tokens[used], own))
        for own in (context, context[0])
    )
    for step, place in itertools.product(range(4), range(50)):
        index, label = int(ids[0, step, place]), int(labels[0, step])
        expected = same = np.zeros(3)
        if index >= 0:
            expected = same = tokens[index]
        elif index <= prompts.CONTEXT:
            expected = context[label, prompts.CONTEXT - index]
            same = context[0, prompts.CONTEXT - index]
        np.testing.assert_array_equal(vectors[0, step, place], expected)
        np.testing.assert_array_equal(shared[0, step, place], same)


def test_token_ids_lists_all_that_prompts_use():
    prompt_tables = tables()
    labels = jnp.array([[1, 0, 0, 2], [NO_LABEL] * 4, [2, 2, 2, 2]], jnp.int32)
    ids = prompt_ids(prompt_tables, labels)
    assert set(ids[ids >= 0]) <= set(prompt_tables.token_ids().tolist())


def test_drawn_templates_depend_on_the_key_and_use_all():
    draw = functools.partial(prompts.draw_templates, shape=(8, 64))
    drawn = draw(jax.random.key(0))
    assert set(np.unique(drawn)) == set(range(len(prompts.TEMPLATES)))
    np.testing.assert_array_equal(drawn, draw(jax.random.key(0)))
    assert np.any(drawn != draw(jax.random.key(1)))


def test_the_text_encoder_tells_steps_and_videos_apart():
    encoder = TextEncoder(
        tables=tables(max_len=30, num_context=2),
        num_classes=len(NAMES),
        clip_steps=4,
        features=5,
        width=8,
        num_layers=1,
        num_heads=2,
        num_context=2,
    )
    labels = jnp.array([[0, 0, 1, 1], [2, 2, 2, 2]], jnp.int32)
    variables = jax.jit(encoder.init)(jax.random.key(0), labels)
    encode = jax.jit(encoder.apply)
    features = encode(variables, labels)
    assert features.shape == (2, 4, 5)
    changed = encode(variables, labels.at[1, 3].set(0))
    np.testing.assert_allclose(changed[0], features[0], rtol=1e-6)
    # The last step's run is another one, and the run before it is shorter.
    assert np.all(np.any(np.asarray(changed[1] != features[1]), axis=-1))


def test_ids_of_a_chunk_compile_once():
    count = 0

    @jax.jit
    def assemble(labels):
        nonlocal count
        count += 1
        return prompts.prompt_ids(tables(), labels)

    for row in ([0, 0, 1, 1], [2, 2, 2, 2], [NO_LABEL] * 4):
        assemble(jnp.array([row], jnp.int32))
    assert count == 1


@pytest.mark.parametrize("number", [-1, 1000])
def test_numbers_that_cannot_be_spelt_are_refused(number):
    with pytest.raises(ValueError, match="only 0 to 999"):
        tokenizer.number_words(number)
