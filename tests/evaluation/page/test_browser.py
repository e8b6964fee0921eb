"""The pages in a browser: needs playwright and Debian's chromium."""

import pathlib

import numpy as np
import pytest
from reported import NAMES, evaluated, random_labels, random_report, worsened

from svtas_jax.evaluation.comparison import compare
from svtas_jax.evaluation.page.compare_page import write_comparison
from svtas_jax.evaluation.page.report_page import write_pages
from svtas_jax.evaluation.report import write_report

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = pathlib.Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium"),
]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def page(request, browser):
    """A page that has reported no error when the test is over, and fits its screen."""
    width, scheme = request.param
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    # Chromium reports a missing file, also one that the test wants missing.
    assert not [error for error in errors if "ERR_FILE_NOT_FOUND" not in error]


@pytest.fixture(scope="module")
def written(tmp_path_factory, films):
    """A report on six videos, of which the first has a file that browsers play."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    names = ["plays", HOSTILE, *(f"v{n}" for n in range(4))]
    truths = {name: random_labels(rng, 60) for name in names}
    labels = {name: worsened(rng, t, 0.3) for name, t in truths.items()}
    films.write(folder / "plays.mp4", range(60), rate=10)
    report, details = evaluated(
        truths,
        labels,
        names=(HOSTILE, *NAMES[1:]),
        path=lambda name: str(folder / "plays.mp4") if name == "plays" else "",
    )
    write_report(report, folder / "evaluation")
    return write_pages(report, details, folder / "evaluation")


def ink_of(page, index):
    """Returns how many colours a canvas shows."""
    page.locator("#timelines canvas").nth(index).scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    return page.evaluate(
        """index => {
          const canvas = document.querySelectorAll("#timelines canvas")[index];
          const pixels = canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height).data;
          return new Set(new Uint32Array(pixels.buffer)).size;
        }""",
        index,
    )


def test_a_report_draws_says_and_shows(page, written):
    page.goto(written.as_uri())
    page.wait_for_selector("#timelines article")
    assert page.locator("#timelines article").count() == 6
    assert ink_of(page, 0) > 4 and ink_of(page, 5) > 4
    canvas = page.locator("#timelines canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 0.6, "y": 12})
    said = page.locator(".tip").text_content()
    assert "truth: " in said and "prediction: " in said and "(frame " in said
    canvas.click(position={"x": box["width"] * 0.6, "y": 12})
    time_s = 0
    while not time_s:  # the page's own policy forbids what Playwright waits by
        page.wait_for_timeout(100)
        time_s = page.evaluate("document.querySelector('video').currentTime")
    frame = int(
        page.locator(".viewer pre").text_content().split("frame ")[1].split(")")[0]
    )
    assert time_s == pytest.approx((frame + 0.5) / 10, abs=0.02)
    page.get_by_role("button", name="Close").click()
    cell = page.locator(".matrix [role=graphics-symbol]").first
    cell.scroll_into_view_if_needed()
    cell.hover()
    assert "frames" in page.locator(".tip").text_content()


def test_a_reader_orders_finds_and_steps(page, written):
    page.goto(written.as_uri())
    page.wait_for_selector("#timelines article")
    page.select_option("#order", label="by name")
    first = page.locator("#timelines h3 span").first
    assert first.text_content() == HOSTILE
    page.fill("#filter", "PLAYS")
    assert page.locator("#timelines article:visible").count() == 1
    page.fill("#filter", "")
    page.locator("#timelines canvas").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "(frame 3)" in page.locator(".tip").text_content()
    page.keyboard.press("Enter")
    notice = page.locator(".viewer .notice")
    assert "did not come from a file" in notice.text_content()


def test_a_video_that_went_away_is_said(page, written, tmp_path):
    moved = tmp_path / "report.html"
    moved.write_bytes(written.read_bytes())
    page.goto(moved.as_uri())
    page.wait_for_selector("#timelines canvas")
    page.locator("#timelines canvas").first.click()
    playwright.expect(page.locator(".viewer .notice")).to_contain_text(
        "plays.mp4 is not"
    )


def test_a_comparison_draws_every_run(page, tmp_path):
    truths, paths = None, []
    for seed, name in enumerate(("a", "b", HOSTILE.replace("/", ""))):
        report, details, truths = random_report(6, seed=seed, truths=truths)
        write_report(report, tmp_path / name / "evaluation")
        write_pages(report, details, tmp_path / name / "evaluation")
        paths.append(tmp_path / name)
    arguments = [str(paths[0]), str(paths[1]), f"x={paths[2]}"]
    page.goto(write_comparison(compare(arguments), tmp_path).as_uri())
    page.wait_for_selector("#timelines canvas")
    assert ink_of(page, 0) > 4
    canvas = page.locator("#timelines canvas").first
    canvas.hover(position={"x": 200, "y": 12})
    said = page.locator(".tip").text_content()
    assert all(f"\n{name}: " in said for name in ("truth", "a", "b", "x"))
