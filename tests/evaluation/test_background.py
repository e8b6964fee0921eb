"""A background class that does not exist is said, before anything is measured."""

import pytest

from data_pipeline import annotations, video
from svtas_jax import runs
from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.evaluation import background
from svtas_jax.evaluation.background import check_background
from svtas_jax.training import data, loop

CLASSES = ("background", "take", "put")


@pytest.fixture(autouse=True)
def _warn_again():
    background._warn.cache_clear()


def config_with(*names):
    config = default_config()
    config.eval.background = names
    return config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("backgroud", r"no class is called 'backgroud'; did you mean 'background'\?"),
        ("SIL", "no class is called 'SIL'; The classes are background, take, put"),
        ("background,take", "no class is called 'background,take'"),
        ("", "no class is called ''"),
        (1, "no class is called 1;"),
    ],
)
def test_a_name_that_the_user_gave_must_exist(name, message):
    with pytest.raises(InputError, match=f"config.eval.background=.*{message}"):
        check_background(config_with("take", name), CLASSES)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("background", "None"), CLASSES),
        (("background", "None"), ("take", "None")),
        (("take", "put"), CLASSES),
        ((), ("take", "put")),
    ],
)
def test_names_that_exist_pass_without_a_word(names, classes, caplog):
    check_background(config_with(*names), classes)
    assert not caplog.records


def test_a_default_without_any_class_is_warned_of_once(caplog):
    for _ in range(3):
        check_background(default_config(), ("take", "put"))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "config.eval.background=('background', 'None')" in record.getMessage()
    assert "count the segments of every class as actions" in record.getMessage()


@pytest.fixture
def config(folder, tiny):
    config = tiny.config("sete")
    for index in range(3):
        folder.add(f"train {index}", 16, subsets=("train",))
    folder.add("test", 16, subsets=("test",))
    config.data.update(root=str(folder.root), dataset="tiny")
    config.train.num_epochs = 1
    return config


def test_training_refuses_it_before_a_video_is_opened(config, tmp_path, monkeypatch):
    monkeypatch.delattr(video, "probe_video")
    config.eval.background = ("backgroud",)
    with pytest.raises(InputError, match="no class is called 'backgroud'"):
        loop.train(config, str(tmp_path))


@pytest.mark.usefixtures("tiny_commands")
def test_evaluation_refuses_it_given_or_stored(config, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "check_background", lambda *_: None)
    config.eval.background = ("backgroud",)
    loop.train(config, str(tmp_path))
    monkeypatch.delattr(annotations, "read_split")  # is not come to
    for given in (None, config):
        with pytest.raises(InputError, match="no class is called 'backgroud'"):
            runs.evaluate(str(tmp_path), config=given)
