"""The table of several runs."""

import json

import compare_runs
import pytest


def write_run(folder, acc, *, online=True):
    (folder / "evaluation").mkdir(parents=True)
    metrics = {key: acc for key, _, _ in compare_runs.COLUMNS}
    report = {"metrics": {}}
    if online:
        report["online"] = {"answers": "every frame", "metrics": metrics}
    (folder / "evaluation" / "report.json").write_text(json.dumps(report), "utf-8")
    return str(folder)


def test_rows_have_means_and_deviations(tmp_path, capsys):
    runs = [write_run(tmp_path / str(acc), acc) for acc in (80.0, 84.0)]
    assert compare_runs.main([f"two={runs[0]},{runs[1]}", f"one={runs[1]}"]) == 0
    head, rule, two, one = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == two.count("|") == one.count("|")
    assert two.startswith("| two | every frame | 82.0 ± 2.8 | 82.0 ± 2.8 |")
    assert one.startswith("| one | every frame | 84.0 | 84.0 |")


@pytest.mark.parametrize("argument", ["", "=run", "name=", "name"])
def test_what_names_no_run_is_an_error(argument, capsys):
    assert compare_runs.main([argument] if argument else []) == 2
    assert "NAME=RUN" in capsys.readouterr().err


def test_runs_must_have_been_evaluated_online(tmp_path, capsys):
    plain = write_run(tmp_path / "plain", 80.0, online=False)
    for run, said in ((plain, "no online metrics"), (tmp_path / "no", "not exist")):
        assert compare_runs.main([f"x={run}"]) == 2
        error = capsys.readouterr().err
        assert said in error and f"--workdir={run} --online" in error
