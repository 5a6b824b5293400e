"""The converter beside bare PyAV. The bounds leave room for a busy machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sce_video.cli import main as cli
from tests.benchmarks import main
from tests.benchmarks.videos import make_videos

pytestmark = pytest.mark.slow


def test_little_is_spent_besides_decoding_and_encoding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_videos(tmp_path, 2)
    arguments = ["shard", "--videos", str(tmp_path), "--rounds", "2", "--repeat", "4", "--json"]
    arguments += ["--workers", "1"]
    assert main(arguments, "bench") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 6
    copy, bare = rows["copy, one worker's part"], rows["decode, bare PyAV"]
    assert copy["ratio"] == pytest.approx(bare["cpu_ms"] / copy["cpu_ms"])
    assert copy["ratio"] > 0.75
    assert rows["layered fast, one worker's part"]["ratio"] > 0.8
    whole = rows["copy, 1 workers"]
    assert whole["videos"] == 8
    assert whole["wall_rate"] > 0
    assert all(mib > 50 for mib in whole["memory"])


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["bench", "shard", "--videos", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli(["bench", "everything"])
    assert caught.value.code == 2
