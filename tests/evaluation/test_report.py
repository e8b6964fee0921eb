import dataclasses
import json
import subprocess

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from svtas_jax.config import default_config
from svtas_jax.evaluation import report
from svtas_jax.evaluation.metrics import SegmentCounts, frame_metrics
from svtas_jax.evaluation.online import OnlineCounts
from svtas_jax.runtime import provenance

CLASS_NAMES = ["take", "pour", "background"]


def small_report(run=None):
    truth = np.array([0, 0, 1, 1, 2, 2])
    prediction = np.array([0, 0, 1, 0, 2, 0])
    counts = SegmentCounts.zero(3, (2,)).add(prediction, truth)
    videos = {"tea": counts.compute() | {"num_frames": 6}}
    metrics = counts.compute() | frame_metrics(counts)
    return report.EvalReport(
        metrics, videos, CLASS_NAMES, counts.confusion, run or {"split": 1}
    )


def test_write_report_writes_both_files(tmp_path):
    path = report.write_report(small_report(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.json", "report.md"]
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["metrics"]["acc"] == pytest.approx(100 * 4 / 6)
    assert content["videos"]["tea"]["num_frames"] == 6
    assert content["class_names"] == CLASS_NAMES
    assert content["confusion"] == [[2, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert content["run"] == {"split": 1}
    assert path == tmp_path / "report.md"


def test_report_for_people_has_every_table(tmp_path):
    text = report.write_report(small_report(), tmp_path).read_text()
    assert "| Acc (frames) | 66.67 |" in text
    assert "| take | 2 | 100.0 | 50.0 |" in text  # recall 2/2, precision 2/4
    assert "| pour | 50 | 50 |  |" in text  # shares of the true frames
    tea = next(line for line in text.splitlines() if line.startswith("| tea |"))
    assert tea.startswith("| tea | 66.67 |") and tea.endswith("| 6 |")


def test_report_shows_online_metrics_beside_when_the_model_answers(tmp_path):
    metrics = {"emission_delay_s": 4.25, "end_delay_p95_s": float("nan")}
    section = {"answers": "every 128 frames", "metrics": metrics}
    found = dataclasses.replace(small_report(), online=section)
    text = report.write_report(found, tmp_path).read_text()
    assert "## Online\n\n| Metric | Answers every 128 frames |" in text
    assert "| Wait for a label, mean (s) | 4.25 |" in text
    assert "| End delay, p95 (s) | - |" in text
    saved = json.loads((tmp_path / "report.json").read_text())["online"]["metrics"]
    assert saved == {"emission_delay_s": 4.25, "end_delay_p95_s": None}


def test_every_online_metric_has_a_name_for_people():
    counts = OnlineCounts.zero(2).add(
        *([0, 1], [0, 1], np.eye(2)), delays_s=[0.0, 0.0], fps=1.0
    )
    named = report.METRIC_NAMES | report.ONLINE_NAMES
    assert set(report.ONLINE_NAMES) <= set(counts.compute()) <= set(named)


def test_report_links_the_pictures_that_exist(tmp_path):
    assert "![" not in report.write_report(small_report(), tmp_path).read_text()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "tea.png").write_bytes(b"")
    text = report.write_report(small_report(), tmp_path).read_text()
    assert "![tea](pictures/tea.png)" in text


def test_report_holds_config_and_odd_values(tmp_path):
    config = default_config()
    run = provenance.run_info() | {"config": config, "frames_per_s": jnp.float32(2.5)}
    path = report.write_report(small_report(run), tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())["run"]
    assert content["config"]["data"]["split"] == config.data.split
    assert content["frames_per_s"] == 2.5
    assert "| config.data.resize | 256, 320 |" in path.read_text()


def test_report_says_nothing_where_there_is_no_number(tmp_path):
    confusion = np.array([[1, 0], [0, 0]])
    empty = report.EvalReport(
        {"acc": float("nan")}, {"a": {"acc": 1.0}, "b": {}}, ["x|y", "z"], confusion, {}
    )
    text = report.write_report(empty, tmp_path).read_text()
    assert "| Acc (frames) | - |" in text
    assert "| x\\|y | 1 | 100.0 | 100.0 |" in text
    assert "| z | 0 | - | - |" in text
    assert "| b | - |" in text


def strict_json(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_to_json_is_strict_and_keeps_every_string():
    content = {
        "nan": np.float32(np.nan),
        "infinite": [float("inf"), 1],
        "array": np.arange(4).reshape(2, 2),
        "device": jnp.ones(2),
        "config": ml_collections.ConfigDict({"a": (1, 2)}),
        "text": "[\n  1,\n  2\n]",
        "texts": ["a,  b", "größer"],
        3: None,
        "path": report.pathlib.PurePosixPath("a/b"),
    }
    assert strict_json(report.to_json(content)) == {
        "nan": None,
        "infinite": [None, 1],
        "array": [[0, 1], [2, 3]],
        "device": [1, 1],
        "config": {"a": [1, 2]},
        "text": "[\n  1,\n  2\n]",
        "texts": ["a,  b", "größer"],
        "3": None,
        "path": "a/b",
    }
    assert "[0, 1]" in report.to_json(content)


def test_write_predictions_is_one_name_a_line(tmp_path):
    labels = np.array([2, 0, 0], np.int32)
    path = report.write_predictions(tmp_path, "S1_Tea_C1", labels, CLASS_NAMES)
    assert path == tmp_path / "predictions" / "S1_Tea_C1.txt"
    assert path.read_text() == "background\ntake\ntake\n"


def test_run_info_names_code_packages_and_machine():
    info = provenance.run_info()
    assert info["date"].endswith("+00:00")
    expected = {"svtas_jax", "python", "jax", "flax", "numpy", "opencv", "grain"}
    assert expected <= set(info["versions"])
    assert info["versions"] == provenance.versions()
    assert all(isinstance(version, str) for version in provenance.versions().values())
    assert info["device"]["count"] >= 1 and info["device"]["kind"]
    strict_json(report.to_json(info))


def test_git_commit_is_that_of_a_checkout_only(tmp_path):
    assert provenance._git_commit(tmp_path) is None
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]

    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git(*who, "commit", "-q", "-m", "first")
    commit = provenance._git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert provenance._git_commit(tmp_path) == f"{commit}-dirty"
