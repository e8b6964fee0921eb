"""The converter moves every array to its place and back, bit by bit."""

import pathlib

import flax.traverse_util
import jax
import numpy as np
import pytest

from data_pipeline.chunks import blank_chunk
from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.models import build_model
from svtas_jax.structs import StreamSpec
from svtas_jax.weights import convert
from svtas_jax.weights import rules as weight_rules

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TEXT = weight_rules.TEXT_ENCODER


def golden_state(name):
    with np.load(GOLDEN / f"{name}.npz") as data:
        names = [n for n in data if n.startswith(("state/", "rows/"))]
        return {name.split("/", 1)[1]: data[name] for name in names}


@pytest.mark.parametrize(
    "name, rules",
    [
        ("memory_tcn_2stages", weight_rules.TCN),
        ("joint_fc", weight_rules.JOINT),
        ("joint_memory_tcn", weight_rules.JOINT),
        ("joint_transformer", weight_rules.JOINT),
        ("learner_prompt_front", TEXT["learned"]),
        ("fix_prompt_front", TEXT["fixed"]),
        ("trajectory_sete", weight_rules.system_rules("sete")),
        ("transeger_transformer_joint", weight_rules.system_rules("transeger")),
    ],
)
def test_golden_weights_make_the_round_trip(name, rules):
    state = golden_state(name)
    variables, unplaced = convert.from_torch(state, rules)
    assert not unplaced
    back = convert.to_torch(variables, rules)
    no_weights = ("num_batches_tracked", "position_ids")
    kept = {n: a for n, a in state.items() if not n.endswith(no_weights)}
    assert back.keys() == kept.keys()
    for key, array in kept.items():
        np.testing.assert_array_equal(back[key], array)


SYSTEMS = [
    ("sete", "learned", "memory_tcn"),
    ("mete", "fixed", "memory_tcn"),
    ("mete", "learned", "memory_tcn"),
    ("transeger", "learned", "memory_tcn"),
    ("transeger", "fixed", "fc"),
    ("transeger", "learned", "transformer"),
]


def numbered_variables(system, prompt, joint, width):
    """Variables of a system, no two numbers alike."""
    config = default_config()
    config.model.update(
        dict(system=system, prompt=prompt, joint=joint, image_width=width)
    )
    config.model.update(dict(text_width=8, text_heads=2, num_stages=2))
    config.model.train_logit_scale = True
    model = build_model(config, ("a", "b", "c"))
    chunk = blank_chunk(1, StreamSpec(128, 4), 32)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), model.initial_state(1), chunk
    )
    begin, arrays = 0, []
    for leaf in jax.tree.leaves(shapes):
        arrays.append(np.arange(begin, begin + leaf.size).reshape(leaf.shape))
        begin += leaf.size
    return jax.tree.unflatten(jax.tree.structure(shapes), arrays)


@pytest.mark.parametrize("system, prompt, joint", SYSTEMS)
@pytest.mark.parametrize("width", [1.0, 0.0625])
def test_every_variable_has_a_name_and_comes_back(system, prompt, joint, width):
    variables = numbered_variables(system, prompt, joint, width)
    rules = weight_rules.system_rules(system, prompt)
    state = convert.to_torch(variables, rules)
    assert len(state) == len(jax.tree.leaves(variables))
    back, unplaced = convert.from_torch(state, rules)
    assert not unplaced
    before = flax.traverse_util.flatten_dict(variables)
    after = flax.traverse_util.flatten_dict(back)
    assert before.keys() == after.keys()
    for path, array in before.items():
        np.testing.assert_array_equal(after[path], array)


@pytest.mark.parametrize(
    "width, shifted",
    [
        (1.0, "2.1 3.1 3.2 4.1 4.2 4.3 5.1 5.2 6.1 6.2"),
        # So narrow that stages 4 and 5 are equally wide: 5.0 has a residual, too.
        (0.0625, "2.1 3.1 3.2 4.1 4.2 4.3 5.0 5.1 5.2 6.1 6.2"),
    ],
)
def test_shifted_convolutions_are_wrapped(width, shifted):
    variables = numbered_variables("sete", "learned", "memory_tcn", width)
    state = convert.to_torch(variables, weight_rules.system_rules("sete"))
    wrapped = {
        name.removeprefix("backbone.layer")[:3] for name in state if ".net." in name
    }
    assert wrapped == set(shifted.split())
    assert "backbone.layer2.1.conv.0.net.bn.running_var" in state
    assert "backbone.layer2.0.conv.0.conv.weight" in state


def test_layouts_of_each_kind():
    rng = np.random.default_rng(0)
    state = {
        "conv1.conv.weight": rng.random((8, 3, 3, 3)),
        "layer1.0.conv.0.conv.weight": rng.random((8, 1, 3, 3)),
        "layer1.0.conv.1.conv.weight": rng.random((6, 8, 1, 1)),
    }
    params = convert.from_torch(state, weight_rules.MOBILENET_TSM)[0]["params"]
    full, depthwise, point = state.values()
    block = params["layer1_0"]
    np.testing.assert_array_equal(
        params["conv1"]["conv"]["kernel"], full.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        block["conv_0"]["conv"]["kernel"], depthwise.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        block["conv_1"]["conv"]["kernel"], point[:, :, 0, 0].T
    )


def test_names_without_a_place_are_reported():
    state = {
        "head.stage1.conv_out.bias": np.zeros(3),
        "head.extra.weight": np.zeros(3),
        "cls_head.fc.weight": np.zeros((2, 2)),
        "backbone.conv1.bn.num_batches_tracked": np.zeros(()),
    }
    variables, unplaced = convert.from_torch(state, weight_rules.system_rules("sete"))
    assert unplaced == ("head.extra.weight", "cls_head.fc.weight")
    assert jax.tree.map(np.shape, variables) == {
        "params": {"head": {"stage1": {"conv_out": {"bias": (3,)}}}}
    }


def test_weights_of_another_architecture_are_refused_by_name():
    state = {"backbone.conv1.conv.weight": np.zeros((8, 3, 3, 3, 3))}
    with pytest.raises(InputError, match=r"backbone\.conv1\.conv\.weight has shape"):
        convert.from_torch(state, weight_rules.system_rules("sete"))


def test_unknown_variables_and_systems_are_our_mistakes():
    with pytest.raises(ValueError, match="params/other has no PyTorch name"):
        convert.to_torch({"params": {"other": np.zeros(1)}}, weight_rules.JOINT)
    with pytest.raises(ValueError, match="is not one of sete, mete, transeger"):
        weight_rules.system_rules("asformer")
