import base64
import gzip
import json
import re

import pytest
from markup import Elements
from reported import evaluated, random_report

from svtas_jax.evaluation.comparison import compare
from svtas_jax.evaluation.details import from_runs, write_details
from svtas_jax.evaluation.page.compare_page import write_comparison
from svtas_jax.evaluation.report import write_report

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def compared(tmp_path):
    """A comparison of runs with hostile names, and its page."""
    _, _, truths = random_report(6)
    truths[HOSTILE] = truths.pop("video 0")
    names = (HOSTILE, "pour", "stir", "background")
    paths = []
    for run, seed in ((f"a{HOSTILE}"[:20], 1), ("b", 2)):
        _, details, _ = random_report(6, seed=seed, truths=truths)
        labels = {n: from_runs(v.prediction) for n, v in details.videos.items()}
        report, details = evaluated(truths, labels, names=names)
        folder = tmp_path / run.replace("/", "_")
        write_report(report, folder / "evaluation")
        write_details(details, folder / "evaluation")
        paths.append(str(folder))
    found = compare(paths)
    return found, write_comparison(found, tmp_path / "out").read_text("utf-8")


def test_the_page_is_whole_loads_nothing_and_runs_no_names(compared):
    _, text = compared
    found = Elements(text)
    assert not found.addresses and found.tags.count("script") == 2
    assert "alert(1)" not in found.text_of("script")
    outside = set(re.findall(r"\w+://[^\s\"'<)]*", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_videos_are_sorted_by_their_difference(compared):
    found, text = compared
    one, other = (entry.runs[0].content["videos"] for entry in found.entries)
    gains = {name: other[name]["acc"] - one[name]["acc"] for name in one}
    part = text.split("<h2>Differences of videos</h2>")[1].split("</table>")[0]
    rows = re.findall(r"<tr><td>(.*?)</td><td[^>]*>.*?</td><td[^>]*>(.*?)</td>", part)
    shown = [float(gain) for _, gain in rows]
    assert shown == sorted(shown) and len(shown) == 6
    assert shown == pytest.approx(sorted(gains.values()), abs=0.06)


def test_the_script_gets_the_labels_of_both(compared):
    found, text = compared
    packed = re.search(r'id="timeline-data">([^<]*)<', text)[1]
    data = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert data["rows"] == [entry.name for entry in found.entries]
    for video in data["videos"]:
        assert len(video["runs"]) == 2 and not video["sure"]
        assert sum(video["runs"][1][1::2]) == video["frames"]
    assert "where b is worse first" in [name for name, _ in data["orders"]]
