"""train, evaluate and stream as a user runs them, on small real video files."""

import io
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_pipeline import annotations
from svtas_jax import models, runs, stream
from svtas_jax.checkpoints import store
from svtas_jax.errors import InputError
from svtas_jax.evaluation import extraction, measure
from svtas_jax.evaluation.details import read_details
from svtas_jax.evaluation.score_files import score_files
from svtas_jax.training import cross_validation, loop, optim
from svtas_jax.training.data import read_training_data

METRICS = "acc edit f1_10 f1_25 f1_50 auc ar_1 ar_5 ar_15 map_50 map_avg".split()


pytestmark = pytest.mark.usefixtures("tiny_commands_of_module")


def config_of(folder, tiny):
    """Five training videos (one held out) and two to test on."""
    config = tiny.config("transeger")
    for index, num_frames in enumerate((40, 17, 33, 24, 29)):
        folder.add(f"train {index}", num_frames, subsets=("train",))
    for index, num_frames in enumerate((37, 22)):
        folder.add(f"tëst {index}", num_frames, subsets=("test",))
    config.data.root = str(folder.root)
    config.data.dataset = "tiny"
    config.train.update(num_epochs=2, chunks_per_call=2, log_every_steps=1)
    config.eval.batch_size = 2
    return config


@pytest.fixture
def config(folder, tiny):
    return config_of(folder, tiny)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_folder, tiny, tiny_commands_of_module):
    """The config of a training of one epoch, and its folder: only to read."""
    path = tmp_path_factory.mktemp("trained")
    config = config_of(data_folder(path / "data"), tiny)
    config.train.num_epochs = 1
    loop.train(config, str(path / "run"))
    return config, path / "run"


def run_training(config, workdir, **overrides):
    config = config.copy_and_resolve_references()
    config.train.update(overrides)
    return loop.train(config, str(workdir))


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow  # tests/test_resume.py has the same in more places
def test_resumed_run_equals_an_uninterrupted_one(config, tmp_path):
    whole = run_training(config, tmp_path / "whole")
    run_training(config, tmp_path / "parts", num_epochs=1)
    parts = run_training(config, tmp_path / "parts")
    assert int(whole.step) == int(parts.step) == 4
    assert_equal(parts, whole)
    # Running a finished training again changes nothing.
    assert_equal(run_training(config, tmp_path / "parts"), whole)


def test_train_evaluate_stream(config, tmp_path):
    state = run_training(config, tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    events = EventAccumulator(str(tmp_path)).Reload()
    shown = [f"selection/timeline/{name}" for name in held_out(config)]
    assert set(events.Tags()["images"]) == {"selection/confusion", *shown}
    assert [event.step for event in events.Images(shown[0])] == [2, 4]
    report = runs.evaluate(str(tmp_path))
    folder = tmp_path / "evaluation"
    saved = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert all(0 <= saved["metrics"][name] <= 100 for name in METRICS)
    assert set(saved["videos"]) == {"tëst 0", "tëst 1"}
    assert saved["run"]["checkpoint_step"] in (2, 4)
    assert "held out of the training split" in saved["run"]["best_checkpoint_by"]
    assert saved["run"]["videos_trained_on"] == 0
    assert report.metrics["acc"] == saved["metrics"]["acc"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "2 videos there are no intervals" in page and "image/jpeg" in page
    kept = read_details(folder, again="")
    assert list(kept.videos) == list(saved["videos"])
    for name, num_frames in (("tëst 0", 37), ("tëst 1", 22)):
        assert (folder / "pictures" / f"{name}.png").exists()
        said = (folder / "predictions" / f"{name}.txt").read_text(encoding="utf-8")
        assert said.splitlines() == streamed_labels(tmp_path, config, name)
        assert len(said.splitlines()) == num_frames
    check_conventions(config, tmp_path, saved)


def check_conventions(config, workdir, saved):
    """The run's prediction files have its figures; a preset has a folder of its own."""
    files = score_files(workdir / "evaluation" / "predictions", config, fps=15.0)
    by_labels = [name for name in files.metrics if name not in METRICS[5:]]
    assert {"edit", "acc_balanced", "boundary_f1_0.5s"} <= set(by_labels)
    for name in by_labels:
        assert files.metrics[name] == pytest.approx(saved["metrics"][name])
    assert saved["conventions"]["preset"] == "svtas"
    ms_tcn = runs.evaluate(str(workdir), preset="ms-tcn")
    text = (workdir / "evaluation_ms-tcn" / "report.json").read_text(encoding="utf-8")
    assert json.loads(text)["conventions"]["preset"] == "ms-tcn"
    assert "auc" not in ms_tcn.metrics
    assert ms_tcn.metrics["acc"] == saved["metrics"]["acc"]
    again = json.loads((workdir / "evaluation" / "report.json").read_text("utf-8"))
    assert again == saved


def held_out(config):
    """Returns the names of the videos that select the checkpoint."""
    return [record.name for record in read_training_data(config).selection]


def streamed_labels(workdir, config, name):
    """Returns what the live stream says about every frame of a video."""
    out = io.StringIO()
    path = pathlib.Path(config.data.root) / "Videos" / f"{name}.avi"
    stream.stream(runs.load_trained(str(workdir)), [str(path)], out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    labels, position = [], 0
    for index, line in enumerate(lines):
        assert line["chunk"] == index and line["frames"][0] == position
        position = line["frames"][1]
        assert set(line["latency_ms"]) == {"wait", "decode", "compute"}
        for segment in line["segments"]:
            start, end = segment["frames"]
            assert start == len(labels) and 0 < segment["confidence"] <= 1
            labels += [segment["label"]] * (end - start)
        assert len(labels) == position
    return labels


@pytest.mark.slow
def test_two_stages(config, trained, tmp_path):
    """Extract, train on whole videos of features, evaluate whole and as a stream."""
    run = runs.load_trained(str(trained[1]))
    records = annotations.read_all(config.data)
    folder = pathlib.Path(config.data.root) / "features"
    extraction.extract(config, run.model, run.variables, records, folder)
    first = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(first) == 2 * len(records)
    extraction.extract(
        config, run.model, run.variables, records, folder
    )  # all is there
    assert first == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    config = config.copy_and_resolve_references()
    config.data.update(features="features", clip_frames=0, frame_stride=2)
    config.model.update(system="sete", backbone="features", head="asformer")
    config.model.update(num_stages=2, num_layers=2)
    write_second_split(pathlib.Path(config.data.root) / "splits")
    config.data.split = 7  # does not matter: every split's turn comes
    config.train.num_epochs = 1
    splits = annotations.split_numbers(config.data)
    assert splits == (1, 2)
    workdir = tmp_path / "second"
    table = cross_validation.cross_validate(config, str(workdir), splits, streams=(16,))
    again = cross_validation.cross_validate(config, str(workdir), splits, streams=(16,))
    assert table == again and set(table) == {"as trained", "chunks of 16 frames"}
    saved = json.loads((workdir / "table.json").read_text(encoding="utf-8"))
    rows = saved["rows"]["as trained"]
    assert set(rows) == {"split 1", "split 2", "mean of 2"}
    assert rows["mean of 2"]["acc"] == pytest.approx(
        (rows["split 1"]["acc"] + rows["split 2"]["acc"]) / 2
    )
    for split, names in ((1, {"tëst 0", "tëst 1"}), (2, {"train 0", "train 1"})):
        for mode, frames in (("", 128), ("_16_frames", 16)):  # 37 frames, rounded up
            path = workdir / f"split{split}" / f"evaluation{mode}" / "report.json"
            report = json.loads(path.read_text(encoding="utf-8"))
            assert set(report["videos"]) == names
            assert report["run"]["videos_trained_on"] == 0
            assert report["run"]["config"]["data"]["clip_frames"] == frames
    # Two videos, of 37 and 22 frames.
    for frames, parts in ((None, (37, 22)), (16, (16, 16, 5, 16, 6))):
        timed = runs.evaluate(
            str(workdir / "split1"), clip_frames=frames, online=True
        ).online
        assert timed["answers"] == (
            f"every {frames} frames" if frames else "at the video's end"
        )
        waits = sum(sum(range(num_frames)) for num_frames in parts)
        delay = timed["metrics"]["emission_delay_s"]
        assert delay == pytest.approx(waits / (37 + 22) / 15)
    table = (workdir / "table.md").read_text(encoding="utf-8")
    assert f"| as trained | mean of 2 | {rows['mean of 2']['acc']:.2f} |" in table


def write_second_split(folder):
    """Tests on two videos that the first split trains on."""
    train_names = [f"train {k}.txt" for k in range(2, 5)] + ["tëst 0.txt"]
    for subset, names in (("train", train_names), ("test", ["train 0", "train 1"])):
        path = folder / f"{subset}.split2.bundle"
        path.write_text("\n".join(names), encoding="utf-8")


def test_finetuning_takes_what_fits(trained, caplog):
    other = trained[0].copy_and_resolve_references()
    other.model.joint_features = 24
    other.train.init_from = str(trained[1])
    model = models.build_model(other, ("a", "b", "c", "d"))
    with caplog.at_level("INFO"):
        state = loop.first_state(other, model, optim.optimizer_of(other, 1))
    old = runs.load_trained(str(trained[1])).variables
    assert_equal(state.params["image"], old["params"]["image"])
    assert "not taken: params/joint/stage/conv_out/kernel" in caplog.text


def test_a_causal_model_starts_from_the_weights_of_its_two_sided_twin(trained, caplog):
    causal = trained[0].copy_and_resolve_references()
    causal.model.causal = True
    causal.train.init_from = str(trained[1])
    model = models.build_model(causal, ("a", "b", "c", "d"))
    with caplog.at_level("INFO"):
        state = loop.first_state(causal, model, optim.optimizer_of(causal, 1))
    old = runs.load_trained(str(trained[1])).variables
    assert_equal(state.params, old["params"])
    assert_equal(state.batch_stats, old["batch_stats"])
    assert "not taken" not in caplog.text


def test_another_model_in_the_workdir_is_refused(trained, tmp_path):
    config = trained[0].copy_and_resolve_references()
    workdir = shutil.copytree(trained[1], tmp_path / "run")
    config.model.joint_features = 24
    with pytest.raises(InputError, match="joint_features=24, but the run began with"):
        run_training(config, workdir)


def test_checkpoint_that_does_not_exist_is_named(trained, tmp_path):
    with pytest.raises(InputError, match="holds no checkpoints; train first"):
        store.read_meta(str(tmp_path), "best")
    with pytest.raises(InputError, match="--checkpoint=77 does not exist.*latest"):
        store.read_meta(str(trained[1]), "77")


def test_testing_on_known_videos_is_said(trained, caplog):
    meta = store.read_meta(str(trained[1]), "latest")
    known = annotations.read_split(trained[0].data, "train")
    with caplog.at_level("WARNING"):
        # One of the five was held out to choose the best checkpoint.
        assert measure.warn_if_known(known, meta) == len(known) - 1
    assert "4 of the 5 test videos were trained on" in caplog.text


def test_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    with pytest.raises(
        InputError, match=r"not finite in step \d+, which shows .*train \d \(chunk"
    ):
        run_training(config, tmp_path, learning_rate=1e30, num_epochs=6)
    assert not list((tmp_path / "checkpoints").glob("*/model/*nan*"))


def test_checkpoint_is_not_touched_by_later_steps(trained, tmp_path):
    """Saving goes on while training does: both must end with the same first epoch."""
    config, short = trained[0], store.read_meta(str(trained[1]), "best")
    run_training(config, tmp_path / "long", num_epochs=3)
    steps = sorted(int(p.name) for p in (tmp_path / "long/checkpoints").glob("[0-9]*"))
    assert steps[-1] == 3 * short.step
    meta = store.read_meta(str(tmp_path / "long"), str(steps[0]))
    first = runs.load_trained(str(tmp_path / "long"), str(steps[0]))
    again = tmp_path / "again"
    if meta.epoch == 1:
        again = trained[1]
    else:
        run_training(config, again, num_epochs=meta.epoch)
    assert_equal(runs.load_trained(str(again), "latest").variables, first.variables)
