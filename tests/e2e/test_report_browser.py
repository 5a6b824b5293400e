"""The page in a real browser, without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from sce_video.report import write_report
from tests.report_run import EVIL, make_run

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=4000",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(make_run(tmp_path_factory.mktemp("browser"))).as_uri()


def browse(profile: Path, *arguments: str) -> str:
    """What chromium prints."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def dom(profile: Path, url: str) -> str:
    """The page after its script ran, without the script and the data."""
    return re.sub(r"<script.*?</script>", "", browse(profile, "--dump-dom", url), flags=re.DOTALL)


def rows(text: str) -> list[str]:
    """Labels of the gallery's rows."""
    return re.findall(r'<article class="query-row" aria-label="Query (.*?):', text)


def test_page_builds_itself(url: str, tmp_path: Path) -> None:
    text = dom(tmp_path, url)
    assert len(rows(text)) == 3
    assert "3 of 3 queries match" in text
    assert text.count('class="mark"') == 15
    assert text.count("<polyline") == 2
    assert "[object" not in text
    assert re.findall(r'<video[^>]* src="blob:', text)
    assert "cannot play" not in text


def test_class_names_stay_text(url: str, tmp_path: Path) -> None:
    text = dom(tmp_path, url)
    assert "<title>run · sce-video</title>" in text
    assert "&lt;/script&gt;&lt;script&gt;document.title='owned'" in text


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
)
def test_address_filters(url: str, tmp_path: Path, fragment: str, expected: int) -> None:
    text = dom(tmp_path, url + fragment)
    assert len(rows(text)) == expected
    assert f"{expected} of 3 queries match" in text


def inside(folder: Path, url: str, script: str) -> str:
    """What ``script`` returns, run around the report (``page``) in a frame 360 px wide."""
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe src="{url}" width="360" height="2000"></iframe><script>'
        "onload = async () => { const page = frames[0].document;"
        f" document.title = await (async () => {{ {script} }})(); }};</script>"
    )
    flags = ("--allow-file-access-from-files", "--dump-dom")
    text = browse(folder / "profile", *flags, frame.as_uri())
    found = re.search(r"<title>(.*?)</title>", text)
    assert found is not None
    return found[1]


def test_page_fits_a_phone(url: str, tmp_path: Path) -> None:
    assert int(inside(tmp_path, url, "return page.documentElement.scrollWidth;")) <= 360


def test_clips_play_when_asked(url: str, tmp_path: Path) -> None:
    script = """
      const wait = () => new Promise((done) => setTimeout(done, 300));
      page.getElementById("gallery").scrollIntoView();
      await wait();
      const playing = () => [...page.querySelectorAll("video")].filter((v) => !v.paused).length;
      const counts = [playing()];
      const [first] = page.querySelectorAll("button.player");
      const all = page.querySelector(".switch");
      for (const button of [first, first, all, all]) {
        button.click();
        await wait();
        counts.push(playing());
      }
      return counts.join(" ");"""
    rest, one, none, several, silent = map(int, inside(tmp_path, url, script).split())
    assert (rest, one, none, silent) == (0, 1, 0, 0)
    assert several > 1


def test_filters_follow_the_controls_and_the_address(url: str, tmp_path: Path) -> None:
    script = """
      const bar = page.querySelector(".filters");
      bar.elements.q.value = "v3.mp4";
      bar.elements.q.dispatchEvent(new Event("input", { bubbles: true }));
      const found = page.querySelectorAll(".query-row").length;
      return found + frames[0].location.hash;"""
    assert inside(tmp_path, url, script) == "1#q=v3.mp4"


def test_curve_tells_its_values(url: str, tmp_path: Path) -> None:
    script = """
      const loss = page.querySelector(".chart");
      const svg = loss.querySelector("svg");
      const x = svg.getBoundingClientRect().left + 46;
      svg.dispatchEvent(new frames[0].PointerEvent("pointermove", { clientX: x }));
      const pointed = loss.querySelector("figcaption").innerText;
      svg.dispatchEvent(new frames[0].KeyboardEvent("keydown", { key: "ArrowRight" }));
      return (pointed + " " + loss.querySelector("figcaption").innerText).replace(/\\s+/g, " ");"""
    assert inside(tmp_path, url, script) == "Loss 5 step 1 Loss 2.5 step 2"


def test_clips_are_visible(url: str, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    browse(tmp_path, "--window-size=1280,1800", f"--screenshot={picture}", url)
    pixels = np.asarray(Image.open(picture).convert("RGB"), dtype=np.int64)
    assert pixels.shape == (1800, 1280, 3)
    # The squares that move in the videos are of a light saturated colour that the page never has.
    spread = pixels.max(2) - pixels.min(2)
    assert ((spread > 30) & (pixels.min(2) > 150)).sum() > 500
