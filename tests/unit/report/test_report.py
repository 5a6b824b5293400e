"""The page as a file: what goes in, what stays out, and what is said of missing pieces."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sce_video.errors import UsageError, VerificationError
from sce_video.report import write_report
from sce_video.report.gallery import gallery
from sce_video.report.inputs import read_run
from sce_video.stream.decode import decode_frames
from tests.report_run import EVIL, QUOTED, make_run, write_metrics


class Page(HTMLParser):
    """Elements of a page with their attributes, and the text of its script elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = (dict(attrs).get("id") or "code") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data

    def document(self) -> Any:
        """What the page shows."""
        return json.loads(self.scripts["data"])

    def clips(self) -> dict[str, str]:
        """Its videos, in base64."""
        found: dict[str, str] = json.loads(self.scripts["clips"])
        return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("report"))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A run of its own for a test; the shards are shared."""
    return Path(shutil.copytree(finished, tmp_path / "run <b>&"))


def page(run: Path) -> Page:
    return Page(write_report(run).read_text())


def test_data_cannot_become_markup(run: Path) -> None:
    (run / "config.yaml").write_text(f"run: '{EVIL}' # <!-- <script> {{{{data}}}}")
    written = page(run)
    assert [tag for tag, _ in written.elements].count("script") == 3
    assert not [tag for tag, _ in written.elements if tag in ("b", "img", "iframe")]
    assert EVIL in written.document()["config"]
    classes = {video["class"] for video in written.document()["gallery"]["videos"].values()}
    assert classes == {"Archery", EVIL, QUOTED}
    assert written.document()["title"] == "run <b>&"


def test_nothing_is_loaded_from_elsewhere(run: Path) -> None:
    (run / "samples").mkdir()
    Image.new("RGB", (60, 40)).save(run / "samples" / "views.png")
    written = page(run)
    for tag, attributes in written.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, name)
    assert written.document()["views"].startswith("data:image/jpeg;base64,")
    style = re.search(r"<style>(.*?)</style>", write_report(run).read_text(), re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import", style[1])
    policy = next(a["content"] for _, a in written.elements if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_same_run_same_bytes(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not list(run.glob("*.tmp"))


def test_each_video_is_embedded_once_and_plays(run: Path) -> None:
    written = page(run)
    shown = written.document()["gallery"]
    cells = [q["row"] for q in shown["queries"]]
    cells += [near["row"] for q in shown["queries"] for near in q["near"]]
    assert len(cells) > len(set(cells))
    assert set(written.clips()) == {str(row) for row in cells} == set(shown["videos"])
    clip = next(iter(written.clips().values()))
    assert len(decode_frames(base64.b64decode(clip), range(12))) == 12


def test_right_and_wrong(run: Path) -> None:
    shown = page(run).document()["gallery"]
    verdicts = {
        shown["videos"][str(q["row"])]["class"]: [near["right"] for near in q["near"]]
        for q in shown["queries"]
    }
    assert verdicts["Archery"] == [True, True, True, False, False]
    assert verdicts[EVIL] == [False] * 5


def test_budget_ends_the_gallery(run: Path) -> None:
    clips: dict[int, str] = {}
    assert gallery(read_run(run), clips)
    size = sum(map(len, clips.values()))
    few: dict[int, str] = {}
    shown = gallery(read_run(run), few, budget=size - 1)
    assert shown is not None
    assert sum(map(len, few.values())) < size
    assert len(shown["queries"]) == 2
    assert "2 of 3 queries" in shown["note"]


def test_video_that_does_not_decode_is_named(run: Path, finished: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(finished.parent / "shards", tmp_path / "shards"))
    tar = next(shards.glob("*.tar"))
    tar.write_bytes(bytes(tar.stat().st_size))
    point_to(run, shards)
    shown = page(run).document()["gallery"]
    assert all("error" in video and video["name"] for video in shown["videos"].values())
    assert f"{len(shown['videos'])} videos could not be decoded" in shown["note"]


def test_shards_that_are_gone_are_named(run: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "set"
    point_to(run, gone)
    document = page(run).document()
    assert str(gone) in document["gallery"]["problem"]
    assert document["retrieval"]["figures"][0] == ["R@1", "33.3 %"]


def test_shards_beside_a_moved_run_are_found(run: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent / "shards", run / "shards")
    point_to(run, tmp_path / "gone" / "shards")
    assert len(page(run).document()["gallery"]["queries"]) == 3


def test_other_shards_are_not_shown(run: Path) -> None:
    path = run / "retrieval" / "retrieval.json"
    path.write_text(re.sub(r'"manifest_sha256": "\w+"', '"manifest_sha256": "0"', path.read_text()))
    assert "other shards" in page(run).document()["gallery"]["problem"]


def test_metrics_alone_are_enough(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    for name in ("status.json", "config.yaml"):
        (tmp_path / name).unlink()
    document = page(tmp_path).document()
    absent = ("gallery", "retrieval", "knn", "headline", "views", "config", "state")
    assert all(document[name] is None for name in absent)
    assert document["curves"]["loss"]["points"][0] == [1, 5.0, 5.0, 5.0]


def test_retrieval_alone_is_enough(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    document = page(run).document()
    assert document["curves"] is None
    assert len(document["gallery"]["queries"]) == 3


def test_neither_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no metrics\.jsonl, no retrieval/retrieval\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize("name", ["metrics.jsonl", "status.json"])
def test_damaged_file_is_named(run: Path, name: str) -> None:
    (run / name).write_text("{")
    with pytest.raises(VerificationError, match=f"{name}: damaged"):
        write_report(run)


def test_large_picture_is_reduced(run: Path) -> None:
    (run / "samples").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (900, 3600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "samples" / "views.png")
    picture = page(run).document()["views"]
    with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as image:
        assert image.size == (2000, 500)


def test_damaged_picture_is_named(run: Path) -> None:
    (run / "samples").mkdir()
    (run / "samples" / "views.png").write_bytes(b"\x89PNG")
    with pytest.raises(VerificationError, match=r"views\.png: damaged"):
        write_report(run)


def point_to(run: Path, shards: Path) -> None:
    """Let the run's result name other shards."""
    path = run / "retrieval" / "retrieval.json"
    summary = json.loads(path.read_text())
    summary["protocol"]["shards"] = str(shards)
    path.write_text(json.dumps(summary))
