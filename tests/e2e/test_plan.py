"""The plan as a run prints it, and a run on the schedules that are not SCE's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.runs import TRAIN, make_shards, run, write_config


@pytest.mark.slow
def test_the_header_is_the_dry_run_s_and_the_schedules_are_kept(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", make_shards(tmp_path))
    command = [sys.executable, TRAIN, "--config", str(config), f"run.dir={tmp_path / 'run'}"]
    command += ["optim.decay_epochs=[1, 2]", "optim.lr_scaling=none", "run.max_steps=5"]
    command += ["model.momentum_schedule=constant", "model.momentum=0.9"]
    planned = run(*command, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert not (tmp_path / "run").exists()
    assert "24 videos\n" in planned.stdout
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert planned.stdout in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    # Two steps an epoch, of which the first is warm-up; a tenth after one and after two epochs.
    expected = [0, 0.05, 0.005, 0.005, 0.0005]
    assert [row["train/lr"] for row in rows] == pytest.approx(expected)
    assert {row["train/momentum"] for row in rows} == {0.9}
