"""The benchmark of large sets runs, on a small one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sce_video.shardset.index import open_shards
from tests.benchmarks.load import main, make_large_set, repeat_index


def test_the_sets_are_what_they_say(tmp_path: Path) -> None:
    make_large_set(tmp_path, 30, 7)
    repeat_index(tmp_path, 3)
    made, repeated = open_shards(tmp_path / "set"), open_shards(tmp_path / "index")
    assert (len(made), len(made.manifest.classes)) == (30, 7)
    assert len(repeated) == 90
    assert repeated.strings("class") == 3 * made.strings("class")
    assert len(set(repeated.strings("key"))) == 90


@pytest.mark.slow
def test_all_rows_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--samples", "1100", "--classes", "10", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 6
    assert all(row["wall"] > 0 < row["cpu"] and row["memory"] > 10 for row in rows)
