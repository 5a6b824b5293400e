"""Decoding beside other libraries: the rows are there and their ratios are theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.benchmarks.decode import main
from tests.benchmarks.peers import PEERS
from tests.conftest import REPOSITORY
from tests.ffmpeg_libraries import link_libraries

pytestmark = pytest.mark.slow

PLACES = ("copy, grid 1", "layered, grid 1", "layered, grid 8")
OPTIONS = ("--frames", "4", "--seconds", "1.28", "--rounds", "1", "--json")


@pytest.fixture(scope="module")
def decoded(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the benchmark prints in a process that finds FFmpeg's libraries; ``svg`` is added."""
    libraries = link_libraries(tmp_path_factory.mktemp("libraries"))
    if libraries is None:
        pytest.skip("this build of PyAV brings no libraries")
    plot = libraries.parent / "chart.svg"
    command = [sys.executable, "-m", "tests.benchmarks.decode", *OPTIONS, "--plot", str(plot)]
    made = subprocess.run(
        [*command, "--videos", str(videos)],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )
    result: dict[str, Any] = json.loads(made.stdout)
    assert result["command"].startswith("python -m tests.benchmarks.decode --frames 4")
    return {**result, "svg": plot.read_text()}


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
    arguments = [*OPTIONS, "--videos", str(videos), "--count", "1"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert "decord get_batch" not in [row["name"] for row in result["rows"]]
    assert "decord" in result["missing"]["decord get_batch"]


def test_a_shard_set_gives_the_rows_of_its_kind(
    layered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--shards", str(layered), "--rounds", "1", "--count", "1"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = {row["name"] for row in result["rows"]}
    assert {"ours, layered, grid 1", "ours, layered, grid 8", "PyAV, layered, grid 8"} <= names
    assert not [name for name in names if "copy" in name or "pytorchvideo" in name]
    assert main(arguments) == 0
    assert "ours, layered, grid 8" in capsys.readouterr().out


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--videos", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert main(["--shards", str(tmp_path / "none")]) == 2
    assert main(["--shards", "x", "--videos", "y"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    # Said before anything is measured.
    assert main(["--plot", str(tmp_path / "none" / "chart.svg")]) == 2
    assert "--plot: no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--rounds", "0"])
    assert caught.value.code == 2
