"""The page in a browser: needs playwright and Debian's chromium."""

import pathlib

import cv2
import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = pathlib.Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium"),
]
OPTIONS = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
SIZES = {"desktop": (1280, 800), "phone": (375, 812)}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=list(OPTIONS)
        )
        yield chromium
        chromium.close()


@pytest.fixture(params=["light", "dark"])
def theme(request):
    return request.param


@pytest.fixture(params=SIZES)
def page(request, browser, theme):
    """A page that has reported no error when the test is over."""
    width, height = SIZES[request.param]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme
    )
    context.grant_permissions(["camera"])
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    yield page
    context.close()
    # Chromium reports every refused request, also one that the test wants refused.
    assert not [error for error in errors if "status of 415" not in error]


def visit(page, client, tab):
    page.goto(f"{client.base_url}/#{tab}", wait_until="domcontentloaded")
    page.wait_for_selector("#model:not(:empty)")


def check_fits(page):
    """Nothing is wider than the screen."""
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]


def colours_in(page, selector):
    """Returns the colours of what is drawn there."""
    png = page.locator(selector).first.screenshot()
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    values, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    return {"#{:02x}{:02x}{:02x}".format(*v) for v in values[counts > 50].tolist()}


def test_cameras_show_label_timeline_and_figures(page, client):
    visit(page, client, "cameras")
    film, nobody = (page.locator(".view").nth(n) for n in (0, 1))
    last = client.get("/sources/0").json()["last"]
    playwright.expect(film.locator(".now")).to_have_text(last["label"])
    playwright.expect(film.locator(".state")).to_have_text("ended")
    playwright.expect(film.locator(".screen img")).to_be_visible()
    playwright.expect(film.locator(".scores .best .name")).to_have_text(last["label"])
    playwright.expect(film.locator(".figures")).to_contain_text("Lag p95")
    playwright.expect(nobody.locator(".state")).to_have_text("broken off")
    playwright.expect(nobody.locator(".reason")).to_contain_text("gives no pictures")
    assert "<b>1.avi" in film.locator("h2").text_content()
    about = client.get("/sources").json()
    colours = {c["name"]: c["colour"] for c in about["classes"]}
    shown = client.get("/sources/0/results").json()["segments"]
    longest = max(shown, key=lambda s: s["frames"][1] - s["frames"][0])
    assert colours[longest["label"]] in colours_in(page, ".timeline")
    check_fits(page)


def test_a_file_is_segmented_beside_its_truth(page, client, film, tiny, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(tiny.classes[n // 10] for n in range(40)), "utf-8")
    visit(page, client, "file")
    page.set_input_files("input[name=video]", film)
    page.set_input_files("input[name=labels]", labels)
    page.get_by_role("button", name="Segment the video").press("Enter")
    page.wait_for_selector("#file .view", timeout=30_000)
    figures = page.locator("#file .figures")
    for name in ("Acc", "Edit", "F1@50"):
        playwright.expect(figures).to_contain_text(name)
    canvas = page.locator("#file canvas")
    assert "with the truth" in canvas.get_attribute("aria-label")
    with page.expect_download() as download:
        page.locator("#file [data-format=txt]").click()
    lines = download.value.path().read_text("utf-8").splitlines()
    assert len(lines) == 40
    check_fits(page)


def test_a_wrong_file_is_one_message(page, client, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("no video")
    visit(page, client, "file")
    page.set_input_files("input[name=video]", path)
    page.get_by_role("button", name="Segment the video").click()
    playwright.expect(page.locator("#notice")).to_contain_text("not a video")


def test_the_camera_of_the_browser_is_answered(page, client):
    visit(page, client, "own")
    page.get_by_role("button", name="Start the camera").click()
    playwright.expect(page.locator("#own .now")).not_to_be_empty(timeout=20_000)
    playwright.expect(page.locator("#own .figures")).to_contain_text("Frames/s")
    check_fits(page)
    page.get_by_role("button", name="Stop").click()
    playwright.expect(page.locator("#own .state")).to_have_text("ended")


def test_tabs_and_colours_work_with_the_keyboard(page, client, theme):
    visit(page, client, "cameras")
    page.get_by_role("tab", name="Cameras").focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#file")).to_be_visible()
    playwright.expect(page.locator("#cameras")).to_be_hidden()
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.locator("#theme").press("Enter")
    assert page.evaluate(ground) != before
    assert page.evaluate("document.documentElement.dataset.theme") != theme


def test_the_description_fits(page, client):
    page.goto(f"{client.base_url}/docs", wait_until="domcontentloaded")
    playwright.expect(page.locator("h1")).to_contain_text("svtas_jax")
    check_fits(page)


def test_a_token_in_the_address_opens_the_page(browser, run, tools):
    with tools.serving(run, token="a-long-secret") as client:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{client.base_url}/?token=a-long-secret")
        page.wait_for_selector("#model:not(:empty)")
        assert "token" not in page.url
        (cookie,) = context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
        context.close()
