"""The log and the checkpoint say which videos choose the best checkpoint."""

import re

import pytest

from svtas_jax.config import default_config
from svtas_jax.training import loop, start
from svtas_jax.training.data import read_training_data

VIDEOS = ("S1_a", "S1_b", "S2_a", "S2_b", "S3_a", "S3_b")


@pytest.fixture
def config(folder):
    for name in VIDEOS:
        folder.add(name, 8, subsets=("train",))
    folder.add("S4_a", 8, subsets=("test",))
    config = default_config()
    config.data = folder.config
    return config


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "1 video held out of the training split, perhaps of people trained on"),
        (
            {"validation_group": r"(S\d)"},
            r"2 videos of the group (S\d), which is not trained on",
        ),
        (
            {"validation_group": r"(S\d)", "validation_share": 0.7},
            r"4 videos of the groups (S\d and S\d), which are not trained on",
        ),
        (
            {"selection": "test", "validation_group": r"(S\d)"},
            r"the test split \(1 vid",
        ),
    ],
)
def test_what_chooses_the_checkpoint_is_said(config, caplog, fields, said):
    caplog.set_level("INFO")
    config.train.update(fields)
    data = read_training_data(config)
    assert caplog.text.count(data.selected_by) == 1
    match = re.match(said, data.selected_by)
    assert match
    for group in match.groups():
        held = {record.name[:2] for record in data.selection}
        assert held == set(group.split(" and "))
        assert held.isdisjoint(record.name[:2] for record in data.train)
    meta = loop.describe_run(config, data, step=1, epoch=0, began=start.Start())
    assert meta.selected_by == data.selected_by


def test_people_who_are_tested_on_and_trained_on_are_warned_of(config, folder, caplog):
    config.train.update(validation_group=r"(S\d)", selection="test")
    read_training_data(config)
    assert "in train and in test" not in caplog.text
    folder.add("S2_c", 8, subsets=("test",))
    for selection in ("test", "validation"):
        caplog.clear()
        config.train.selection = selection
        read_training_data(config)
        assert "videos of S2 in train and in test" in caplog.text
