import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from reported import NAMES, evaluated, random_report

from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import bootstrap
from svtas_jax.evaluation.comparison import compare
from svtas_jax.evaluation.details import write_details
from svtas_jax.evaluation.page.compare_page import to_markdown
from svtas_jax.evaluation.report import write_report


def write_run(folder, report, details):
    """Writes what an evaluation leaves; returns the folder of the run."""
    write_report(report, folder / "evaluation")
    write_details(details, folder / "evaluation")
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    """A run, a worse one on the same videos, and a third like the second."""
    good, details, truths = random_report(12, share=0.1)
    paths = [write_run(tmp_path / "good", good, details)]
    for name, seed in (("bad", 1), ("bad2", 2)):
        bad, details, _ = random_report(12, seed=seed, share=0.6, truths=truths)
        paths.append(write_run(tmp_path / name, bad, details))
    return paths


def change(path, **fields):
    content = json.loads((path / "evaluation" / "report.json").read_text())
    content.update(fields)
    (path / "evaluation" / "report.json").write_text(json.dumps(content))


def test_differences_have_intervals_and_p_values(runs):
    found = compare(runs[:2])
    good, bad = found.entries
    assert [entry.name for entry in found.entries] == ["good", "bad"]
    low, high = found.intervals[0]["acc"]
    assert low < good.mean("acc") < high and good.spread("acc") is None
    assert found.intervals[0] == bootstrap.intervals(good.runs[0].statistics)
    assert found.p_values[0]["acc"] < 0.001
    assert "map_50" in found.metrics and "map_50" not in found.p_values[0]
    assert bad.mean("acc") < good.mean("acc")


def test_a_run_does_not_differ_from_itself(runs):
    found = compare([f"a={runs[0]}", f"b={runs[0]}"])
    assert set(found.p_values[0].values()) == {1.0}


def test_runs_that_stand_together_have_mean_and_deviation(runs):
    found = compare([runs[0], f"bad={runs[1]},{runs[2]}"])
    together = found.entries[1]
    values = [run.content["metrics"]["edit"] for run in together.runs]
    assert together.mean("edit") == pytest.approx(np.mean(values))
    assert together.spread("edit") == pytest.approx(np.std(values, ddof=1))
    low, high = found.intervals[1]["edit"]
    assert low < together.mean("edit") < high


def test_the_table_has_a_row_for_each_metric(runs):
    lines = to_markdown(compare(runs)).splitlines()
    assert lines[0].startswith("| Metric | good | bad | bad2 | bad − good | p |")
    acc = next(line for line in lines if line.startswith("| Acc (frames) |"))
    assert acc.count("[") == 3 and acc.count("< 0.001") == 2
    assert len({line.count("|") for line in lines}) == 1


def test_an_evaluation_of_a_run_can_be_named(runs, tmp_path):
    (tmp_path / "bad" / "evaluation").rename(tmp_path / "bad" / "evaluation_64_frames")
    found = compare([runs[0], f"{runs[1]}/evaluation_64_frames"])
    assert found.entries[1].name == "evaluation_64_frames"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["{0}"], "at least two runs"),
        (["{0}", "{0}"], "'good' is there twice|good.*twice"),
        (["{0}", "x="], "is not NAME=FOLDER"),
        (["{0}", "=a"], "is not NAME=FOLDER"),
        (["{0}", "{1}/nothing"], "--workdir=.*nothing does that"),
    ],
)
def test_what_cannot_be_compared_is_one_message(runs, arguments, said):
    with pytest.raises(InputError, match=said):
        compare([argument.format(*runs) for argument in arguments])


def test_other_videos_are_named(runs, tmp_path):
    _, _, truths = random_report(12)
    others = {f"other {name}": t for name, t in list(truths.items())[:5]}
    other = write_run(tmp_path / "x", *evaluated(others, others))
    with pytest.raises(InputError, match="12 only in the first .video 0, video 1, vid"):
        compare([runs[0], other])


def test_other_classes_labels_and_conventions_are_found(runs, tmp_path):
    _, _, truths = random_report(12)
    renamed = ("grab", *NAMES[1:])
    other = write_run(tmp_path / "x", *evaluated(truths, truths, names=renamed))
    with pytest.raises(
        InputError, match="different classes: 1 only in the first .take"
    ):
        compare([runs[0], other])
    changed = {**truths, "video 3": np.roll(truths["video 3"], 5)}
    other = write_run(tmp_path / "y", *evaluated(changed, truths))
    with pytest.raises(InputError, match="true labels of 'video 3' differ from frame"):
        compare([runs[0], other])
    change(tmp_path / "bad", conventions={"preset": "ms-tcn"})
    with pytest.raises(InputError, match="different conventions"):
        compare(runs)


def test_a_few_frames_more_are_noted(runs, tmp_path):
    _, _, truths = random_report(12)
    longer = {name: np.append(t, t[-1]) for name, t in truths.items()}
    other = write_run(tmp_path / "x", *evaluated(longer, longer))
    assert "12 of the videos a few frames" in compare([runs[0], other]).notes[0]


def test_an_old_report_says_what_to_do(runs, tmp_path):
    (tmp_path / "bad" / "evaluation" / "videos.json").unlink()
    with pytest.raises(MissingInputError, match="Evaluate again: .*--workdir=.*bad"):
        compare(runs)


def test_damaged_and_mixed_reports_are_found(runs, tmp_path):
    change(tmp_path / "bad2", videos={})
    with pytest.raises(InputError, match="are of different evaluations"):
        compare(runs)
    (tmp_path / "bad" / "evaluation" / "report.json").write_text("[]")
    with pytest.raises(InputError, match="damaged"):
        compare(runs)


def test_few_videos_are_compared_without_p_values(tmp_path):
    good, details, truths = random_report(3)
    a = write_run(tmp_path / "a", good, details)
    b = write_run(tmp_path / "b", *random_report(3, seed=5, truths=truths)[:2])
    found = compare([a, b])
    assert found.p_values == ({},) and found.intervals == ({}, {})
    assert "| - |" in to_markdown(found)


def test_a_metric_that_one_run_lacks_is_left_out(runs, tmp_path):
    _, details, truths = random_report(12)
    plain = evaluated(truths, truths, online=False)
    found = compare([runs[0], write_run(tmp_path / "plain", *plain)])
    assert "acc" in found.metrics and "start_missed" not in found.metrics
    assert dataclasses.is_dataclass(details)


def test_the_command_prints_a_table_and_writes_a_page(runs, tmp_path):
    command = [sys.executable, "-m", "svtas_jax.compare", runs[0], "--output=out"]
    done = subprocess.run(
        [*command, runs[1]], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| Metric | good | bad |")
    assert "good and bad compared" in (tmp_path / "out/compare.html").read_text("utf-8")
