"""The page in a real browser, without a network, at the width of a desk and of a phone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from sce_video.report import write_report
from tests.browser import CHROMIUM, DESKTOP, PHONE, Browser
from tests.report_run import EVIL, QUOTED, make_run, write_metrics, write_results

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

ROWS = "document.querySelectorAll('.query-row').length"
PLAYING = "[...document.querySelectorAll('video')].filter((v) => !v.paused).length"
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def url(root: Path) -> str:
    """A run with every result."""
    run = make_run(root)
    write_results(run)
    config = {"model": {"trunk": "r2plus1d_18", EVIL: QUOTED}, "data": {"shards": EVIL}}
    (run / "config.yaml").write_text(json.dumps(config))
    (run / "run.log").write_text(f"2026-01-02 03:04:05,678 INFO: this run\ndata   {EVIL}\n")
    return write_report([run]).as_uri()


@pytest.fixture(scope="module")
def both(root: Path, url: str) -> str:
    """That run and another one, whose name would be markup."""
    other = Path(shutil.copytree(root / "run", root / "<b>&\"'"))
    write_metrics(other, steps=30)
    write_results(other, top1=0.75)
    (other / "config.yaml").write_text(json.dumps({"model": {"trunk": "r3d_18", EVIL: EVIL}}))
    return write_report([root / "run", other], root / "both.html").as_uri()


@pytest.fixture(scope="module")
def many(root: Path, url: str) -> str:
    """Four runs with long names, without their shards."""
    runs = []
    for i in range(4):
        runs.append(Path(shutil.copytree(root / "run", root / f"{i}{'name' * 20}")))
        summary = runs[-1] / "retrieval" / "retrieval.json"
        summary.write_text(summary.read_text().replace("/shards", "/gone"))
    return write_report(runs, root / "many.html").as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser, in which a test may leave no error."""
    yield chromium
    assert chromium.complaints == []


def test_page_builds_itself(browser: Browser, url: str) -> None:
    browser.open(url)
    assert browser.js(ROWS) == 3
    text = browser.js("document.body.innerText")
    assert "3 of 3 queries match" in text
    assert "[object" not in text
    assert "undefined" not in text
    assert browser.js("document.querySelectorAll('.mark').length") == 15
    assert browser.js("document.querySelectorAll('polyline').length") == 2
    browser.at("button.player")
    browser.until("document.querySelector('video[src^=\"blob:\"]')?.readyState >= 2")


def test_headings_labels_and_alternatives(browser: Browser, both: str) -> None:
    browser.open(both)
    levels = browser.js("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    nameless = """[...document.querySelectorAll('button,input,select,img,a,[role]')]
      .filter((e) => !(e.innerText || e.alt || e.getAttribute('aria-label')
        || e.labels?.[0]?.innerText)).map((e) => e.outerHTML.slice(0, 80))"""
    browser.js("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.js(nameless) == []


@pytest.mark.parametrize("page", ["url", "both"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(
    browser: Browser, page: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    browser.open(request.getfixturevalue(page), prefers_color_scheme=scheme)
    browser.js("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    weak = """(() => {
      const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
      const light = (c) => rgb(c).slice(0, 3).map((v) => v / 255)
        .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const ground = (e) => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] !== 0) return c; } };
      const found = new Set();
      for (const e of document.querySelectorAll('body *:not(script):not(video)')) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
        const style = getComputedStyle(e);
        const [a, b] = [light(e.closest('svg') ? style.fill : style.color), light(ground(e))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.add(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
      }
      return [...found];
    })()"""
    assert browser.js(weak) == []


def test_names_stay_text(browser: Browser, both: str) -> None:
    browser.open(both)
    browser.js("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.js("document.title") == "run · <b>&\"' · sce-video"
    text = browser.js("document.body.innerText")
    shown = (EVIL, QUOTED, "<b>&\"'", f"model.{EVIL}", "x.tar/key: <broken>", "runs/<b>")
    assert [name for name in shown if name not in text] == []
    assert browser.js("document.querySelectorAll('main b, main script').length") == 0


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("#show=right", 1),
        ("#show=wrong", 2),
        (f"#class={quote(EVIL)}&show=wrong", 1),
        ("#class=Archery&show=wrong", 0),
        ("#q=V3.MP4", 1),
        ("#curves", 3),
    ],
    ids=["right", "wrong", "class-wrong", "class-none", "search", "section"],
)
def test_address_filters(browser: Browser, url: str, fragment: str, expected: int) -> None:
    browser.open(url + fragment)
    assert browser.js(ROWS) == expected
    assert f"{expected} of 3 queries match" in browser.js("document.body.innerText")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_filters_follow_clicks(browser: Browser, url: str, size: tuple[int, int]) -> None:
    browser.open(url, size)
    press = browser.tap if size == PHONE else browser.click
    press("input[value='wrong']")
    browser.until(f"{ROWS} === 2 && location.hash === '#show=wrong'")
    press("input[value='right']")
    browser.until(f"{ROWS} === 1")
    press("input[type='search']")
    for letter in "zz":
        browser.call("Input.insertText", text=letter)
    browser.until(f"{ROWS} === 0")
    assert browser.js(SIDEWAYS) <= 0


@pytest.mark.parametrize("page", ["url", "both", "many"])
def test_page_fits_a_phone(browser: Browser, page: str, request: pytest.FixtureRequest) -> None:
    browser.open(request.getfixturevalue(page), PHONE)
    assert browser.js(SIDEWAYS) <= 0
    browser.js("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.js(SIDEWAYS) <= 0
    small = """[...document.querySelectorAll('button,select,summary,input[type=search],nav a')]
      .map((e) => [e.outerHTML.slice(0, 60), e.getBoundingClientRect().height])
      .filter(([, height]) => height > 0 && height < 36)"""
    assert browser.js(small) == []


def test_clip_plays_under_the_mouse(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.move("button.player")
    browser.until(f"{PLAYING} === 1")
    browser.move("h1")
    browser.until(f"{PLAYING} === 0")
    browser.click(".switch")
    browser.until(f"{PLAYING} > 1")
    browser.click(".switch")
    browser.until(f"{PLAYING} === 0")


def test_clip_plays_under_the_keyboard(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.at("button.player")
    browser.click(".switch")  # focus, from where Tab goes on
    browser.click(".switch")
    browser.key("Tab", 9)
    browser.until("document.activeElement.matches('button.player')")
    browser.until(f"{PLAYING} === 1")
    browser.key("Tab", 9)
    browser.until(f"{PLAYING} === 0")


def test_clip_plays_on_a_tap(browser: Browser, url: str) -> None:
    browser.open(url, PHONE)
    browser.tap("button.player")
    browser.until(f"{PLAYING} === 1")
    browser.tap("button.player")
    browser.until(f"{PLAYING} === 0")


def test_reduced_motion_plays_only_on_a_click(browser: Browser, url: str) -> None:
    browser.open(url, prefers_reduced_motion="reduce")
    browser.move("button.player")
    browser.js("new Promise((done) => setTimeout(done, 300))")
    assert browser.js(PLAYING) == 0
    browser.click("button.player")
    browser.until(f"{PLAYING} === 1")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_classes_are_sorted(browser: Browser, url: str, size: tuple[int, int]) -> None:
    browser.open(url, size)
    press = browser.tap if size == PHONE else browser.click
    press("#results details:has(.classes) > summary")
    table = ".classes tbody th"
    names = f"[...document.querySelector('.classes').querySelectorAll('{table[9:]}')]"
    names += ".map((e) => e.innerText)"
    assert browser.js(names) == sorted([QUOTED, EVIL, "Archery"], key=str.lower)
    column = ".classes th:nth-child(3) .sort"  # R@1
    press(column)
    browser.until(f"{names}[0] === 'Archery'")
    assert browser.js(names) == ["Archery", QUOTED, EVIL]
    press(column)
    browser.until(f"{names}[2] === 'Archery'")
    assert browser.js("document.querySelector('[aria-sort]').innerText").startswith("R@1")


def test_curve_tells_its_values(browser: Browser, url: str) -> None:
    browser.open(url)
    said = "document.querySelector('.chart figcaption').innerText.replace(/\\s+/g, ' ')"
    browser.until("document.querySelector('.chart .line')")
    y = browser.at(".chart svg")[1]
    left = browser.js("document.querySelector('.chart svg').getBoundingClientRect().x")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 47, y=y)
    browser.until(f"{said} === 'Loss 5 step 1'")
    browser.js("document.querySelector('.chart svg').focus()")
    browser.key("ArrowRight", 39)
    browser.until(f"{said} === 'Loss 2.5 step 2'")


def test_runs_side_by_side(browser: Browser, both: str) -> None:
    browser.open(both)
    assert browser.js("document.querySelectorAll('#comparison .best').length") > 0
    rows = browser.js(
        "[...document.querySelectorAll('.sides tr')].map((r) => r.innerText.replace(/\\s+/g, ' '))"
    )
    assert "Top-1 50.0 % 75.0 % (best)" in rows
    assert "model.trunk r2plus1d_18 r3d_18" in rows
    browser.until(
        "document.querySelectorAll('.chart:has(.run-0 .line):has(.run-1 .line)').length > 1"
    )
    browser.js(
        "(() => { const s = document.querySelector('select[name=run]'); s.selectedIndex = 1;"
        " s.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )
    assert browser.js("new URLSearchParams(location.hash.slice(1)).get('run')") == "<b>&\"'"
    assert browser.js(ROWS) == 3


def test_mean_of_splits_and_weights_of_others(browser: Browser, root: Path, url: str) -> None:
    runs = []
    for i, name in enumerate(("first", "second", "foreign")):
        runs.append(Path(shutil.copytree(root / "run", root / name)))
        path = runs[-1] / "test" / "test.json"
        test = json.loads(path.read_text())
        test["protocol"] |= {"dataset": "ucf101", "split": f"split{i}:test"}
        path.write_text(json.dumps(test | {"top1": 0.25 + i / 2}))
    for name in ("metrics.jsonl", "status.json", "config.yaml"):
        (runs[2] / name).unlink()
    shutil.rmtree(runs[2] / "test")
    browser.open(write_report(runs, root / "means.html").as_uri(), PHONE)
    text = browser.js("document.getElementById('results').innerText")
    assert "Mean of 2 tests: ucf101, split0:test (3), split1:test (3)" in text
    assert "50.0 ± 35.4 %" in text
    assert browser.js(SIDEWAYS) <= 0
    text = browser.js("document.getElementById('comparison').innerText")
    assert "weights of others, not trained here" in text
    assert text.endswith("All the same.")


def test_numbers_of_any_size_are_drawn(browser: Browser, tmp_path: Path) -> None:
    given = {
        "close": [(1, 1e17), (2, 1e17 + 16), (3, 1e17 + 32)],
        "tiny": [(1, 5e-324), (2, 0.0), (3, 1e-323)],
        "huge": [(1, 1.7e308), (2, -1.7e308), (3, 9e299)],
        "steps": [(2**53 - 3, 1.0), (2**53 - 2, 2.0), (2**53 - 1, 3.0)],
    }
    for name, points in given.items():
        (tmp_path / name).mkdir()
        rows = [json.dumps({"step": step, "train/loss": value}) for step, value in points]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(rows))
        browser.open(write_report([tmp_path / name]).as_uri())
        browser.until("document.querySelectorAll('polyline, circle').length === 1")
        assert browser.complaints == []


def test_nothing_yet_is_said(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "running", "step": 0, "checkpoint": null}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/l')
    browser.open(write_report([tmp_path]).as_uri(), PHONE)
    text = browser.js("document.body.innerText")
    for said in (
        "killed, can be resumed",
        "1 of 1 lines cannot be read",
        "No results yet",
        "No metrics",
    ):
        assert said in text
    assert browser.js(SIDEWAYS) <= 0


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_clips_are_visible(
    browser: Browser, url: str, size: tuple[int, int], tmp_path: Path
) -> None:
    browser.open(url, size)
    browser.at("button.player")
    end, bright = time.monotonic() + 20, 0
    while bright <= 500:
        assert time.monotonic() < end, "no clip was painted"
        picture = browser.picture(tmp_path / "page.png")
        pixels = np.asarray(Image.open(picture).convert("RGB"), dtype=np.int64)
        # The squares that move in the videos are of a light saturated colour, the page has none.
        spread = pixels.max(2) - pixels.min(2)
        bright = ((spread > 30) & (pixels.min(2) > 150)).sum()
    scale = 2 if size == PHONE else 1
    assert pixels.shape == (size[1] * scale, size[0] * scale, 3)
