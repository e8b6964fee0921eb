"""Scoring prediction files: the report, and what is odd about files."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from svtas_jax import evaluate
from svtas_jax.config import default_config
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import background, presets
from svtas_jax.evaluation.details import read_details
from svtas_jax.evaluation.score_files import score_files
from svtas_jax.runtime import cli

GOLDEN = pathlib.Path(__file__).parent / "presets.json"
CLASSES = ("take", "open jar", "background")
TRUTH = {
    "first": ["background"] * 3 + ["take"] * 4 + ["background"] * 5 + ["open jar"] * 8,
    "second": ["take"] * 6 + ["open jar"] * 6,
    "third": ["open jar"] * 10,
}
SPLITS = {1: ("first", "second"), 2: ("third",)}


@pytest.fixture(autouse=True)
def _warn_again():
    background._warn.cache_clear()


def write_data(root, classes, truth, splits):
    """Writes labels in the common layout: there are no videos."""
    for name in ("groundTruth", "splits"):
        (root / name).mkdir(parents=True)
    mapping = "".join(f"{k} {name}\n" for k, name in enumerate(classes))
    (root / "mapping.txt").write_text(mapping, encoding="utf-8")
    for name, labels in truth.items():
        write_labels(root / "groundTruth" / f"{name}.txt", labels)
    for number, names in splits.items():
        for subset in ("train", "test"):
            path = root / "splits" / f"{subset}.split{number}.bundle"
            path.write_text("".join(f"{name}.txt\n" for name in names))
    config = default_config()
    config.data.update(root=str(root), dataset="kitchen")
    config.eval.background = ("background",)
    return config


def write_labels(path, labels):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(labels) + "\n", encoding="utf-8")


@pytest.fixture
def config(tmp_path):
    return write_data(tmp_path / "däta", CLASSES, TRUTH, SPLITS)


@pytest.fixture
def folder(tmp_path):
    """Predictions for split 1: the first video right, the second half wrong."""
    path = tmp_path / "results"
    write_labels(path / "first.txt", TRUTH["first"])
    write_labels(path / "second.txt", ["take"] * 12)
    return path


def saved(path):
    return json.loads((path / "report.json").read_text(encoding="utf-8"))


def test_a_report_as_of_an_evaluation(config, folder, tmp_path):
    result = score_files(folder, config)
    target = tmp_path / "results-scores" / "svtas"
    report = saved(target)
    assert report["metrics"] == result.metrics
    assert report["metrics"]["acc"] == pytest.approx(100 * 26 / 32)
    assert report["metrics"]["acc_balanced"] == pytest.approx(
        100 * (1 + 1 + 8 / 14) / 3
    )
    assert report["metrics"]["boundary_f1_2_frames"] == pytest.approx(100 * 6 / 7)
    assert report["videos"]["second"]["acc"] == 50
    assert report["videos"]["second"]["num_frames"] == 12
    assert report["confusion"] == [[10, 0, 0], [6, 8, 0], [0, 0, 8]]
    assert report["classes"]["open jar"] == {
        "true_frames": 14,
        "predicted_frames": 8,
        "true_segments": 2,
        "predicted_segments": 1,
        "recall": pytest.approx(100 * 8 / 14),
        "precision": 100.0,
        "f1": pytest.approx(100 * 16 / 22),
    }
    assert report["conventions"]["preset"] == "svtas"
    assert report["conventions"]["background"] == "background"
    kept = read_details(target, again="")
    assert kept.videos["second"].sums["acc"] == (600, 12)
    assert (target / "report.html").is_file()
    run = report["run"]
    assert run["predictions"] == str(folder)
    assert (run["dataset"], run["split"], run["files_with_scores"]) == ("kitchen", 1, 0)
    assert run["config"]["data"]["root"] == config.data.root
    for name in SPLITS[1]:
        text = (target / "predictions" / f"{name}.txt").read_text(encoding="utf-8")
        assert text == (folder / f"{name}.txt").read_text(encoding="utf-8")
        assert (target / "pictures" / f"{name}.png").stat().st_size
    text = (target / "report.md").read_text(encoding="utf-8")
    assert "## Conventions\n\n|  |  |\n| --- | ---: |\n| preset | svtas |" in text
    assert "| open jar | 14 | 57.1 | 100.0 | 72.7 |" in text
    assert "| Boundary F1 within 2 frames | 85.71 |" in text


@pytest.mark.parametrize("name", ["ms-tcn", "asformer", "detection"])
def test_files_give_the_figures_of_the_public_code(tmp_path, name):
    """Some files are longer than their labels; those of detection are scores."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    classes, truth, folder = golden["classes"], {}, tmp_path / "files"
    folder.mkdir()
    for video, found in golden["videos"].items():
        truth[video] = [c for c, count in found["truth"] for _ in range(count)]
        labels = [c for c, count in found["prediction"] for _ in range(count)]
        if name != "detection":
            text = "### Frame level recognition: ###\n" + " ".join(labels)
            (folder / video).write_text(text)
            continue
        counts = [count for _, count in found["prediction"]]
        surplus = [0.5] * (len(counts) - len(found["scores"]))  # is cut
        sure = np.repeat([*found["scores"], *surplus], counts)
        indices = [classes.index(label) for label in labels]
        np.save(folder / f"{video}.npy", np.eye(len(classes))[indices] * sure[:, None])
    config = write_data(tmp_path / "data", classes, truth, {1: tuple(truth)})
    metrics = score_files(folder, config, metrics=name).metrics
    expected = golden["metrics"][name]
    tolerance = 1e-9 if name != "detection" else 1e-5  # scores are read as float32
    shown = {metric: metrics[metric] for metric in expected}
    assert shown == pytest.approx(expected, rel=0, abs=tolerance)


def test_scores_rank_segments(config, tmp_path):
    folder = tmp_path / "scores"
    folder.mkdir()
    for name in SPLITS[1]:
        labels = [CLASSES.index(label) for label in TRUTH[name]]
        np.save(folder / f"{name}.npy", np.eye(3)[labels])
    found = score_files(folder, config).metrics
    assert found["map_50"] == 100 and found["ar_1"] == 50
    assert score_files(folder, config, metrics="detection").metrics["map_avg"] == 100


def test_scores_of_some_videos_do_not_count(config, folder, caplog):
    (folder / "second.txt").unlink()
    np.save(folder / "second.npy", np.eye(3)[[0] * 12])
    assert "map_50" not in score_files(folder, config).metrics
    assert "1 of 2 predictions are scores, the others labels only" in caplog.text


def test_a_rate_makes_tolerances_seconds(config, folder):
    found = score_files(folder, config, fps=25.0).metrics
    assert found["boundary_f1_0.1s"] == pytest.approx(100 * 6 / 7)
    assert "boundary_f1_2_frames" not in found


def test_files_of_other_videos_are_said(config, folder, caplog, tmp_path):
    write_labels(folder / "third.txt", TRUTH["third"])
    score_files(folder, config, output=tmp_path / "out")
    assert "predictions for 1 videos that are not in the test split" in caplog.text
    assert "do not count: third." in caplog.text
    assert saved(tmp_path / "out")["run"]["files_of_other_videos"] == 1


def test_the_split_that_fits_is_named(config, folder):
    config.data.split = 2
    with pytest.raises(
        MissingInputError, match="1 of the 1 test videos: third"
    ) as error:
        score_files(folder, config)
    assert str(error.value).endswith("It has those of split 1: --config.data.split=1.")
    assert not (folder.parent / "results-scores").exists()


def test_both_are_cut_to_the_shorter_one_and_it_is_said(config, folder, caplog):
    write_labels(folder / "first.txt", TRUTH["first"] + ["take"] * 2)
    write_labels(folder / "second.txt", ["take"] * 10)
    result = score_files(folder, config)
    assert result.metrics["acc"] == pytest.approx(100 * 26 / 30)
    assert result.videos["second"]["num_frames"] == 10
    assert result.run["unequal (predicted/labelled)"] == "first 22/20, second 10/12"
    assert (
        "2 of 2 predictions are shorter or longer than their labels "
        "(predicted/labelled frames: first 22/20, second 10/12). By --metrics=svtas, "
        "labels and prediction are cut to the shorter one."
    ) in caplog.text


def test_ms_tcn_counts_segments_after_the_last_label(config, folder, caplog):
    write_labels(folder / "first.txt", TRUTH["first"] + ["take"] * 2)
    result = score_files(folder, config, metrics="ms-tcn")
    assert result.videos["first"]["acc"] == 100
    assert result.videos["first"]["edit"] == pytest.approx(200 / 3)
    assert "By --metrics=ms-tcn, frames predicted after the last label" in caplog.text


def test_ms_tcn_refuses_a_shorter_prediction(config, folder):
    write_labels(folder / "second.txt", ["take"] * 11)
    message = "predicts 11 frames, but .*second.txt has 12: .*eval.py stops at"
    with pytest.raises(InputError, match=message):
        score_files(folder, config, metrics="ms-tcn")


def test_a_prediction_at_another_rate_is_refused_with_its_cause(config, folder):
    write_labels(folder / "first.txt", TRUTH["first"][::2])
    with pytest.raises(InputError) as error:
        score_files(folder, config)
    assert "predicts 10 frames, but" in str(error.value)
    assert "by more than 2 % (config.data.max_length_gap). It has 1 for 2 " in str(
        error.value
    )
    config.data.max_length_gap = 0.51  # as the message says
    assert "--config.data.max_length_gap=0.51" in str(error.value)
    score_files(folder, config)


def test_the_report_of_something_else_is_kept(config, folder, tmp_path):
    target = tmp_path / "evaluation"
    target.mkdir()
    for content in ('{"run": {}}', "[]", "{", '{"run": {"predictions": "/else"}}'):
        (target / "report.json").write_text(content)
        with pytest.raises(InputError, match="is a report on something else than"):
            score_files(folder, config, output=target)
        assert [path.name for path in target.iterdir()] == ["report.json"]
    for _ in range(2):  # the same predictions may be scored again
        score_files(folder, config)


def test_an_output_that_cannot_be_written_is_said(config, folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another --output"):
        score_files(folder, config, output=tmp_path / "file" / "out")


def test_bad_names_are_refused_before_files_are_read(config, tmp_path):
    with pytest.raises(InputError, match="--metrics='map' is not known"):
        score_files(tmp_path / "none", config, metrics="map")
    config.eval.background = ("backgroud",)
    with pytest.raises(InputError, match="did you mean 'background'"):
        score_files(tmp_path / "none", config)


def given_flags(*arguments):
    """Parses the flags of `evaluate` without defining them for all tests."""
    given = flags.FlagValues()
    for name in ("workdir", "predictions", "output", "checkpoint", "config"):
        flags.DEFINE_string(name, None, "", flag_values=given)
    flags.DEFINE_list("clip_frames", [], "", flag_values=given)
    for name in ("fps", *cli.SMOOTHING):
        flags.DEFINE_float(name, 0.0, "", flag_values=given)
    for name in ("online", "true_labels"):
        flags.DEFINE_bool(name, False, "", flag_values=given)
    flags.DEFINE_string("distributed", "", "", flag_values=given)
    flags.DEFINE_string("metrics", presets.DEFAULT, "", flag_values=given)
    given(["evaluate", *arguments])
    return given


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--workdir or --predictions is missing"),
        (["--predictions=x"], "--config is missing; it names the data and the split"),
        (
            ["--predictions=x", "--workdir=y"],
            "--workdir belongs to the evaluation of a",
        ),
        (
            ["--predictions=x", "--online"],
            "--online belongs to the evaluation of a run",
        ),
        (
            ["--predictions=x", "--hysteresis=0.2"],
            "--hysteresis belongs to the evaluation of a run",
        ),
        (["--workdir=y", "--hysteresis=2"], "--hysteresis=2.0 is not a probability"),
        (["--workdir=y", "--output=z"], "--output needs --predictions"),
        (["--workdir=y", "--fps=25"], "--fps needs --predictions"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        evaluate.run(given_flags(*arguments))


def test_the_command_scores_files_without_videos(config, folder, tmp_path):
    path = tmp_path / "kitchen.py"
    path.write_text(
        "from svtas_jax import default_config\n"
        "def get_config():\n"
        "    config = default_config()\n"
        f"    config.data.root = {config.data.root!r}\n"
        "    return config\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "svtas_jax.evaluate", f"--predictions={folder}"]
    command += [f"--config={path}", "--metrics=asformer", f"--output={tmp_path / 'o'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "acc 81.25" in done.stderr and not done.stdout
    assert saved(tmp_path / "o")["conventions"]["preset"] == "asformer"
