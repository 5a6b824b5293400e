"""The converter beside bare PyAV: the rows are there and their ratios are theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.shard import main
from tests.benchmarks.videos import make_videos

pytestmark = pytest.mark.slow


def test_rows_beside_bare_loops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_videos(tmp_path, 2)
    arguments = ["--videos", str(tmp_path), "--rounds", "2", "--repeat", "4", "--json"]
    arguments += ["--workers", "1"]
    assert main(arguments) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 6
    copy, bare = rows["copy, one worker's part"], rows["decode, bare PyAV"]
    assert copy["ratio"] == pytest.approx(bare["cpu_ms"] / copy["cpu_ms"])
    layered, bare = rows["layered fast, one worker's part"], rows["layered fast, bare PyAV"]
    assert layered["ratio"] == pytest.approx(bare["cpu_ms"] / layered["cpu_ms"])
    whole = rows["copy, 1 workers"]
    assert whole["videos"] == 8
    assert whole["wall_rate"] > 0
    assert all(mib > 50 for mib in whole["memory"])


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--videos", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--rounds", "everything"])
    assert caught.value.code == 2
