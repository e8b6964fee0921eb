"""check.html: what it shows, how large it gets, and how it looks in a browser."""

import pathlib
import re

import numpy as np
import pytest

from data_pipeline.checking import cards, examine, page

CHROMIUM = pathlib.Path("/usr/bin/chromium")


def figures_of(html):
    return re.findall(r"<figure>.*?</figure>", html, re.S)


def test_pictures_stand_on_both_sides_of_every_border(good):
    html = page.render(good.examine())
    figures = figures_of(html)
    assert len(figures) == 6 * 4 and "both sides of 24 of 24 borders" in html
    assert all(figure.count("data:image/jpeg;base64,") == 2 for figure in figures)
    assert "background &rarr; open" in figures[0] and "frame 9, 0.6 s" in figures[0]
    assert html.count("<rect") == 30  # one a segment, and nothing to mark
    assert "http://" not in html and "https://" not in html


def test_videos_with_errors_come_first(damaged):
    lines = damaged.lines("groundTruth/S3_a.txt")
    damaged.write("groundTruth/S3_a.txt", [*lines[:-1], "nothing"])
    lines = damaged.lines("groundTruth/S2_b.txt")
    damaged.write("groundTruth/S2_b.txt", [*lines[:3], "open", *lines[4:]])
    examined = damaged.examine()
    assert list(cards.anchors_of(examined))[:3] == ["S3_a", "S2_b", "S1_a"]
    html = page.render(examined)
    order = re.findall(r"<h3>(\w+)", html)
    assert order[:3] == ["S3_a", "S2_b", "S1_a"]
    assert 'href="#video-0">groundTruth/S3_a.txt, line 45' in html
    assert html.count('<rect class="mark warning"') == 2  # flicker, and an edge


def test_names_are_text(damaged):
    name = "<b>bold</b> & co"
    damaged.write("mapping.txt", [*damaged.lines("mapping.txt"), f"4 {name}"])
    lines = damaged.lines("groundTruth/S1_a.txt")
    damaged.write("groundTruth/S1_a.txt", [*lines[:-9], *[name] * 5, *["<i>"] * 4])
    html = page.render(damaged.examine())
    assert "<b>" not in html and "<i>" not in html
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in html


def test_the_page_stays_small(good, monkeypatch):
    monkeypatch.setattr(cards, "_MOST_BYTES", 30_000)
    html = page.render(good.examine())
    shown = len(figures_of(html))
    assert 0 < shown < 24 and f"both sides of {shown} of 24 borders" in html
    assert "left out" in html and len(html) < 60_000


def test_the_borders_of_short_segments_are_kept(damaged, monkeypatch):
    labels = damaged.lines("groundTruth/S1_a.txt")
    damaged.write("groundTruth/S1_a.txt", [*labels[:30], "pour", *labels[31:]])
    monkeypatch.setattr(examine, "_MOST_BORDERS", 12)
    examined = damaged.examine()
    assert examine.borders(examined.data, "S1_a") == [30, 31]
    html = page.render(examined)
    assert len(figures_of(html)) == 12 and "12 of 26 borders" in html


def test_labels_that_change_with_every_frame_are_drawn_in_columns(damaged):
    damaged.data.features = "features"
    (damaged.root / "features").mkdir()
    np.save(damaged.root / "features" / "S1_a.npy", np.ones((5000, 3), "f4"))
    damaged.write("groundTruth/S1_a.txt", ["open", "pour"] * 2500)
    examined = damaged.examine()
    assert cards._strip(examined, "S1_a", ()).count("<rect") <= 1200
    assert len(page.render(examined)) < 200_000
    slips = [f for f in examined.findings if f.kind in ("flicker", "edge")]
    assert len(slips) == 11 and "4990 other segments, of 5000" in slips[9].what


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_any_screen(damaged, browser, tmp_path, width, theme):
    damaged.write("groundTruth/S1_a.txt", ["a very long name of a class"] * 99)
    damaged.video("S1_b").unlink()
    path = tmp_path / "check.html"
    path.write_text(page.render(damaged.examine()), encoding="utf-8")
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=theme)
    shown, errors = context.new_page(), []
    shown.on("console", lambda said: errors.append(said.text))
    shown.goto(path.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    image = "document.images[0].complete && document.images[0].naturalWidth"
    assert shown.evaluate(image) > 50
    rect = "getComputedStyle(document.querySelector('rect.k1')).fill"
    assert shown.evaluate(rect) == "rgb(230, 159, 0)"
    context.close()
    assert not errors
