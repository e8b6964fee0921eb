import measure_conventions as script
import numpy as np

CLASSES = ("take", "pour", "background")


def videos(seed, count=3):
    """Truths of 400 frames, and predictions with mistakes."""
    rng = np.random.default_rng(seed)
    truths = [np.repeat(rng.permutation(np.arange(8) % 3), 50) for _ in range(count)]
    return [(script.corrupted(truth, 3, rng), truth) for truth in truths]


def cells(table):
    """Returns the cells of each row by its title."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {title: row for title, *row in lines}


def test_each_convention_has_a_row_of_changes():
    splits = [videos(0), videos(1)]
    rows = cells(script.table(splits, CLASSES, ("background",)))
    first = script.mean_of([script.scored(split, CLASSES) for split in splits])
    assert rows.pop("`--metrics=ms-tcn`") == [f"{v:.2f}" for v in first.values()]
    assert rows["background is background"] == ["0"] * 5
    none = rows["every class is an action"]
    assert none[0] == "0" and none[4] != "0"
    assert rows["Acc without background"][1:] == ["0"] * 4
    assert rows["`--metrics=svtas`"][0] == rows["`--metrics=svtas`"][4] == "0"
    wrong = [float(row[0]) for title, row in rows.items() if "counted wrong" in title]
    assert -1 <= wrong[0] <= 0  # 1 % of the frames
    assert "all videos at once, not the mean over splits" in rows


def test_accuracy_without_background_by_hand():
    truth = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    prediction = np.array([0, 0, 1, 2, 2, 2, 2, 0])
    row = script._of_actions([(prediction, truth)], CLASSES)
    assert row["acc"] == 75.0


def test_changes_are_short():
    assert [script._change(x) for x in (1e-12, 2e-6, -0.0049, 0.005, -12.345)] == [
        *("0", "+2e-06", "-5e-03", "+0.01", "-12.35")
    ]
