import base64
import gzip
import json
import re

import cv2
import numpy as np
import pytest
from markup import Elements
from reported import NAMES, evaluated, random_labels, random_report

from svtas_jax.evaluation.page import report_page
from svtas_jax.pages.colours import css_colours

HOSTILE = "</script><script>alert(1)</script>\"'&<b>%s{{}}\\"


def written(folder, report, details):
    return report_page.write_pages(report, details, folder).read_text(encoding="utf-8")


def data_of(text):
    """Returns what the page's script draws."""
    packed = re.search(r'id="timeline-data">([^<]*)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def rows_of(text, title):
    """Returns the cells of the table in the section of a title."""
    part = text.split(f"<h2>{title}</h2>")[1].split("</table>")[0]
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", part)
    ]


def test_the_page_shows_the_report(tmp_path):
    report, details, _ = random_report(6)
    text = written(tmp_path, report, details)
    assert (tmp_path / "videos.json").is_file()
    metrics = {row[0]: row[1:] for row in rows_of(text, "Metrics") if row}
    value, interval = metrics["Acc (frames)"]
    assert value == f"{report.metrics['acc']:.2f}"
    low, high = map(float, interval.strip("[]").split(", "))
    assert low < report.metrics["acc"] < high
    assert metrics["mAP@0.50"][1] == "-"
    online = {row[0]: row[1:] for row in rows_of(text, "Online") if row}
    assert float(online["Wait for a label, mean (s)"][0]) == pytest.approx(
        report.online["metrics"]["emission_delay_s"], abs=0.006
    )
    take = next(row for row in rows_of(text, "Classes") if row and row[0] == "take")
    confusion = report.confusion
    assert take[1] == f"{100 * confusion[0, 0] / confusion[:, 0].sum():.1f}"
    assert take[2] == f"{100 * confusion[0, 0] / confusion[0].sum():.1f}"
    assert take[4] == str(confusion[0].sum())
    assert f"take → pour: {100 * confusion[0, 1] / confusion[0].sum():.1f} %" in text


def test_the_page_says_what_chose_the_checkpoint(tmp_path):
    by = "7 videos of the group S3 <b>, which is not trained on"
    report, details, _ = random_report(2, run={"best_checkpoint_by": by})
    text = written(tmp_path / "new", report, details)
    assert f"Best checkpoint by <b>{by.replace('<b>', '&lt;b&gt;')}</b>" in text
    report, details, _ = random_report(2, run={"best_checkpoint_by": None})
    assert "Best checkpoint" not in written(tmp_path / "old", report, details)


def test_the_script_gets_every_label(tmp_path):
    report, details, truths = random_report(3)
    data = data_of(written(tmp_path, report, details))
    assert data["classes"] == list(NAMES) and data["background"] == [3]
    assert data["colours"] == list(css_colours(NAMES, ("background",)))
    for video, (name, truth) in zip(data["videos"], truths.items(), strict=True):
        assert video["name"] == name
        labels, counts = video["truth"][::2], video["truth"][1::2]
        np.testing.assert_array_equal(np.repeat(labels, counts), truth)
        assert sum(video["runs"][0][1::2]) == len(truth)
    assert {tuple(sorted(order)) for _, order in data["orders"]} == {(0, 1, 2)}


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    text = written(tmp_path, *random_report(6)[:2])
    found = Elements(text)
    assert all(a.startswith("data:image/jpeg;") for a in found.addresses)
    outside = set(re.findall(r"\w+://[^\s\"'<)]*", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert found.tags.count("svg") == 4


@pytest.mark.parametrize("hostile", [HOSTILE, "\x00\x1b[0m\ufffe名前\u2028😀"])
def test_hostile_names_stay_text(tmp_path, hostile):
    names = (hostile, *NAMES[1:])
    truth = np.repeat(np.arange(4), 20).astype(np.int32)
    report, details = evaluated(
        {hostile: truth, "b": truth},
        {hostile: np.roll(truth, 9), "b": truth},
        names=names,
        run={"dataset": hostile, "config": {hostile: hostile}},
    )
    text = written(tmp_path, report, details)
    found = Elements(text)
    assert found.tags.count("script") == 2
    assert "alert(1)" not in found.text_of("script")
    data = data_of(text)
    assert data["classes"][0] == data["videos"][0]["name"] == hostile


def test_few_videos_have_no_interval_and_the_page_says_why(tmp_path):
    text = written(tmp_path, *random_report(4)[:2])
    assert "fewer than 5 videos are too few for intervals" in text
    assert all(row[2] == "-" for row in rows_of(text, "Metrics") if row)


def test_a_metric_by_other_rules_has_no_interval(tmp_path):
    report, details, _ = random_report(6)
    report.metrics["edit"] += 1  # as another convention may have it
    found = {
        r[0]: r[2] for r in rows_of(written(tmp_path, report, details), "Metrics") if r
    }
    assert found["Edit"] == "-" != found["Acc (frames)"]


def test_a_perfect_model_has_no_mistakes(tmp_path):
    report, details, _ = random_report(5, share=0.0, online=False)
    text = written(tmp_path, report, details)
    assert "Longest mistakes" not in text and "<h2>Online</h2>" not in text
    assert "Error of borders" in text


def test_a_model_that_finds_nothing_has_a_page(tmp_path):
    truth = np.repeat([0, 1], 30).astype(np.int32)
    report, details = evaluated({"a": truth}, {"a": np.full(60, 3)}, online=False)
    assert "No segment was found." in written(tmp_path, report, details)


def test_flickering_labels_stay_under_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MOST_BYTES", 118_000)
    monkeypatch.setattr(report_page, "_LEAST_BYTES", 0)
    rng = np.random.default_rng(0)
    truths = {f"v{n}": random_labels(rng, 1500) for n in range(8)}
    flicker = {name: rng.integers(0, 4, 1500) for name in truths}
    text = written(tmp_path, *evaluated(truths, flicker, online=False))
    assert len(text.encode()) < 118_000
    step = int(re.search(r"shown at every\s+(\d+)th frame only", text)[1])
    video = data_of(text)["videos"][0]
    assert sum(video["runs"][0][1::2]) == 1500 and step >= 4


def test_thumbnails_show_the_frame(tmp_path, numbered):
    path = tmp_path / "a.mp4"
    numbered.write(path, 120, fps=10.0)
    truth = np.repeat([0, 1, 2], 40).astype(np.int32)
    wrong = truth.copy()
    wrong[50:71] = 0
    report, details = evaluated(
        {"a": truth}, {"a": wrong}, path=lambda name: str(path), online=False
    )
    (tmp_path / "evaluation").mkdir()
    text = written(tmp_path / "evaluation", report, details)
    jpeg = re.search(r'src="data:image/jpeg;base64,([^"]*)"', text)[1]
    data = np.frombuffer(base64.b64decode(jpeg), np.uint8)
    assert numbered.number(cv2.imdecode(data, cv2.IMREAD_COLOR)) == 60
    assert 'data-video="0" data-frame="60"' in text
    assert data_of(text)["videos"][0]["src"] == "../a.mp4"


def test_a_damaged_video_has_no_thumbnail(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    truth = np.repeat([0, 1], 40).astype(np.int32)
    report, details = evaluated(
        {"a": truth}, {"a": truth * 0}, path=lambda name: str(tmp_path / "a.mp4")
    )
    text = written(tmp_path, report, details)
    assert "Longest mistakes" in text and "image/jpeg" not in text
