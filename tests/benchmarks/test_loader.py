"""Loading beside other libraries: the rows are there and their ratios are theirs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks import loader
from tests.benchmarks.loader import all_cpu_seconds, flow, main
from tests.benchmarks.ways import PLACES
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


def loaded(source: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Rows by name, once the shares of the rate in process are checked."""
    arguments = [*source, "--rounds", "1", "--span", "0.2", "--json"]
    arguments += ["--workers", "1", "--images", "8", "--frames", "4", "--seconds", "1.28"]
    assert main(arguments) == 0
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
    assert {f"ours, {kind}, grid {grid}, 1 workers" for kind, grid in PLACES} <= set(rows)
    others = {"DataLoader + pytorchvideo", "DataLoader + decord", "webdataset + decord"}
    assert others <= set(rows)


def burn(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_the_cpu_time_of_live_children_counts() -> None:
    def others() -> float:
        return all_cpu_seconds() - time.process_time()

    began = others()
    code = "from tests.benchmarks.test_loader import burn; burn(0.5); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=REPOSITORY)
    try:
        while others() - began < 0.4:  # a clock may tick seldom
            assert child.poll() is None
            time.sleep(0.01)
    finally:
        child.communicate(b"\n", timeout=60)
    assert child.returncode == 0


def test_rates_are_of_cpu_and_of_wall_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = wall = 0.0

    def feed() -> Generator[int]:
        nonlocal cpu, wall
        while True:
            cpu, wall = cpu + 0.25, wall + 0.5
            yield 3

    monkeypatch.setattr(loader, "all_cpu_seconds", lambda: cpu)
    monkeypatch.setattr(loader, "time", SimpleNamespace(perf_counter=lambda: wall))
    assert flow(feed, 4.0, 2) == (12.0, 6.0)


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--videos", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert main(["--shards", str(tmp_path / "none")]) == 2
    assert main(["--shards", "x", "--videos", "y"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--rounds", "0"])
    assert caught.value.code == 2
