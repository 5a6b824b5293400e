"""The page as a file: what goes in, what stays out, and what is said of missing pieces."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sce_video.cli import main
from sce_video.errors import UsageError
from sce_video.evals.classification import write_spread
from sce_video.lock import LOCK_NAME, Lock
from sce_video.report import gallery, write_report
from sce_video.report.gallery import galleries
from sce_video.report.inputs import read_run
from sce_video.stream import watch
from sce_video.video.decode import decode_frames
from tests.report_run import EVIL, QUOTED, make_run, write_metrics, write_results
from tests.servers import serving


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

    def run(self) -> Any:
        """What it shows of its first run."""
        return self.document()["runs"][0]

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
    return Page(write_report([run]).read_text())


def test_data_cannot_become_markup(run: Path) -> None:
    (run / "config.yaml").write_text(f"run: '{EVIL}' # <!-- <script> {{{{data}}}}")
    written = page(run)
    assert [tag for tag, _ in written.elements].count("script") == 3
    assert not [tag for tag, _ in written.elements if tag in ("b", "img", "iframe")]
    assert EVIL in written.run()["config"]
    classes = {video["class"] for video in written.document()["videos"].values()}
    assert classes == {"Archery", EVIL, QUOTED}
    assert written.document()["title"] == written.run()["name"] == "run <b>&"


def test_nothing_is_loaded_from_elsewhere(run: Path) -> None:
    (run / "samples").mkdir()
    Image.new("RGB", (60, 40)).save(run / "samples" / "views.png")
    written = page(run)
    for tag, attributes in written.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, name)
    assert written.run()["views"].startswith("data:image/jpeg;base64,")
    style = re.search(r"<style>(.*?)</style>", write_report([run]).read_text(), re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import", style[1])
    policy = next(a["content"] for _, a in written.elements if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_same_run_same_bytes(run: Path) -> None:
    first = write_report([run]).read_bytes()
    assert write_report([run]).read_bytes() == first
    assert not list(run.glob("*.tmp"))


def test_each_video_is_embedded_once_and_plays(run: Path) -> None:
    written = page(run)
    queries = written.run()["gallery"]["queries"]
    cells = [q["video"] for q in queries]
    cells += [near["video"] for q in queries for near in q["near"]]
    assert len(cells) > len(set(cells))
    assert set(written.clips()) == set(cells) == set(written.document()["videos"])
    clip = next(iter(written.clips().values()))
    assert len(decode_frames(base64.b64decode(clip), range(12))) == 12


def test_right_and_wrong(run: Path) -> None:
    written = page(run)
    videos = written.document()["videos"]
    verdicts = {
        videos[q["video"]]["class"]: [near["right"] for near in q["near"]]
        for q in written.run()["gallery"]["queries"]
    }
    assert verdicts["Archery"] == [True, True, True, False, False]
    assert verdicts[EVIL] == [False] * 5


def test_limit_leaves_clips_out_and_no_query(run: Path) -> None:
    clips: dict[str, str] = {}
    galleries([read_run(run)], clips)
    few: dict[str, str] = {}
    limit = sum(map(len, clips.values())) // 2
    [shown], videos = galleries([read_run(run)], few, limit)
    assert shown is not None
    assert 0 < sum(map(len, few.values())) <= limit
    assert set(videos) == set(clips)
    assert len(shown["queries"]) == 3
    # Queries and their nearest come before all second ones.
    first = {q["video"] for q in shown["queries"]} | {
        q["near"][0]["video"] for q in shown["queries"]
    }
    assert set(list(few)[: len(first)]) <= first
    left = len(clips) - len(few)
    assert shown["note"].startswith(f"{left} of {len(clips)} videos are named without their clip")


def test_video_that_does_not_decode_is_named(run: Path, finished: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(finished.parent / "shards", tmp_path / "shards"))
    tar = next(shards.glob("*.tar"))
    tar.write_bytes(bytes(tar.stat().st_size))
    point_to(run, shards)
    written = page(run)
    videos = written.document()["videos"]
    assert all("error" in video and video["name"] for video in videos.values())
    assert f"{len(videos)} videos could not be decoded" in written.run()["gallery"]["note"]


def test_a_video_that_takes_too_long_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> bytes:
        time.sleep(1000)
        return b""

    monkeypatch.setattr(watch, "SECONDS", 0.02)
    monkeypatch.setattr(gallery, "thumbnail", endless)
    _, videos = galleries([read_run(run)], {})
    assert {video["error"] for video in videos.values()} == {"took longer than 0.02 s"}


def test_shards_that_are_gone_are_named(run: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "set"
    point_to(run, gone)
    shown = page(run).run()
    assert str(gone) in shown["gallery"]["problem"]
    assert shown["results"][0]["figures"][0] == ["R@1", "33.3 %"]


def test_shards_beside_a_moved_run_are_found(run: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent / "shards", run / "shards")
    point_to(run, tmp_path / "gone" / "shards")
    assert len(page(run).run()["gallery"]["queries"]) == 3


def test_other_shards_are_not_shown(run: Path) -> None:
    path = run / "retrieval" / "retrieval.json"
    path.write_text(re.sub(r'"manifest_sha256": "\w+"', '"manifest_sha256": "0"', path.read_text()))
    assert "other shards" in page(run).run()["gallery"]["problem"]


def test_an_address_out_of_a_run_is_not_asked(
    run: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCE_VIDEO_CACHE", str(tmp_path / "cache"))
    shards = finished.parent / "shards"
    with serving(shards) as server:
        secret = server.url.replace("//", "//me:secret@")
        point_to(run, secret)
        gallery = page(run).run()["gallery"]
        assert gallery["problem"] == (
            "The videos cannot be shown. retrieval/retrieval.json: names the set "
            f"{server.url}; what a file names is not asked: give it yourself by --shards URL, and "
            "make the page again"
        )
        assert not server.gets
        capsys.readouterr()
        assert main(["report", str(run), "--shards", server.url]) == 0
        shown = Page((run / "report.html").read_text())
        assert len(shown.run()["gallery"]["queries"]) == 3
        assert len(shown.clips()) == len(shown.document()["videos"])
        assert server.gets["manifest.json"] == 1
        monkeypatch.setattr("sce_video.report.gallery.open_set", None)  # nothing else is opened
        assert main(["report", str(run), "--shards", str(shards)]) == 0
        (run / "report.html").unlink()
        path = run / "retrieval" / "retrieval.json"
        path.write_text(
            re.sub(r'"manifest_sha256": "\w+"', '"manifest_sha256": []', path.read_text())
        )
        capsys.readouterr()
        assert main(["report", str(run), "--shards", str(shards)]) == 2
        assert capsys.readouterr().err == (
            f"sce-video: {shards}: no retrieval of these runs was on this set\n"
        )
        assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    "shards",
    [
        "pipe:cat /etc/passwd",
        "file:///etc",
        "http://[",
        "zip://a::http://b/c",
        "\0",
        "x" * 5000,
        "",
    ],
)
def test_odd_places_of_a_set_are_a_sentence(run: Path, shards: str) -> None:
    point_to(run, shards)
    assert page(run).run()["gallery"]["problem"].startswith("The videos cannot be shown")


@pytest.mark.parametrize(
    "change",
    [
        *({"query": -1}, {"query": 12}, {"query": 2**62}, {"query": True}, {"query": "0"}),
        *({"nearest": [-1]}, {"nearest": [12]}, {"nearest": []}, {"nearest": 3}, {"nearest": [[]]}),
        *(
            {"scores": [float("nan")] * 9},
            {"scores": []},
            {"scores": ["x"] * 9},
            {"scores": [{}] * 9},
        ),
    ],
)
def test_neighbours_out_of_range_are_not_shown_as_others(run: Path, change: dict[str, Any]) -> None:
    path = run / "retrieval" / "neighbours.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps([found[0] | change, *found[1:]]))
    shown = page(run)
    problem = shown.run()["gallery"]["problem"]
    assert problem.startswith("The videos cannot be shown: neighbours.json is damaged (")
    assert not shown.clips()


def test_a_full_disk_leaves_the_page_that_was_there(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = write_report([run]).read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["report", str(run)]) == 1
    path = run / "report.html"
    assert capsys.readouterr().err == f"sce-video: {path}: No space left on device\n"
    assert path.read_bytes() == before
    assert not [path for path in run.iterdir() if path.suffix in (".tmp", ".lock")]


def test_names_of_runs_are_text(run: Path) -> None:
    odd = run.with_name("a\x1b[2J\u202e" + os.fsdecode(b"\xff") + "\n<b>")
    run.rename(odd)
    written = page(odd)
    assert written.run()["name"] == r"a\x1b[2J\u202e\xff\n<b>"
    assert "b" not in [tag for tag, _ in written.elements]


def test_metrics_alone_are_enough(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    for name in ("status.json", "config.yaml"):
        (tmp_path / name).unlink()
    written = page(tmp_path)
    shown = written.run()
    assert not any(shown[name] for name in ("gallery", "results", "headline", "views", "config"))
    assert shown["subtitle"].startswith("how it ended is unknown")
    [line] = written.document()["curves"]["loss"]["lines"]
    assert line["points"][0] == [1, 5.0, 5.0, 5.0]


def test_retrieval_alone_is_enough(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    written = page(run)
    assert written.document()["curves"] is None
    assert len(written.run()["gallery"]["queries"]) == 3


def test_a_run_that_was_killed_is_told_from_one_that_runs(tmp_path: Path) -> None:
    said = {"state": "running", "step": 0, "heartbeat": "2026-02-03T04:05:06+00:00"}
    (tmp_path / "status.json").write_text(json.dumps(said))
    (tmp_path / "metrics.jsonl").touch()
    with Lock(tmp_path / LOCK_NAME):
        shown = page(tmp_path).run()
    assert shown["subtitle"].startswith("running when this page was written")
    assert shown["problems"] == []
    assert page(tmp_path).run()["subtitle"] == "killed, can be resumed · 3 February 2026, 04:05 UTC"


def test_folder_that_is_no_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}: not a run's folder" in error
    assert not list(tmp_path.iterdir())


def test_page_without_a_place_is_one_line_before_the_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sce_video.report.galleries", None)
    gone = tmp_path / "gone"
    for out, said in ((gone / "a.html", f"no folder {gone};"), (tmp_path, f"{tmp_path}: a folder")):
        assert main(["report", str(run), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert said in error
    assert not gone.exists()


def test_a_page_is_written_by_one_and_while_its_run_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run / "report.html"
    with Lock(run / "report.html.lock"):
        assert main(["report", str(run)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{page}: is being written by process {os.getpid()} on " in error
        assert main(["report", str(run), "--out", str(run / "other.html")]) == 0
    assert not page.exists()
    with Lock(run / LOCK_NAME):  # the training's
        assert main(["report", str(run)]) == 0
    assert page.exists()
    assert not list(run.glob("*lock*"))


def test_same_run_twice_is_an_error(run: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        write_report([run, run / ".." / run.name])


def test_half_a_line_of_metrics_is_left_out(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text(path.read_text()[:-20] + '\n[1]\n{"step": 21, "train/loss": 0.125}\n')
    written = page(run)
    [line] = written.document()["curves"]["loss"]["lines"]
    assert [point[0] for point in line["points"]] == [*range(1, 20), 21]
    [problem] = written.run()["problems"]
    assert problem.startswith("metrics.jsonl: 2 of 22 lines cannot be read")
    assert "line 20" in problem


DAMAGED = [
    "status.json",
    "results.json",
    "config.yaml",
    "run.log",
    "samples/views.png",
    "retrieval/retrieval.json",
    "retrieval/neighbours.json",
    "knn/knn.json",
    "test/test.json",
    "test/mean.json",
    "test/per_class.csv",
    "test/confusion.png",
]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_is_named_and_the_rest_is_shown(
    run: Path, finished: Path, tmp_path: Path, name: str
) -> None:
    if name != "retrieval/neighbours.json":
        point_to(run, tmp_path / "gone")  # no clips: faster
    write_results(run)
    whole = {result["title"] for result in page(run).run()["results"]}
    (run / name).parent.mkdir(exist_ok=True)
    for content in ('{"a', "[3]", '{"step": [], "per_class": 3, "rows": 1, "protocol": 4}', "\0a,"):
        (run / name).write_text(content)
        shown = page(run).run()
        told = " ".join(shown["problems"]) + str(shown["gallery"])
        # What is only shown as text, and keys of other versions, cannot be told from good ones.
        quiet = name in ("config.yaml", "run.log", "status.json") or content.startswith('{"s')
        assert name.rpartition("/")[2] in told or quiet, (content, told)
        assert len(whole - {result["title"] for result in shown["results"]}) <= 1
    assert Page(write_report([run, finished], tmp_path / "two.html").read_text()).document()


def test_mean_over_runs_is_shown(run: Path, tmp_path: Path) -> None:
    point_to(run, tmp_path / "gone")  # no clips: faster
    write_results(run)
    test = json.loads((run / "test" / "test.json").read_text())
    protocol = {"dataset": "ucf101", "split": "split1:test", "classifier": "runs/a"}
    results = [{**test, "top1": share, "protocol": protocol} for share in (0.25, 0.75)]
    write_spread(results, run / "test")
    found = page(run).run()["results"][-1]
    assert found["title"].startswith("Mean of 2 tests: ucf101")
    assert found["figures"][0] == ["Top-1", "50.0 ± 35.4 %"]


def test_log_tells_plan_environment_and_end(run: Path) -> None:
    stamp = "2026-01-02 03:04:05,678"
    (run / "run.log").write_text(
        f"{stamp} INFO rank 0: environment: torch 1\n{stamp} INFO rank 0: this run\n"
        f"model   old\n{stamp} INFO: bad sample\n"
        f"{stamp} INFO rank 0: environment: torch 2\n{stamp} INFO rank 0: this run\n"
        f"model   new\nsteps   3\n{stamp} ERROR rank 0: failed: nan\n"
    )
    (run / "status.json").write_text('{"state": "failed", "step": 2}')
    shown = page(run).run()
    assert shown["plan"] == ["model   new", "steps   3", "environment: torch 2"]
    assert shown["last"] == "ERROR rank 0: failed: nan"
    assert shown["state"] == "failed"


def test_several_runs_share_their_videos(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    write_metrics(other, steps=30)
    out = tmp_path / "both.html"
    written = Page(write_report([run, other], out).read_text())
    document = written.document()
    assert document["title"] == "run <b>& · other"
    first, second = document["runs"]
    assert first["gallery"] == second["gallery"]
    assert set(written.clips()) == set(Page(write_report([run]).read_text()).clips())
    lines = document["curves"]["loss"]["lines"]
    assert [(line["run"], len(line["points"])) for line in lines] == [(0, 20), (1, 30)]


def test_large_picture_is_reduced(run: Path) -> None:
    (run / "samples").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (900, 3600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "samples" / "views.png")
    picture = page(run).run()["views"]
    with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as image:
        assert image.size == (2000, 500)


def point_to(run: Path, shards: Path | str) -> None:
    """Let the run's result name other shards."""
    path = run / "retrieval" / "retrieval.json"
    summary = json.loads(path.read_text())
    summary["protocol"]["shards"] = str(shards)
    path.write_text(json.dumps(summary))
