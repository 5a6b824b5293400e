"""Decoding and loading beside other libraries: the rows are there and their ratios are theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sce_video.cli import main as cli
from sce_video.video.decode import decode_frames
from tests.benchmarks import main
from tests.benchmarks.loader import all_cpu_seconds, flow
from tests.benchmarks.peers import PEERS, all_numbers
from tests.benchmarks.timing import measure
from tests.benchmarks.videos import make_videos
from tests.conftest import REPOSITORY
from tests.ffmpeg_libraries import link_libraries

pytestmark = pytest.mark.slow

PLACES = ("copy, grid 1", "layered, grid 1", "layered, grid 8")
DECODE = ("bench", "decode", "--frames", "4", "--seconds", "1.28", "--rounds", "1", "--json")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 2, seconds=3)
    return folder


@pytest.fixture(scope="module")
def decoded(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``bench decode`` prints in a process that finds FFmpeg's libraries; ``svg`` is added."""
    libraries = link_libraries(tmp_path_factory.mktemp("libraries"))
    if libraries is None:
        pytest.skip("this build of PyAV brings no libraries")
    plot = libraries.parent / "chart.svg"
    made = subprocess.run(
        [sys.executable, "-m", "sce_video", *DECODE, "--videos", videos, "--plot", plot],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )
    return {**json.loads(made.stdout), "svg": plot.read_text()}


def test_all_rows_and_their_ratios(decoded: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in decoded["rows"]}
    for place in PLACES:
        assert {f"ours, {place}", f"ours, {place}, difference", f"bare libav, {place}"} <= set(rows)
    assert set(PEERS) | {"torchcodec, layered, grid 8", "PyAV, layered, grid 8"} <= set(rows)
    base = rows["pytorchvideo EncodedVideo"]["cpu_ms"]
    for row in rows.values():
        assert row["x_pytorchvideo"] == pytest.approx(base / row["cpu_ms"])
        assert row["clips_per_s"] == pytest.approx(2000 / row["cpu_ms"])
    targets = {target["name"]: target for target in decoded["targets"]}
    fast = targets["ours, layered, grid 8: times torchcodec, layered, grid 8"]
    torchcodec = rows["torchcodec, layered, grid 8"]["cpu_ms"]
    assert fast["value"] == pytest.approx(torchcodec / rows["ours, layered, grid 8"]["cpu_ms"])
    assert len(targets) == 4 + 3 + 3
    assert not decoded["missing"]
    assert not decoded["left_out"]
    assert decoded["videos"] == 2


def test_ours_feeds_little(decoded: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in decoded["rows"]}
    grid, free, copy = (rows[f"ours, {place}"] for place in reversed(PLACES))
    assert grid["packets"] < free["packets"] < copy["packets"]
    assert 8 >= grid["frames"] > 4
    assert rows["ours, layered, grid 8, difference"]["frames"] >= grid["frames"]
    for part in decoded["parts"]:
        shares = [part[name] for name in ("media", "idx", "sampler", "decode", "crop")]
        assert sum(shares) == pytest.approx(1)


@pytest.mark.soak
def test_ours_is_fast(decoded: dict[str, Any]) -> None:
    """Not in CI: one round on a busy machine says little."""
    rows = {row["name"]: row for row in decoded["rows"]}
    for place, least in zip(PLACES, (2, 6, 10), strict=True):
        assert rows[f"ours, {place}"]["x_pytorchvideo"] > least
        assert rows[f"ours, {place}"]["python"] < 0.3


def test_the_chart_shows_every_row_but_bare_ones(decoded: dict[str, Any]) -> None:
    root = ElementTree.fromstring(decoded["svg"])  # noqa: S314  (made here)
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text or "" for text in root.iter(f"{space}text")]
    shown = [row for row in decoded["rows"] if not row["name"].startswith("bare")]
    assert len(list(root.iter(f"{space}rect"))) == len(shown)
    assert {row["name"] for row in shown} <= set(texts)
    assert any(decoded["machine"]["cpu"] in text for text in texts)


def test_a_missing_library_is_named(
    videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)  # importing it fails
    arguments = ["decode", *DECODE[2:], "--videos", str(videos), "--count", "1"]
    assert main(arguments, "bench") == 0
    result = json.loads(capsys.readouterr().out)
    assert "decord get_batch" not in [row["name"] for row in result["rows"]]
    assert "decord" in result["missing"]["decord get_batch"]


def test_every_peer_gives_the_frames_that_ours_gives(videos: Path) -> None:
    data = (videos / "0000.mp4").read_bytes()
    clips = [np.arange(20, 51, 10), np.arange(55, 74, 6)]
    truth = np.stack(decode_frames(data, all_numbers(clips)))
    for name, peer in PEERS.items():
        if name.startswith("torchcodec"):
            continue  # needs a process of its own; tests of the backends compare it
        found = peer(data, clips, 25.0)
        if name.startswith("pytorchvideo"):
            views = [np.moveaxis(clip.numpy(), 0, -1) for clip in found]
            expected = [truth[np.searchsorted(all_numbers(clips), clip)] for clip in clips]
            assert all(np.array_equal(*pair) for pair in zip(views, expected, strict=True))
        else:
            difference = np.abs(np.asarray(found).astype(int) - truth)
            assert difference.mean() < 1, name


@pytest.fixture(scope="module")
def layered(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "layered"
    made = ["folder", "--root", str(videos), "--out", str(folder), "--unlabelled"]
    assert cli(["shard", *made, "--encode", "layered", "--workers", "1"]) == 0
    return folder


def test_a_shard_set_gives_the_rows_of_its_kind(
    layered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["decode", "--shards", str(layered), "--rounds", "1", "--count", "1"]
    assert main([*arguments, "--json"], "bench") == 0
    result = json.loads(capsys.readouterr().out)
    names = {row["name"] for row in result["rows"]}
    assert {"ours, layered, grid 1", "ours, layered, grid 8", "PyAV, layered, grid 8"} <= names
    assert not [name for name in names if "copy" in name or "pytorchvideo" in name]
    assert main(arguments, "bench") == 0
    assert "ours, layered, grid 8" in capsys.readouterr().out


def loaded(source: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Rows by name, once the shares of the rate in process are checked."""
    arguments = ["loader", *source, "--rounds", "1", "--span", "0.2", "--json"]
    arguments += ["--workers", "1", "--images", "8", "--frames", "4", "--seconds", "1.28"]
    assert main(arguments, "bench") == 0
    result = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in result["rows"]}
    shares = {target["name"]: target["value"] for target in result["targets"]}
    for name, row in rows.items():
        alone = rows.get(name.removesuffix("1 workers") + "in process")
        if name.endswith("1 workers") and alone is not None:
            assert row["of_in_process"] == shares.pop(name) > 0
            assert row["of_in_process"] == pytest.approx(row["per_cpu_s"] / alone["per_cpu_s"])
    assert not shares
    return rows


def test_loaders_of_a_shard_set(layered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = loaded(["--shards", str(layered)], capsys)
    ours = {f"ours, {place}, 1 workers" for place in ("layered, grid 1", "layered, grid 8")}
    assert ours | {"ours, images, 1 workers", "DataLoader + ImageFolder"} <= set(rows)
    assert "DataLoader + decord" not in rows


@pytest.mark.soak
def test_all_loaders(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = loaded(["--videos", str(videos)], capsys)
    assert {f"ours, {place}, 1 workers" for place in PLACES} <= set(rows)
    others = {"DataLoader + pytorchvideo", "DataLoader + decord", "webdataset + decord"}
    assert others <= set(rows)


def burn(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_the_cpu_time_of_live_children_counts() -> None:
    began = all_cpu_seconds()
    code = "from tests.benchmarks.test_bench_stream import burn; burn(0.5); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=REPOSITORY)

    def feed() -> Iterator[int]:
        while True:
            burn(0.05)
            yield 3

    try:
        while all_cpu_seconds() - began < 0.5:
            burn(0.001)
        rate, _ = flow(feed, 0.3, 1)  # type: ignore[arg-type]
        assert 20 < rate <= 61
    finally:
        child.communicate(b"\n", timeout=60)
    assert child.returncode == 0


def test_rows_take_turns_in_orders_that_change() -> None:
    ran: list[str] = []
    ways = {name: lambda number, name=name: partial(ran.append, name) for name in "abc"}
    spent = measure(ways, 4, 2)
    turns = ["".join(ran[at : at + 3]) for at in range(0, 24, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 2
    assert spent["a"].cpu.shape == (4, 2)


@pytest.mark.parametrize("what", ["decode", "loader"])
def test_mistakes(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["bench", what, "--videos", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert cli(["bench", what, "--shards", str(tmp_path / "none")]) == 2
    assert cli(["bench", what, "--shards", "x", "--videos", "y"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    if what == "decode":  # said before anything is measured
        assert cli(["bench", what, "--plot", str(tmp_path / "none" / "chart.svg")]) == 2
        assert "--plot: no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli(["bench", what, "--rounds", "0"])
    assert caught.value.code == 2
