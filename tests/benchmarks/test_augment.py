"""Augmentation beside torchvision v2: the rows are there and their ratios are theirs."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.benchmarks.augment import main

pytestmark = pytest.mark.slow


def test_rows_beside_torchvision_clip_by_clip(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--sizes", "64", "--rounds", "1", "--batch", "4", "--json"]
    assert main(arguments) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    bare = [row["cpu_ms"] for name, row in rows.items() if name.startswith("torchvision")]
    assert len(bare) == 2
    assert all(row["clips"] == 8 and row["size"] == 64 for row in rows.values())
    for row in rows.values():
        assert row["ratio"] == pytest.approx(min(bare) / row["cpu_ms"])
    assert ("compiled" in rows) == (shutil.which("g++") is not None)
    if "compiled" in rows:
        assert rows["compiled"]["warm_up"] > 0


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--rounds", "0"])
    assert caught.value.code == 2
    assert "no whole number of 1 or more" in capsys.readouterr().err
