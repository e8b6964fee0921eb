"""The labelling page in a browser: needs playwright and Debian's chromium."""

import contextlib
import fractions
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from svtas_jax import serve

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = pathlib.Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium"),
]
ROOT = pathlib.Path(serve.__file__).parents[1]
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
FRAMES, FPS = 450, 15
STEPS = np.array(
    [2000] * 5 + [1000] * 5
)  # of 1/30000 s: the rate varies, 20 on average
CLASSES = ("background", "take", "pour Öl")


class Server:
    """The command in a process of its own, which can be killed and started again."""

    def __init__(self, root):
        self.root, self.port, self.process = root, 0, None

    def start(self):
        command = [sys.executable, "-m", "svtas_jax.serve", f"--label={self.root}"]
        self.process = subprocess.Popen(
            [*command, f"--port={self.port}"], cwd=ROOT, stderr=subprocess.PIPE
        )
        for line in self.process.stderr:
            if found := re.search(rb"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                return f"http://127.0.0.1:{self.port}"
        raise AssertionError("the server did not start")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def server(films, tmp_path):
    """A server of one video of 30 s, of varying rate, and of a broken one."""
    root = tmp_path / "küche"
    (root / "Videos").mkdir(parents=True)
    stamps = np.concatenate([[0], np.cumsum(np.resize(STEPS * 4 // 3, FRAMES - 1))])
    films.write(
        root / "Videos" / "kaffee ü.mp4",
        np.arange(FRAMES) % 256,
        stamps=stamps.tolist(),
        time_base=fractions.Fraction(1, 30_000),
        size=(120, 160),
    )
    (root / "Videos" / "broken.mp4").write_text("no video")
    server = Server(root)
    server.address = server.start()
    yield server
    server.kill()


@contextlib.contextmanager
def opened(browser, server, *, context=None, size="desktop", theme="light"):
    """A page that has reported no error when it is over, but for a lost server."""
    width, height = SIZES[size]
    own = context or browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme
    )
    page, errors = own.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.address, wait_until="domcontentloaded")
    page.wait_for_selector("#picture:not([hidden])", timeout=20_000)
    playwright.expect(page.locator("#where")).to_contain_text(
        f"of {FRAMES}", timeout=20_000
    )
    yield page
    page.close()
    if context is None:
        own.close()
    assert not errors


def add_classes(page, names=CLASSES):
    for name in names:
        page.fill("#add input", name)
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#classes .text").last).to_have_text(name)


def press(page, key, times=1):
    for _ in range(times):
        page.keyboard.press(key)


def go(page, frame):
    """Steps to a frame with keys, and checks that its picture is shown."""
    here = frame_of(page)
    tens, ones = divmod(abs(frame - here), 10)
    arrow = "ArrowRight" if frame > here else "ArrowLeft"
    press(page, f"Shift+{arrow}", tens)
    press(page, arrow, ones)
    playwright.expect(page.locator("#picture")).to_have_attribute(
        "data-frame", str(frame)
    )


def frame_of(page):
    return int(re.match(r"frame (\d+) ", page.inner_text("#where"))[1])


def saved(page):
    playwright.expect(page.locator("#saved")).to_have_attribute(
        "data-state", "saved", timeout=20_000
    )


def place(page, frame):
    """Returns where the middle of a frame is on the timeline of the whole video."""
    box = page.locator("#timeline").bounding_box()
    return box["x"] + (frame + 0.5) / FRAMES * box["width"], box["y"] + 20


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, start[1], steps=4)
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def labels_of(server):
    path = server.root / "groundTruth" / "kaffee ü.txt"
    return path.read_text("utf-8").splitlines() if path.exists() else None


def rows_of(page, server):
    saved(page)
    video = page.evaluate("location.hash.slice(1)")
    return page.evaluate(
        "id => fetch(`label/videos/${id}`).then(a => a.json()).then(f => f.segments)",
        video,
    )


def test_a_video_is_labelled_as_a_person_would(browser, server):
    with opened(browser, server) as page:
        playwright.expect(page.locator("#videos")).to_contain_text("not a video")
        add_classes(page)
        # With keys: take from 0, pour from 60 to 150, both while going forward.
        press(page, "2")
        go(page, 60)
        press(page, "3")
        go(page, 150)
        press(page, "3")
        assert rows_of(page, server) == [
            [0, 60, CLASSES[1], False],
            [60, 151, CLASSES[2], False],
        ]
        # With the mouse: a range along the timeline, then a class.
        drag(page, place(page, 200), place(page, 300))
        press(page, "2")
        assert rows_of(page, server)[2] == [200, 301, CLASSES[1], False]
        press(page, "Escape")
        # The border at 60 is dragged; undo, redo.
        x, y = place(page, 60)
        drag(page, (x - 1, y), place(page, 90))
        moved = rows_of(page, server)
        assert moved[0][1] == moved[1][0] and abs(moved[0][1] - 90) <= 1
        press(page, "Control+z")
        assert rows_of(page, server)[0] == [0, 60, CLASSES[1], False]
        press(page, "Control+y")
        assert rows_of(page, server) == moved
        # Exactly to frame 80 with a key; a split, another class, a merge, a deletion.
        go(page, 80)
        press(page, "b")
        go(page, 120)
        press(page, "s")
        page.mouse.click(*place(page, 135))
        press(page, "1")
        press(page, "Escape")
        assert rows_of(page, server)[1:3] == [
            [80, 120, CLASSES[2], False],
            [120, 151, CLASSES[0], False],
        ]
        page.mouse.click(*place(page, 100))
        press(page, "m")
        assert rows_of(page, server)[1] == [80, 151, CLASSES[2], False]
        page.mouse.click(*place(page, 250))
        press(page, "Delete")
        assert labels_of(server) is None
        press(page, "Control+z")
        page.get_by_role("button", name="Fill gaps").click()
        page.locator("#choose select").select_option(CLASSES[0])
        page.get_by_role("button", name="Fill", exact=True).click()
        playwright.expect(page.locator("#saved")).to_contain_text("every frame")
        expected = [CLASSES[0]] * FRAMES
        expected[:80], expected[80:151] = [CLASSES[1]] * 80, [CLASSES[2]] * 71
        expected[200:301] = [CLASSES[1]] * 101
        assert labels_of(server) == expected
        playwright.expect(page.locator("#videos")).to_contain_text("done")


def test_nothing_is_lost_when_the_server_is_killed(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    with opened(browser, server, context=context) as page:
        add_classes(page)
        press(page, "2")
        go(page, 20)
        press(page, "2")
        saved(page)
        server.kill()
        # What was acknowledged is on the disk; what comes now waits in the browser.
        stored = (server.root / "labels" / "kaffee ü.json").read_text("utf-8")
        assert '[[0, 21, "take", false]]' in stored
        go(page, 30)
        press(page, "3")
        go(page, 40)
        press(page, "3")
        state = page.locator("#saved")
        playwright.expect(state).to_contain_text("Not saved")
        server.start()
        first = [[0, 21, CLASSES[1], False], [30, 41, CLASSES[2], False]]
        assert rows_of(page, server) == first
        # The browser goes, too, before the server is back.
        server.kill()
        go(page, 50)
        press(page, "2")
        go(page, 55)
        press(page, "2")
        playwright.expect(state).to_contain_text("Not saved")
        page.close(run_before_unload=False)
        server.start()
        with opened(browser, server, context=context) as again:
            saved(again)
            found = again.locator("#notice, #saved")
            playwright.expect(found.first).not_to_contain_text("not saved")
            second = [*first, [50, 56, CLASSES[1], False]]
            playwright.expect(again.locator("[data-do=merge]")).to_be_visible()
            assert rows_of(again, server) == second
    context.close()


def test_two_windows_do_not_overwrite_each_other(browser, server):
    with opened(browser, server) as one, opened(browser, server) as two:
        add_classes(one)
        playwright.expect(two.locator("#classes .text")).to_have_count(3)
        press(one, "2")
        go(one, 20)
        two.route("**/label/videos?*", lambda route: route.abort())  # it hears nothing
        press(one, "2")
        saved(one)
        press(two, "3")
        go(two, 10)
        press(two, "3")
        playwright.expect(two.locator("#conflict")).to_contain_text("another person")
        assert rows_of(one, server) == [[0, 21, CLASSES[1], False]]
        two.unroute("**/label/videos?*")
        two.get_by_role("button", name="Keep mine").click()
        assert rows_of(two, server) == [[0, 11, CLASSES[2], False]]
        # The first window sees it without being asked, and goes on from there.
        playwright.expect(one.locator("#notice")).to_contain_text("changed elsewhere")
        (server.root / "groundTruth" / "kaffee ü.txt").write_text("take\n" * FRAMES)
        for page in (one, two):
            playwright.expect(page.locator("#conflict")).to_contain_text(
                "another program"
            )
        two.get_by_role("button", name="Keep the file's labels").click()
        assert rows_of(two, server) == [[0, FRAMES, CLASSES[1], False]]


FUZZ = """async () => {
  const e = await import('/label_edit.js'), total = 60;
  let seed = 1, segments = [];
  const below = (n) => { seed = (seed * 48271) % 2147483647; return seed % n; };
  const check = (found, why) => {
    let end = 0;
    for (const s of found) {
      if (s.start < end || s.end <= s.start || s.end > total) throw new Error(`${why}: ${JSON.stringify(found)}`);
      end = s.end;
    }
    return found;
  };
  const labels = (found) => { const all = Array(total).fill(null); for (const s of found) all.fill(s.label, s.start, s.end); return all; };
  for (let n = 0; n < 20000; n++) {
    const start = below(total), end = start + 1 + below(total - start), label = 'abc'[below(3)], before = labels(segments);
    const copy = JSON.stringify(segments), kind = below(9);
    let next = segments, wanted = before;
    if (kind < 2) { next = e.paint(segments, start, end, label); wanted = before.map((l, f) => start <= f && f < end ? label : l); }
    else if (kind === 2) { next = e.clear(segments, start, end); wanted = before.map((l, f) => start <= f && f < end ? null : l); }
    else if (kind === 3) next = e.split(segments, start);
    else if (kind === 4) next = e.accept(segments, start, end);
    else if (kind === 5) {
      next = e.propose(segments, [[0, 20, 'a'], [20, 41, 'x'], [41, 60, 'b']], total, new Set('abc'));
      wanted = before.map((l, f) => l ?? (f < 20 ? 'a' : f < 41 ? null : 'b'));
    } else if (kind === 6) { const at = e.segmentAt(segments, start); if (at >= 0) { next = e.merge(segments, at); wanted = null; } }
    else {
      const all = e.borders(segments), border = all[below(Math.max(1, all.length))];
      if (border) { next = e.moveBorder(segments, border, below(total + 9) - 4, total); wanted = null; if (next.length !== segments.length) throw new Error('a segment is gone'); }
    }
    check(next, `kind ${kind} ${start} ${end}`);
    if (wanted && labels(next).join() !== wanted.join()) throw new Error(`kind ${kind} ${start} ${end} ${copy}`);
    if (JSON.stringify(segments) !== copy) throw new Error(`kind ${kind} changes what it is given`);
    const open = e.gaps(next, total).reduce((sum, g) => sum + g.end - g.start, 0);
    if (open !== labels(next).filter((l) => l === null).length) throw new Error('gaps');
    segments = below(12) ? next : [];
  }
  return true;
}"""  # noqa: E501


def test_no_change_breaks_the_segments(browser, server):
    page = browser.new_page()
    page.goto(server.address, wait_until="domcontentloaded")
    assert page.evaluate(FUZZ)
    page.close()


def test_a_person_corrects_what_a_run_proposes(browser, run, film, tools, tmp_path):
    (tmp_path / "Videos").mkdir()
    shutil.copy(film, tmp_path / "Videos" / "a.avi")
    (tmp_path / "mapping.txt").write_text(
        "".join(f"{n} {name}\n" for n, name in enumerate([*run.class_names, "stir"])),
        encoding="utf-8",
    )
    expected = run.segment(film)
    truth = tmp_path / "groundTruth" / "a.txt"
    with tools.labelling(tmp_path, run) as client:
        page = browser.new_page()
        page.goto(str(client.base_url), wait_until="domcontentloaded")
        playwright.expect(page.locator("#run-name")).to_contain_text(
            f"{len(expected.segments)} to accept", timeout=30_000
        )
        playwright.expect(page.locator("#run-note")).to_contain_text("stir")
        playwright.expect(page.locator(".now")).to_contain_text("?")
        sure = [segment.confidence for segment in expected.segments]
        unsure = expected.segments[int(np.argmin(sure))]
        press(page, "n")
        playwright.expect(page.locator("#mode")).to_contain_text(unsure.label)
        assert unsure.start_frame <= frame_of(page) < unsure.end_frame
        press(page, "Enter")
        playwright.expect(page.locator("#saved")).to_have_attribute(
            "data-state", "saved"
        )
        assert not truth.exists()
        press(page, "Shift+Enter")
        playwright.expect(page.locator("#saved")).to_contain_text("every frame")
        assert truth.read_text("utf-8").splitlines() == expected.label_names
        press(page, "Control+z")
        playwright.expect(page.locator("#run-name")).to_contain_text("to accept")
        tools.until(lambda: not truth.exists())
        (tmp_path / "labels" / "a.json").write_text("{")
        playwright.expect(page.locator("#notice")).to_contain_text("is damaged")
        page.close()


def test_it_plays_at_the_times_of_the_frames(browser, server):
    with opened(browser, server) as page:
        page.evaluate(
            """() => { window.seen = []; new MutationObserver(() => {
              const c = document.querySelector('#picture');
              seen.push([performance.now() / 1000, Number(c.dataset.frame)]);
            }).observe(document.querySelector('#picture'), { attributes: true }); }"""
        )
        press(page, "Space")
        page.wait_for_timeout(4000)
        press(page, "Space")
        seen = np.array(page.evaluate("window.seen"))
        times = np.array(
            page.evaluate(
                "id => fetch(`label/videos/${id}/times`).then(a => a.arrayBuffer())"
                ".then(b => [...new Float64Array(b)])",
                page.evaluate("location.hash.slice(1)"),
            )
        )
        shown, moments = seen[:, 1].astype(int), seen[:, 0]
        middle = slice(len(shown) // 3, None)
        lag = (moments - moments[0]) - (times[shown] - times[shown[0]])
        assert np.ptp(lag[middle]) < 0.25, lag
        assert shown[-1] > 30 and (np.diff(shown) >= 0).all()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_every_screen(browser, server, size, theme):
    with opened(browser, server, size=size, theme=theme) as page:
        add_classes(page)
        page.locator("#classes button.class").nth(1).click()
        page.get_by_role("button", name="A frame forward").click()
        page.locator("#classes button.class").nth(1).click()
        assert rows_of(page, server) == [[0, 2, CLASSES[1], False]]
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size][0]
        page.keyboard.press("?")
        playwright.expect(page.locator("#keys")).to_be_visible()
        page.keyboard.press("Escape")
        ground = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(ground)
        page.locator("#theme").click()
        assert page.evaluate(ground) != before
