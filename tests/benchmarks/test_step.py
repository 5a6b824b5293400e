"""What a training step costs beside its parts, at the smallest sizes."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.step import main

pytestmark = pytest.mark.slow


def test_a_step_beside_its_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "DS_ACCELERATOR", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "0")  # what the run sets is taken back
        monkeypatch.delenv(name)
    sizes = ["--trunk", "resnet18_small", "--frames", "1", "--size", "32", "--videos", "2"]
    sizes += ["--width", "8"]
    assert main([*sizes, "--rounds", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in result["rows"]}
    parts = [row for name, row in rows.items() if name.startswith("  ")]
    assert len(parts) == 8
    assert min(row["cpu_ms"] for row in parts) >= 0  # a clock may tick seldom
    assert max(row["cpu_ms"] for row in parts) > 0
    assert rows["bare parts"]["share"] == 1
    [overhead] = [t for t in result["targets"] if t["name"].startswith("overhead")]
    assert overhead["value"] == pytest.approx(rows["training step"]["share"] - 1)
    assert (overhead["most"], overhead["met"]) == (0.05, overhead["value"] <= 0.05)
    assert 0 <= result["data_wait"] < 1
    assert ("bare parts, bf16" in rows) != ("bare parts, bf16" in result["missing"])


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--trunk", "resnet19"])
    assert caught.value.code == 2
    assert "resnet19" in capsys.readouterr().err
