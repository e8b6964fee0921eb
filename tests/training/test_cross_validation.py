"""What a second run of the command measures."""

import json
import pathlib
import types

import pytest

from data_pipeline import annotations
from svtas_jax import runs
from svtas_jax.checkpoints import resume
from svtas_jax.config import default_config
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.smoothing import Smoothing
from svtas_jax.training import cross_validation, loop, start


@pytest.fixture
def config(folder):
    config = default_config()
    config.data.update(root=str(folder.root), dataset="tiny")
    for subset in ("train", "test"):
        for split in (1, 2):
            path = folder.root / "splits" / f"{subset}.split{split}.bundle"
            path.write_text(f"{subset} {split}.txt\n")
    return config


def test_what_is_measured_follows_the_config_that_is_given(
    config, tmp_path, monkeypatch
):
    """The runs that lie there may have been made with other settings of `eval`."""
    asked = []

    def evaluate(folder, which, *, config, clip_frames=None):
        config.data.clip_frames = clip_frames or config.data.clip_frames  # as it does
        asked.append((config.data.split, config.data.clip_frames, config.eval))
        return types.SimpleNamespace(
            metrics=dict.fromkeys(cross_validation.METRICS, 1.0)
        )

    monkeypatch.setattr(loop, "train", lambda config, workdir: None)
    monkeypatch.setattr(runs, "evaluate", evaluate)
    config.eval.background = ("take",)
    cross_validation.cross_validate(config, str(tmp_path), (1, 2), streams=(64,))
    frames = config.data.clip_frames
    assert [one[:2] for one in asked] == [(1, frames), (1, 64), (2, frames), (2, 64)]
    assert all(one[2].background == ("take",) for one in asked)


def test_a_split_that_does_not_exist_is_said_before_the_first_training(
    config, tmp_path, monkeypatch
):
    monkeypatch.delattr(loop, "train")
    with pytest.raises(MissingInputError, match="Split 3 is missing.*train.split3"):
        cross_validation.cross_validate(config, str(tmp_path), (1, 2, 3))


def test_seeds_have_runs_of_their_own_and_a_spread(config, tmp_path, monkeypatch):
    trained = []

    def train(config, workdir):
        place = str(pathlib.Path(workdir).relative_to(tmp_path))
        trained.append((place, config.seed, config.data.split))

    def evaluate(folder, which, *, config, true_labels=False, smoothing=None):
        value = 10.0 * config.seed + config.data.split + 0.5 * true_labels
        value += 0.0 if smoothing is None else smoothing.hysteresis
        return types.SimpleNamespace(
            metrics=dict.fromkeys(cross_validation.METRICS, value)
        )

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(runs, "evaluate", evaluate)
    config.seed, config.model.system = 7, "transeger"
    cross_validation.cross_validate(
        *(config, str(tmp_path), (1, 2)),
        seeds=(0, 3),
        true_labels=True,
        smoothing=Smoothing(hysteresis=0.25),
    )
    assert trained == [
        *(("seed0/split1", 0, 1), ("seed0/split2", 0, 2)),
        *(("seed3/split1", 3, 1), ("seed3/split2", 3, 2)),
    ]
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    accuracy = {name: row["acc"] for name, row in rows["as trained"].items()}
    assert accuracy == {
        "split 1, seed 0": 1.0,
        "split 2, seed 0": 2.0,
        "split 1, seed 3": 31.0,
        "split 2, seed 3": 32.0,
        "mean of 4": 16.5,
        "standard deviation of 2 seeds": pytest.approx(30 / 2**0.5),
    }
    assert rows["true labels fed"]["mean of 4"]["acc"] == 17.0
    assert rows["smoothed by hysteresis=0.25"]["mean of 4"]["acc"] == 16.75


def test_a_ceiling_that_there_is_not_is_said_before_the_first_training(
    config, tmp_path, monkeypatch
):
    monkeypatch.delattr(loop, "train")
    with pytest.raises(InputError, match="--true_labels.*system='sete'.*leave"):
        cross_validation.cross_validate(config, str(tmp_path), (1,), true_labels=True)


def test_a_rate_that_is_not_known_is_said_before_the_first_training(
    config, tmp_path, monkeypatch
):
    monkeypatch.delattr(loop, "train")
    record = types.SimpleNamespace(fps=0.0, video_path="a.npy")
    monkeypatch.setattr(annotations, "read_split", lambda *_: [record])
    with pytest.raises(InputError, match="--min_duration=1 is in seconds, but the"):
        cross_validation.cross_validate(
            config, str(tmp_path), (1,), smoothing=Smoothing(min_duration_s=1.0)
        )


@pytest.mark.parametrize(
    "lies, seeds, starts",
    [
        (("split1", "split2"), (), ("split1", "split2")),
        (("split1", "split2"), (0, 3), ("split1", "split2", "split1", "split2")),
        (
            ("seed0/split1", "seed0/split2", "seed3/split1", "seed3/split2"),
            *((0, 3), ("seed0/split1", "seed0/split2", "seed3/split1", "seed3/split2")),
        ),
        (("seed7/split1", "seed7/split2"), (), ("seed7/split1", "seed7/split2")),
        (("",), (), ("", "")),
    ],
)
def test_runs_start_from_those_of_their_split_and_seed(
    config, tmp_path, monkeypatch, lies, seeds, starts
):
    others = tmp_path / "others"
    for one in lies:
        (others / one / "checkpoints").mkdir(parents=True)
    found = []
    monkeypatch.setattr(start, "read", lambda config: start.Start("a run"))
    monkeypatch.setattr(
        loop, "train", lambda config, _: found.append(config.train.init_from)
    )
    metrics = dict.fromkeys(cross_validation.METRICS, 1.0)
    result = types.SimpleNamespace(metrics=metrics)
    monkeypatch.setattr(runs, "evaluate", lambda *_, **__: result)
    config.seed, config.train.init_from = 7, str(others)
    cross_validation.cross_validate(config, str(tmp_path / "x"), (1, 2), seeds=seeds)
    assert found == [str(others / one) for one in starts]


def test_a_run_goes_on_when_what_it_started_from_is_gone(config, tmp_path, monkeypatch):
    began = tmp_path / "others" / "split2"
    stored = types.SimpleNamespace(config={"train": {"init_from": str(began)}})
    monkeypatch.setattr(resume, "newest", lambda _: [("checkpoints", 3)])
    monkeypatch.setattr(resume, "meta_of_newest", lambda *_: stored)
    found = []

    def train(config, _):
        found.append(config.train.init_from)
        raise InterruptedError

    monkeypatch.setattr(loop, "train", train)
    config.train.init_from = str(tmp_path / "others")
    with pytest.raises(InterruptedError):
        cross_validation.cross_validate(config, str(tmp_path / "x"), (2,))
    assert found == [str(began)]
    (tmp_path / "others" / "seed0" / "split2" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InterruptedError):
        cross_validation.cross_validate(config, str(tmp_path / "x"), (2,))
    assert found == [str(began)] * 2  # nor by what was trained since


def test_a_start_that_knows_the_test_videos_is_refused_before_the_first_training(
    config, tmp_path, monkeypatch
):
    monkeypatch.delattr(loop, "train")
    knows = start.Start("run a, step 7", ("train 1", "test 2"))
    monkeypatch.setattr(start, "read", lambda config: knows)
    config.train.init_from = "a"
    with pytest.raises(
        InputError, match="run a, step 7 was trained on 1 of the test videos"
    ):
        cross_validation.cross_validate(config, str(tmp_path), (1, 2))
