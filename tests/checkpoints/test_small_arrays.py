"""What a checkpoint writes as few vectors must come back as it was."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svtas_jax.checkpoints import small_arrays, store
from svtas_jax.errors import InputError

KINDS = ("float32", "bfloat16", "int32", "bool")
NAMES = st.text("abz_", min_size=1, max_size=4)
LEAVES = st.builds(
    lambda shape, kind, seed: jnp.asarray(
        np.random.default_rng(seed).integers(0, 2, shape), kind
    ),
    st.lists(st.integers(1, 3), max_size=3),
    st.sampled_from(KINDS),
    st.integers(0, 9),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(NAMES, inner, min_size=1, max_size=4)
        | st.lists(inner, min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=8,
)


def _assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(tree=st.dictionaries(NAMES, TREES, min_size=1, max_size=3))
def test_what_is_unpacked_is_what_was_packed(tree):
    arrays, layout = small_arrays.pack(tree)
    assert layout == small_arrays.layout_of(tree)
    layout, packed = json.loads(json.dumps(layout)), jax.tree.map(np.asarray, arrays)
    assert len(packed) <= len(KINDS)
    _assert_same(small_arrays.rebuild(small_arrays.unpack(packed, layout), tree), tree)


@pytest.fixture
def tree(monkeypatch):
    monkeypatch.setattr(small_arrays, "SMALL", 100)
    big, small = jnp.arange(240.0).reshape(8, 30), jnp.arange(8)
    return {"params": {"big": big, "small": small}, "moments": (big + 1, small - 1)}


def _write(workdir, tree):
    with store.open_manager(str(workdir)) as manager:
        args = ocp.args.Composite(model=store.packed(tree))
        manager.save(1, args=args)


def _read(workdir, template):
    with store.open_manager(str(workdir), read_only=True) as manager:
        return store.read(manager, 1, model=template)["model"]


def test_a_template_may_be_shapes_alone(tree, tmp_path):
    _write(tmp_path, tree)
    _assert_same(_read(tmp_path, jax.eval_shape(lambda: tree)), tree)


def test_copies_outlive_what_they_were_made_of(tree):
    tree |= {"one": jnp.arange(3) > 1}
    packed, _ = small_arrays.pack(tree)
    jax.tree.map(lambda leaf: leaf.delete(), tree)
    assert np.asarray(packed["params.big"]).sum() == sum(range(240))
    assert np.asarray(packed["packed_bool"]).tolist() == [False, False, True]


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda t: t | {"params": {"big": t["params"]["big"]}}, "params/small"),
        (lambda t: t | {"moments": (t["moments"][0].T, t["moments"][1])}, "moments/0"),
        (lambda t: jax.tree.map(lambda a: a.astype(np.int8), t), "4 arrays differ"),
    ],
)
def test_another_tree_is_refused(tree, tmp_path, change, told):
    _write(tmp_path, tree)
    with pytest.raises(InputError, match=f"another model.*{told}"):
        _read(tmp_path, change(tree))


def test_what_is_missing_is_told(tree, tmp_path):
    _write(tmp_path, tree)
    with store.open_manager(str(tmp_path), read_only=True) as manager:
        with pytest.raises(InputError, match="no optimizer.*weights alone"):
            store.read(manager, 1, optimizer=tree)
        (tmp_path / store.FOLDER / "1" / "model" / "_METADATA").unlink()
        with pytest.raises(FileNotFoundError, match="lacks its metadata"):
            store.read(manager, 1, model=tree)
    other = ocp.args.StandardSave({"a": np.zeros(3)})
    with store.open_manager(str(tmp_path)) as manager:
        manager.save(2, args=ocp.args.Composite(model=other))
        manager.wait_until_finished()
        with pytest.raises(InputError, match="another version"):
            store.read(manager, 2, model=tree)
